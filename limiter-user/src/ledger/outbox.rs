//! What is still to be told.

use std::collections::BTreeSet;

use rusqlite::params;

use super::{Ledger, LedgerError};
use crate::{
    notice::{Backlog, Channel, Lane, Planned, Stuck},
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
    /// that is due further away than `furthest` is due, too: the clock was set back. Where order
    /// counts, only the oldest that waits of each tenant: the others wait behind it.
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
             AND (?6 OR id IN (SELECT MIN(id) FROM deliveries
                               WHERE state = 'waiting' AND lane = ?1 GROUP BY tenant))
             ORDER BY id LIMIT ?5",
            params![
                lane.as_str(),
                wall.millis(),
                wall.plus(furthest).millis(),
                serde_json::json!(withheld).to_string(),
                i64::try_from(most).unwrap_or(i64::MAX),
                !lane.in_order()
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

    /// What waits of `lane`.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn backlog(&self, lane: Lane) -> Result<Backlog, LedgerError> {
        let count = |value: Option<i64>| u64::try_from(value.unwrap_or_default()).unwrap_or(0);
        let mut counted = self.rows(
            "SELECT COUNT(*), SUM(attempts > 0), SUM(attempts = 0 AND said IS NOT NULL)
             FROM deliveries WHERE state = 'waiting' AND lane = ?1",
            [lane.as_str()],
            |row| {
                Ok(Backlog {
                    waiting: count(row.get(0)?),
                    failing: count(row.get(1)?),
                    postponed: count(row.get(2)?),
                    ..Backlog::default()
                })
            },
        )?;
        let mut backlog = counted.pop().unwrap_or_default();
        let first = |failed: bool| {
            let mut found = self.rows(
                "SELECT said, next FROM deliveries
                 WHERE state = 'waiting' AND lane = ?1 AND said IS NOT NULL AND (attempts > 0) = ?2
                 ORDER BY next LIMIT 1",
                params![lane.as_str(), failed],
                |row| {
                    Ok(Stuck {
                        why: row.get(0)?,
                        until: Moment::of_millis(row.get(1)?).timestamp(),
                    })
                },
            )?;
            Ok::<_, LedgerError>(found.pop())
        };
        if backlog.failing > 0 {
            backlog.failed = first(true)?;
        }
        if backlog.postponed > 0 {
            backlog.quota = first(false)?;
        }
        Ok(backlog)
    }

    /// Mails that went out since `since`: the channel, about whom, and when. Several notices that
    /// went out as one are one.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn mailed(&self, since: Moment) -> Result<Vec<(Channel, String, Moment)>, LedgerError> {
        let rows = self.rows(
            "SELECT DISTINCT channel, tenant, next FROM deliveries
             WHERE state = 'done' AND lane = 'mail' AND next > ?1 ORDER BY next",
            [since.millis()],
            |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)),
        )?;
        rows.into_iter()
            .map(|(channel, tenant, at)| {
                let channel = self.parsed(&channel, || "the channel of a mail".to_owned())?;
                Ok((channel, tenant, Moment::of_millis(at)))
            })
            .collect()
    }

    /// These were delivered at `wall`.
    ///
    /// # Errors
    ///
    /// The database fails; then they are delivered again.
    pub fn delivered(&self, ids: &[i64], wall: Moment, said: &str) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET state = 'done', attempts = attempts + 1, said = ?2, next = ?3
             WHERE id IN (SELECT value FROM json_each(?1))",
            params![serde_json::json!(ids).to_string(), said, wall.millis()],
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

    /// These wait until `until`, because of `why`.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn postponed(&self, ids: &[i64], until: Moment, why: &str) -> Result<(), LedgerError> {
        self.change(
            "UPDATE deliveries SET next = ?2, said = CASE attempts WHEN 0 THEN ?3 ELSE said END
             WHERE id IN (SELECT value FROM json_each(?1))",
            params![serde_json::json!(ids).to_string(), until.millis(), why],
        )
    }

    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), LedgerError> {
        let change = |db: &rusqlite::Connection| db.prepare_cached(sql)?.execute(values);
        change(&self.db).map(drop).map_err(self.failed("write to"))
    }
}
