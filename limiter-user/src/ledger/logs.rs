//! The mail server's logs: up to where each was read, and the messages under way that it told of.

use rusqlite::{OptionalExtension as _, params};

use super::{Ledger, LedgerError, Page};

/// What was read of a log since it was last written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// Which log: its path, or `journal`.
    pub log: String,
    /// Up to where, as its reader says it.
    pub position: String,
    /// Messages that changed, as JSON; `None`: they are under way no more.
    pub mail: Vec<(String, Option<String>)>,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRow {
    /// Up to where it was read; `None`: it never was.
    pub position: Option<String>,
    /// The messages under way, as JSON.
    pub mail: Vec<(String, String)>,
}

impl Ledger {
    /// What is known of a log.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn log(&self, log: &str) -> Result<LogRow, LedgerError> {
        let position = self
            .db
            .query_row("SELECT position FROM logs WHERE log = ?1", [log], |row| {
                row.get(0)
            })
            .optional()
            .map_err(self.failed("read"))?;
        let mail = self.rows(
            "SELECT id, body FROM log_mail WHERE log = ?1",
            [log],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(LogRow { position, mail })
    }
}

impl Page<'_> {
    /// Writes down what was read of a log.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn log(&self, mark: &LogMark) -> Result<(), LedgerError> {
        let LogMark {
            log,
            position,
            mail,
        } = mark;
        self.query("INSERT OR REPLACE INTO logs (log, position) VALUES (?1, ?2)")?
            .execute(params![log, position])
            .map_err(self.failed())?;
        for (id, body) in mail {
            match body {
                Some(body) => self
                    .query("INSERT OR REPLACE INTO log_mail (log, id, body) VALUES (?1, ?2, ?3)")?
                    .execute(params![log, id, body]),
                None => self
                    .query("DELETE FROM log_mail WHERE log = ?1 AND id = ?2")?
                    .execute(params![log, id]),
            }
            .map_err(self.failed())?;
        }
        Ok(())
    }

    /// Forgets all logs but these.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn forget_other_logs(&self, logs: &[String]) -> Result<(), LedgerError> {
        let known: Vec<String> = {
            let mut query = self.query("SELECT log FROM logs")?;
            let rows = query
                .query_map([], |row| row.get(0))
                .map_err(self.failed())?;
            rows.collect::<Result<_, _>>().map_err(self.failed())?
        };
        for log in known.iter().filter(|log| !logs.contains(log)) {
            for sql in [
                "DELETE FROM logs WHERE log = ?1",
                "DELETE FROM log_mail WHERE log = ?1",
            ] {
                self.query(sql)?.execute([log]).map_err(self.failed())?;
            }
        }
        Ok(())
    }
}
