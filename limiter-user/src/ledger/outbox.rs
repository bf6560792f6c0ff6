//! What is still to be told.

use std::collections::BTreeSet;

use rusqlite::params;

use super::{Ledger, LedgerError};
use crate::{
    notice::{Lane, Planned},
    offence::{Moment, Span},
};

/// A delivery that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its number.
    pub id: i64,
    /// When it was written down: the wall clock.
    pub created: Moment,
    /// How often it was tried.
    pub attempts: u32,
    /// What, and where to.
    pub planned: Planned,
}

impl Ledger {
    /// Deliveries of `lane` due at `wall`, the oldest first, those about `withheld` left out. One
    /// that is due further away than `furthest` is due, too: the clock was set back.
    ///
    /// # Errors
    ///
    /// As all methods here: the database fails.
    pub fn due(
        &self,
        lane: Lane,
        wall: Moment,
        furthest: Span,
        withheld: &BTreeSet<String>,
        most: usize,
    ) -> Result<Vec<Due>, LedgerError> {
        let rows = self.rows(
            "SELECT id, created, attempts, channel, facts FROM deliveries
             WHERE state = 'waiting' AND lane = ?1 AND (next <= ?2 OR next > ?3)
             AND tenant NOT IN (SELECT value FROM json_each(?4))
             ORDER BY id LIMIT ?5",
            params![
                lane.as_str(),
                wall.millis(),
                wall.plus(furthest).millis(),
                serde_json::json!(withheld).to_string(),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get::<_, i64>(1)?,
                    row.get(2)?,
                    row.get::<_, String>(3)?,
                    row.get::<_, String>(4)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(id, created, attempts, channel, facts)| {
                let what = || format!("a delivery, number {id}");
                Ok(Due {
                    id,
                    created: Moment::of_millis(created),
                    attempts,
                    planned: Planned {
                        channel: self.parsed(&channel, what)?,
                        facts: self.parsed(&facts, what)?,
                    },
                })
            })
            .collect()
    }

    /// These were delivered.
    ///
    /// # Errors
    ///
    /// The database fails; then they are delivered again.
    pub fn delivered(&self, ids: &[i64], said: &str) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET state = 'done', attempts = attempts + 1, said = ?2
             WHERE id IN (SELECT value FROM json_each(?1))",
            params![serde_json::json!(ids).to_string(), said],
        )
    }

    /// This one failed and is tried again at `next`.
    ///
    /// # Errors
    ///
    /// The database fails; then it is tried again at once.
    pub fn failed_delivery(&self, id: i64, next: Moment, said: &str) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET attempts = attempts + 1, next = ?2, said = ?3 WHERE id = ?1",
            params![id, next.millis(), said],
        )
    }

    /// These wait until `until`.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn postponed(&self, ids: &[i64], until: Moment) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET next = ?2 WHERE id IN (SELECT value FROM json_each(?1))",
            params![serde_json::json!(ids).to_string(), until.millis()],
        )
    }

    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), LedgerError> {
        let change = |db: &rusqlite::Connection| db.prepare_cached(sql)?.execute(values);
        change(&self.db).map(drop).map_err(self.failed("write to"))
    }
}
