//! What can go wrong with a mail queue, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

/// Why a queue could not be read, held or released. Enforcement in the kernel does not depend on
/// any of it.
#[derive(Debug, thiserror::Error)]
pub enum MtaError {
    /// The program is not where mail servers put it.
    #[error(
        "{program} is not in any of {searched}; install it, or name the place where it is",
        searched = searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound {
        /// Its name.
        program: &'static str,
        /// The directories that were looked at.
        searched: Vec<PathBuf>,
    },
    /// The program could not be started.
    #[error("cannot run {command}: {source}; is the mail server being installed or removed?")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program did not end in time, and was killed with all that it had started.
    #[error(
        "{command} did not end within {limit:?} and was killed; it is tried again at the next look: see \
         whether the disk of the mail queue answers"
    )]
    Hangs {
        /// The command.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The program ended with an error.
    #[error("{command} failed ({code}): {said}; run it by hand as root to see why")]
    Failed {
        /// The command.
        command: String,
        /// Its exit code, or the signal's number + 128.
        code: i32,
        /// The last lines that it printed.
        said: String,
    },
    /// The program answered something that makes no sense.
    #[error("{command} answered {said:?}, which is not {expected}")]
    Answer {
        /// The command.
        command: String,
        /// What it printed.
        said: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A directory or file of the queue could not be read.
    #[error("cannot read {path}: {source}; the agent must run as root and see the mail server's files", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This Exim has no named queues.
    #[error(
        "{program} cannot move messages between queues: {said}; a newer Exim, which knows the option -MG, \
         can; until then the tenant's queued mail is delivered",
        program = program.display()
    )]
    NoNamedQueues {
        /// The Exim program.
        program: PathBuf,
        /// What it said.
        said: String,
    },
    /// What is held could not be written down, or read again.
    #[error(
        "{queue}: the record of held mail: {source}; the mail is held, and the record tried again"
    )]
    Book {
        /// The queue it is about.
        queue: String,
        /// What the book said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
