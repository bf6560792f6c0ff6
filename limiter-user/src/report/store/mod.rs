//! The history of events and allowed attempts: a file a day in the state directory.
//!
//! Recording never waits: records go through a bounded queue to a thread of their own. What does
//! not fit into the queue or onto the disk is counted and told as a problem. Enforcement is the
//! kernel's and does not depend on any of this.

mod append;
mod day;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use thiserror::Error;

use self::writer::{Health, Message, Writer};
pub use self::{
    read::{Attempts, EventFilter, History, Reader},
    writer::Losses,
};
use super::{attempt::AttemptRecord, event::EventRecord, problem::Problem};

/// Below the state directory.
const DIRECTORY: &str = "events";
/// How long a reader waits for what is queued to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// What keeps the history from being opened or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory cannot be used.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two agents share a state directory.
    #[error(
        "{path} is in use by another agent; give each agent a state_dir of its own",
        path = path.display()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}

impl StoreError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Bounds of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long records are kept; whole days, at least until their last record is this old.
    pub retention: Duration,
    /// How many records wait for the disk at most; more are dropped and counted.
    pub queue: usize,
    /// How large a day's file grows at most, bytes; more is dropped and counted. A tenant must
    /// not be able to fill the disk with its refusals.
    pub most_bytes_a_day: u64,
    /// How much all files together take at most, bytes: beyond it the oldest days are removed early. It
    /// is looked at once a minute, and today's files stay.
    pub most_bytes: u64,
}

impl StoreOptions {
    /// The usual bounds.
    #[must_use]
    pub const fn new(retention: Duration) -> Self {
        Self {
            retention,
            queue: 65_536,
            most_bytes_a_day: 4 << 30,
            most_bytes: u64::MAX,
        }
    }

    /// The same, with a bound for all files together. Those of one day have room within it: the two
    /// large ones take a quarter each at most.
    #[must_use]
    pub const fn within(self, most_bytes: u64) -> Self {
        let a_day = most_bytes / 4;
        let most_bytes_a_day = if self.most_bytes_a_day < a_day {
            self.most_bytes_a_day
        } else {
            a_day
        };
        Self {
            most_bytes_a_day,
            most_bytes,
            ..self
        }
    }
}

/// The history, open for recording. Dropping it writes what is queued.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    health: Arc<Health>,
    /// `None` only while being dropped.
    queue: Option<SyncSender<Message>>,
    writer: Option<thread::JoinHandle<()>>,
    /// Held as long as the store is open: one writer a directory.
    _lock: File,
}

impl Store {
    /// Opens the history in `state_dir`, creating what is missing, and deletes what is too old.
    ///
    /// # Errors
    /// A directory that cannot be created or written, and one that another agent writes to.
    pub fn open(state_dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let directory = state_dir.join(DIRECTORY);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)))
            .map_err(|source| StoreError::io("create", &directory, source))?;
        let lock = lock(&directory)?;
        let health = Arc::new(Health::default());
        let (queue, messages) = mpsc::sync_channel(options.queue.max(1));
        let writer = Writer::new(directory.clone(), options, Arc::clone(&health));
        let writer = thread::Builder::new()
            .name("event-store".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(|source| StoreError::io("start the writer of", &directory, source))?;
        Ok(Self {
            reader: Reader::new(state_dir),
            health,
            queue: Some(queue),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Records an event. Never waits; what does not fit is counted.
    pub fn record(&self, event: Arc<EventRecord>) {
        self.send(Message::Event(event));
    }

    /// Records an allowed attempt. Never waits; what does not fit is counted.
    pub fn record_attempt(&self, attempt: AttemptRecord) {
        self.send(Message::Attempt(attempt));
    }

    fn send(&self, message: Message) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
            queue.try_send(message)
        {
            self.health.dropped(&message);
        }
    }

    /// Waits until everything recorded so far can be read back, at most two seconds. Returns
    /// whether it can.
    pub fn flush(&self) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        let (done, written) = mpsc::sync_channel(1);
        queue.try_send(Message::Flush(done)).is_ok() && written.recv_timeout(FLUSH_PATIENCE).is_ok()
    }

    /// The events that `filter` lets through, oldest first, with everything recorded so far.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn history(&self, filter: &EventFilter) -> Result<History, StoreError> {
        self.flush();
        self.reader.history(filter)
    }

    /// The allowed attempts since `since` (of `tenant`), oldest first.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn attempts(
        &self,
        since: Option<jiff::Timestamp>,
        tenant: Option<&str>,
    ) -> Result<Attempts, StoreError> {
        self.flush();
        self.reader.attempts(since, tenant)
    }

    /// What was lost since the start.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.health.losses()
    }

    /// What is wrong with the history, for `status`.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.health.problems(self.reader.directory())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The writer ends when nobody can send any more, after writing what is queued.
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            log::error!("the writer of the event history failed");
        }
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| StoreError::io("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Busy {
            path: directory.to_owned(),
        }),
        Err(fs::TryLockError::Error(source)) => Err(StoreError::io("lock", &path, source)),
    }
}
