//! What can go wrong with the record book.

use std::path::PathBuf;

use thiserror::Error;

/// Why the record book cannot be read or written.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The database refuses: full disk, lock, damage.
    #[error("cannot {action} {path}: {source}")]
    Database {
        /// What was tried: `open`, `write to`.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// What stands in it makes no sense.
    #[error("{path} holds {what}: {why}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What, and whose.
        what: String,
        /// Why it cannot be used.
        why: String,
    },
    /// It was written by a newer limiter.
    #[error("{path} has the format {found}, this limiter knows {known} and older ones")]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that is known.
        known: i64,
    },
}

impl LedgerError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => {
                    "make room; what could not be recorded is tried again by itself"
                }
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    "another program holds the database: end it; it is tried again by itself"
                }
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    "move the file aside (or put a copy back) and restart the agent: it takes over \
                     what is in force in the kernel"
                }
                _ => "look at state_dir: its owner, its free space, its file system",
            },
            Self::Damaged { .. } => {
                "move the file aside (or put a copy back) and restart the agent: it takes over what \
                 is in force in the kernel"
            }
            Self::TooNew { .. } => "install the newer limiter again, or move the file aside",
        }
    }
}
