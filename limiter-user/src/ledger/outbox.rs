//! What is still to be told.

use std::collections::BTreeSet;

use rusqlite::params;
use serde_json::Value;

use super::{Ledger, LedgerError, page::millis};
use crate::offence::Moment;

/// A delivery that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its number.
    pub id: i64,
    /// The number of its notice.
    pub notice: i64,
    /// When the notice came to be: the wall clock, milliseconds since 1970.
    pub wall: i64,
    /// About whom it is.
    pub tenant: String,
    /// All of it: an [`offence::Notice`](crate::offence::Notice).
    pub body: Value,
    /// By which way.
    pub channel: Value,
    /// How often it was tried.
    pub attempts: u32,
}

impl Ledger {
    /// Deliveries due at `wall`, the longest due first, those about `withheld` left out.
    ///
    /// # Errors
    ///
    /// As all methods here: the database fails.
    pub fn due(
        &self,
        wall: Moment,
        withheld: &BTreeSet<String>,
        most: usize,
    ) -> Result<Vec<Due>, LedgerError> {
        self.rows(
            "SELECT deliveries.id, notice, wall, channel, attempts, notices.tenant, body
             FROM deliveries JOIN notices ON notices.id = notice
             WHERE state = 'waiting' AND next <= ?1
             AND notices.tenant NOT IN (SELECT value FROM json_each(?2))
             ORDER BY next, deliveries.id LIMIT ?3",
            params![
                millis(wall),
                serde_json::json!(withheld).to_string(),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
            |row| {
                let channel: String = row.get(3)?;
                let body: String = row.get(6)?;
                Ok(Due {
                    id: row.get(0)?,
                    notice: row.get(1)?,
                    wall: row.get(2)?,
                    channel: serde_json::from_str(&channel).unwrap_or(Value::String(channel)),
                    attempts: row.get(4)?,
                    tenant: row.get(5)?,
                    body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
                })
            },
        )
    }

    /// A delivery came to its end: done, or given up.
    ///
    /// # Errors
    ///
    /// The database fails; then it is tried again.
    pub fn delivered(&self, id: i64, done: bool, said: &str) -> Result<(), LedgerError> {
        let state = if done { "done" } else { "given_up" };
        self.change(
            "UPDATE deliveries SET state = ?2, attempts = attempts + 1, said = ?3 WHERE id = ?1",
            params![id, state, said],
        )
    }

    /// A delivery failed and is tried again at `next`.
    ///
    /// # Errors
    ///
    /// The database fails; then it is tried again at once.
    pub fn postponed(&self, id: i64, next: Moment, said: &str) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET attempts = attempts + 1, next = ?2, said = ?3 WHERE id = ?1",
            params![id, millis(next), said],
        )
    }

    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), LedgerError> {
        let change = |db: &rusqlite::Connection| db.prepare_cached(sql)?.execute(values);
        change(&self.db).map(drop).map_err(self.failed("write to"))
    }
}
