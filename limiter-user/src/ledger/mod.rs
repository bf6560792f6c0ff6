//! The record book: all that was heard, what came of it, whom it was told; SQLite in the state
//! directory. What is committed here survives whatever happens next; nothing is announced before.

mod complaints;
mod error;
mod held;
mod logs;
mod outbox;
mod page;
mod read;
mod retention;

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;

use crate::offence::{Record, State};

pub use complaints::Waiting;
pub use error::LedgerError;
pub use held::{HeldMailBook, held_counts};
pub use logs::{LogMark, LogRow};
pub use outbox::Due;
pub use page::{Entry, Evidence, Page, Position};
pub use read::{CaseRow, ChargeRow, ComplaintRow, NoteRow, NoticeRow, SanctionRow, SignalRow};

/// The database's name in the state directory.
pub const FILE: &str = "ledger.db";

/// What each format adds to the one before; the first makes an empty database.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("logs.sql")];

/// The tables on which rests what is in force: looked at whenever the book is opened. The rest may be
/// large, and nobody waits for it.
const NEEDED: [&str; 2] = ["clock", "records"];

/// For how long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The record book.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens the book in `state_dir`, or begins one.
    ///
    /// # Errors
    ///
    /// It cannot be opened, is newer than this program, or damaged where it says what is in force;
    /// for the rest, see [`check`](Self::check).
    pub fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let path = state_dir.join(FILE);
        let failed = |source| LedgerError::Database {
            action: "open",
            path: path.clone(),
            source,
        };
        // Evidence is nobody else's business. SQLite gives its other files the same mode.
        let _ = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir);
        let _ = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path);
        let db = Connection::open(&path).map_err(failed)?;
        let mut ledger = Self { db, path };
        ledger.prepare()?;
        Ok(ledger)
    }

    /// Opens the book in `state_dir` to read in it only, agent or no agent; `None` if there is
    /// none.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is newer than this program.
    pub fn read_only(state_dir: &Path) -> Result<Option<Self>, LedgerError> {
        use rusqlite::OpenFlags;
        let path = state_dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let failed = |source| LedgerError::Database {
            action: "open",
            path: path.clone(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        let ledger = Self { db, path };
        ledger.version()?;
        Ok(Some(ledger))
    }

    fn prepare(&mut self) -> Result<(), LedgerError> {
        let set_up = |db: &Connection| {
            db.busy_timeout(PATIENCE)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            // On the disk when a transaction is committed, not some time later.
            db.pragma_update(None, "synchronous", "FULL")?;
            db.pragma_update(None, "foreign_keys", true)?;
            // What is written is at most so much twice.
            db.pragma_update(None, "journal_size_limit", 64 << 20)
        };
        set_up(&self.db).map_err(self.failed("open"))?;
        if self.version()? > 0 {
            for table in NEEDED {
                self.quick_check(table)?;
            }
        }
        self.migrate()
    }

    /// Looks at the whole database, which takes as long as reading all of it: seconds for each
    /// hundred megabytes that the machine has not read yet. On a [`read_only`](Self::read_only) one
    /// it keeps nobody from writing.
    ///
    /// # Errors
    ///
    /// It is damaged, or cannot be read.
    pub fn check(&self) -> Result<(), LedgerError> {
        self.quick_check("1")
    }

    /// Looks at a table, or at all (`1`: until the first fault).
    fn quick_check(&self, what: &str) -> Result<(), LedgerError> {
        let answer: String = self
            .db
            .query_row(&format!("PRAGMA quick_check({what})"), [], |row| row.get(0))
            .map_err(self.failed("check"))?;
        if answer == "ok" {
            Ok(())
        } else {
            Err(self.damaged("pages that do not fit together", answer))
        }
    }

    /// The format of the database, from 0 for an empty one.
    fn version(&self) -> Result<usize, LedgerError> {
        let found: i64 = self
            .db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(self.failed("open"))?;
        match usize::try_from(found) {
            Ok(version) if version <= MIGRATIONS.len() => Ok(version),
            _ => Err(LedgerError::TooNew {
                path: self.path.clone(),
                found,
                known: i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
            }),
        }
    }

    fn migrate(&mut self) -> Result<(), LedgerError> {
        let version = self.version()?;
        for (at, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            let failed = self.failed("migrate");
            let run = |db: &mut Connection| {
                let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                change.execute_batch(migration)?;
                let version = i64::try_from(at + 1).unwrap_or(i64::MAX);
                change.pragma_update(None, "user_version", version)?;
                change.commit()
            };
            run(&mut self.db).map_err(failed)?;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's state as it was last committed.
    ///
    /// # Errors
    ///
    /// It cannot be read, or makes no sense.
    pub fn state(&self) -> Result<State, LedgerError> {
        let mut state = State::default();
        if let Some(clock) = self.clock()? {
            state.clock = clock;
        }
        let query = |db: &Connection| {
            let mut query = db.prepare("SELECT tenant, body FROM records")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, String)>, _>>()
        };
        for (tenant, body) in query(&self.db).map_err(self.failed("read"))? {
            let record: Record = self.parsed(&body, || format!("a record of {tenant:?}"))?;
            state.restore(&tenant, Some(record));
        }
        Ok(state)
    }

    /// The engine's clock as it was last committed.
    ///
    /// # Errors
    ///
    /// It cannot be read, or makes no sense.
    pub fn clock(&self) -> Result<Option<crate::offence::Clock>, LedgerError> {
        let body: Option<String> = self
            .db
            .query_row("SELECT body FROM clock", [], |row| row.get(0))
            .optional()
            .map_err(self.failed("read"))?;
        body.map(|body| self.parsed(&body, || "a clock".to_owned()))
            .transpose()
    }

    /// The record of `tenant` as it was last committed.
    ///
    /// # Errors
    ///
    /// It cannot be read, or makes no sense.
    pub fn record(&self, tenant: &str) -> Result<Option<Record>, LedgerError> {
        let body: Option<String> = self
            .db
            .query_row(
                "SELECT body FROM records WHERE tenant = ?1",
                [tenant],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed("read"))?;
        body.map(|body| self.parsed(&body, || format!("a record of {tenant:?}")))
            .transpose()
    }

    /// Begins a page: everything on it comes into the book together, or nothing does.
    ///
    /// # Errors
    ///
    /// The database cannot be written to.
    pub fn begin(&mut self) -> Result<Page<'_>, LedgerError> {
        let failed = self.failed("write to");
        let path = self.path.clone();
        let change: Transaction<'_> = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        Ok(Page::new(change, path))
    }

    /// Pretends that the disk is full, or is not any more.
    #[cfg(test)]
    pub fn fill_up(&self, full: bool) {
        let most = if full { 1 } else { i64::from(u32::MAX) };
        self.db
            .pragma_update(None, "max_page_count", most)
            .unwrap_or_default();
    }

    fn parsed<T: DeserializeOwned>(
        &self,
        body: &str,
        what: impl FnOnce() -> String,
    ) -> Result<T, LedgerError> {
        serde_json::from_str(body).map_err(|error| self.damaged(&what(), error.to_string()))
    }

    fn damaged(&self, what: &str, why: String) -> LedgerError {
        LedgerError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
            why,
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> LedgerError + use<> {
        let path = self.path.clone();
        move |source| LedgerError::Database {
            action,
            path: path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
