//! A Maildir into which reports are delivered.
//!
//! What comes into `new/` goes to the [`Desk`], and to `cur/` only after the desk says that it is
//! safe. Killed in between, the same mail goes to the desk again: the desk knows reports by their id.
//! What cannot be used is moved to the folder `.Refused`, with a file that says why. What was dealt with
//! bears limiter's mark in its name, and only what bears it is removed when it is old (`prune`). Whoever delivers there may be an ordinary user, and limiter is not: directories and files
//! are only ever reached by descriptors, no link is followed, and nothing is waited for.

mod folder;
mod prune;
mod scan;
#[cfg(test)]
mod tests;
mod watch;

use std::{io, path::PathBuf};

use jiff::Timestamp;
use thiserror::Error;

use super::refusal::Refusal;

pub use self::{scan::Maildir, watch::watch};

/// Who takes reports in.
pub trait Desk: Send + 'static {
    /// Takes a mail in. When this returns `Ok`, whatever it says, the mail is safe: on the disk, or
    /// known already. It may come again all the same.
    ///
    /// # Errors
    /// Why it cannot be kept now: it stays in `new/`, and comes again at the next look.
    fn take(&mut self, mail: &Mail<'_>) -> Result<Verdict, Later>;

    /// Hears of a mail that was not even read: too long, or no file. It is in `.Refused` now.
    fn refused(&mut self, name: &str, why: &str);

    /// Hears after every look what is wrong with the Maildir, if anything.
    fn health(&mut self, problem: Option<&MaildirError>);
}

/// A mail that came in.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// Its name in the Maildir, without flags: unique as far as the deliverer makes it so.
    pub name: &'a str,
    /// All of it.
    pub bytes: &'a [u8],
    /// When it was delivered, by the file's own time.
    pub delivered: Option<Timestamp>,
}

/// What the desk made of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is filed.
    Filed,
    /// It cannot be used; it goes to `.Refused`.
    Refused(Refusal),
}

/// Why the desk cannot take mail now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Later(pub String);

/// What is wrong with a Maildir.
#[derive(Debug, Error)]
pub enum MaildirError {
    /// A directory of it cannot be used.
    #[error(
        "cannot {doing} {path}: {source}; is it a Maildir (with new, cur and tmp) that limiter may use?",
        path = path.display()
    )]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// With which directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A mail cannot be moved.
    #[error("cannot {doing} {name:?} in {path}: {source}", path = path.display())]
    Mail {
        /// What was tried.
        doing: &'static str,
        /// With which mail.
        name: String,
        /// In which Maildir.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The desk takes nothing.
    #[error("{count} mails wait in {path}: {why}", path = path.display())]
    Waiting {
        /// How many.
        count: usize,
        /// In which Maildir.
        path: PathBuf,
        /// What the desk says.
        why: Later,
    },
}
