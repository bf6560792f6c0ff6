//! Reports of abuse, as whoever handles them asks for them.
//!
//! The column `report` holds what the desk wrote: beside the report itself, `about` (what tells the
//! mail complained about from the tenant's others) and `reporter` (who is counted as one).

use rusqlite::params;
use serde_json::Value;

use super::{ComplaintRow, Ledger, LedgerError, Page, read::complaint};

/// How many wait for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// The latest: its id, why, and when it was received by the wall clock, milliseconds since 1970.
    pub latest: Option<(String, String, i64)>,
}

impl Ledger {
    /// The latest reports of abuse, newest first, at most `most`: in one of `states` (empty: in any),
    /// of one tenant or of all. Without the reports themselves.
    ///
    /// # Errors
    ///
    /// As all methods here: the database fails.
    pub fn complaint_list(
        &self,
        states: &[&str],
        tenant: Option<&str>,
        most: usize,
    ) -> Result<Vec<ComplaintRow>, LedgerError> {
        self.rows(
            "SELECT id, received, tenant, state, why, report, x'' FROM complaints
             WHERE (?1 = '[]' OR state IN (SELECT value FROM json_each(?1)))
             AND (?2 IS NULL OR tenant = ?2) ORDER BY received DESC, id LIMIT ?3",
            params![
                serde_json::json!(states).to_string(),
                tenant,
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
            complaint,
        )
    }

    /// How many reports of abuse wait for a person.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaints_waiting(&self) -> Result<Waiting, LedgerError> {
        let count = self.rows(
            "SELECT count(*) FROM complaints WHERE state IN ('ambiguous', 'unknown')",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        let latest = self.rows(
            "SELECT id, why, received FROM complaints WHERE state IN ('ambiguous', 'unknown')
             ORDER BY received DESC, id LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        Ok(Waiting {
            count: count.first().map_or(0, |count| count.unsigned_abs()),
            latest: latest.into_iter().next(),
        })
    }

    /// The ids that begin with `prefix`, at most two.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaint_ids(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        self.rows(
            "SELECT id FROM complaints
             WHERE id = ?1 OR substr(id, 1, length(?1)) = ?1 ORDER BY id <> ?1, id LIMIT 2",
            [prefix],
            |row| row.get(0),
        )
    }

    /// The complaint that counts against `tenant` already and is about the same mail.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaint_about(
        &self,
        tenant: &str,
        about: &str,
    ) -> Result<Option<String>, LedgerError> {
        let found = self.rows(
            "SELECT id FROM complaints
             WHERE tenant = ?1 AND json_extract(report, '$.about') = ?2 AND state = 'attributed'
             LIMIT 1",
            [tenant, about],
            |row| row.get(0),
        )?;
        Ok(found.into_iter().next())
    }

    /// How many complaints about `tenant` count that came in since `since` (the wall clock,
    /// milliseconds since 1970) and that nobody stands behind: of `reporter`, and of all.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaints_counted(
        &self,
        tenant: &str,
        reporter: &str,
        since: i64,
    ) -> Result<(u64, u64), LedgerError> {
        let found = self.rows(
            "SELECT coalesce(sum(json_extract(report, '$.reporter') = ?2), 0), count(*)
             FROM complaints WHERE tenant = ?1 AND received >= ?3 AND state = 'attributed'
             AND json_extract(report, '$.reporter') IS NOT NULL",
            params![tenant, reporter, since],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        let (own, all) = found.first().copied().unwrap_or_default();
        Ok((own.unsigned_abs(), all.unsigned_abs()))
    }

    /// When people were last told something about `tenant`: the wall clock, milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn last_told(&self, tenant: &str) -> Result<Option<i64>, LedgerError> {
        let found = self.rows(
            "SELECT wall FROM notices WHERE tenant = ?1 ORDER BY at DESC, id DESC LIMIT 1",
            [tenant],
            |row| row.get(0),
        )?;
        Ok(found.into_iter().next())
    }

    /// What came of the signal with this key: its actions.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn came_of(&self, key: &str) -> Result<Option<Value>, LedgerError> {
        // One that was reassigned was heard again, by its id with a number after it: the last counts.
        let found = self.rows(
            "SELECT actions FROM signals
             WHERE key = ?1 OR (key > ?1 || char(10) AND key < ?1 || char(11))
             ORDER BY id DESC LIMIT 1",
            [key],
            |row| {
                let text: String = row.get(0)?;
                Ok(serde_json::from_str(&text).unwrap_or_default())
            },
        )?;
        Ok(found.into_iter().next())
    }
}

impl Page<'_> {
    /// Forgets the oldest reports of abuse in `state` beyond the newest `most`.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn trim_complaints(&self, state: &str, most: usize) -> Result<(), LedgerError> {
        self.query(
            "DELETE FROM complaints WHERE id IN (SELECT id FROM complaints WHERE state = ?1
             ORDER BY received DESC, id LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![state, i64::try_from(most).unwrap_or(i64::MAX)])
        .map_err(self.failed())?;
        Ok(())
    }
}
