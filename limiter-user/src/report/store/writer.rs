//! The thread that writes: whatever waits in the queue, in one go.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use jiff::{Timestamp, civil::Date};

use super::{
    StoreOptions,
    append::{Appender, Shape},
    day::{self, Kind},
};
use crate::report::{
    attempt::{AttemptRecord, ENCODED_LEN},
    event::EventRecord,
    problem::Problem,
};

/// How many records are written at once at most.
const BATCH: usize = 4096;
/// How often old files are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// How often it is looked how much they take.
const BOUND_EVERY: Duration = Duration::from_secs(60);
/// How long the disk is left alone after it failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The kind of error that says that a file is full for today.
const BOUND: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// What goes through the queue.
#[derive(Debug)]
pub enum Message {
    /// An event.
    Event(Arc<EventRecord>),
    /// An allowed attempt.
    Attempt(AttemptRecord),
    /// Somebody waits for what is before it.
    Flush(SyncSender<()>),
}

/// What was lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that found the queue full.
    pub events_queue: u64,
    /// Events that could not be written.
    pub events_disk: u64,
    /// Allowed attempts that found the queue full.
    pub attempts_queue: u64,
    /// Allowed attempts that could not be written.
    pub attempts_disk: u64,
}

/// How the writer fares, for whoever asks.
#[derive(Debug, Default)]
pub struct Health {
    events_queue: AtomicU64,
    events_disk: AtomicU64,
    attempts_queue: AtomicU64,
    attempts_disk: AtomicU64,
    /// Why the last write failed; `None` once one succeeds.
    failing: Mutex<Option<String>>,
    /// How many days were removed early since the start, the last of them, and what all may take.
    removed: Mutex<Option<(usize, Date, u64)>>,
}

impl Health {
    /// Counts a message that found the queue full.
    pub fn dropped(&self, message: &Message) {
        match message {
            Message::Event(_) => self.events_queue.fetch_add(1, Ordering::Relaxed),
            Message::Attempt(_) => self.attempts_queue.fetch_add(1, Ordering::Relaxed),
            Message::Flush(_) => 0,
        };
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        Losses {
            events_queue: self.events_queue.load(Ordering::Relaxed),
            events_disk: self.events_disk.load(Ordering::Relaxed),
            attempts_queue: self.attempts_queue.load(Ordering::Relaxed),
            attempts_disk: self.attempts_disk.load(Ordering::Relaxed),
        }
    }

    /// What is wrong, in words.
    pub fn problems(&self, directory: &Path) -> Vec<Problem> {
        let mut problems = Vec::new();
        let directory = directory.display();
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = failing.as_ref() {
            problems.push(Problem::error(
                format!("events are not being recorded: {why}; enforcement goes on"),
                format!("make room or repair the file system below {directory}"),
            ));
        }
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((days, last, most)) = *removed {
            let mib = most >> 20;
            problems.push(Problem::warning(
                format!(
                    "events and allowed attempts would take more than {mib} MiB: {days} days of them, \
                     up to {last}, were removed before their time"
                ),
                "give them more room (`retention: {max_disk: …}`), or see in `limiter events` who is \
                 refused so often",
            ));
        }
        let Losses {
            events_queue,
            events_disk,
            attempts_queue,
            attempts_disk,
        } = self.losses();
        let (events, attempts) = (
            events_queue.saturating_add(events_disk),
            attempts_queue.saturating_add(attempts_disk),
        );
        if events > 0 || attempts > 0 {
            problems.push(Problem::warning(
                format!(
                    "{events} events and {attempts} allowed attempts were not recorded since the \
                     agent started; the counters of the tenants are exact all the same"
                ),
                format!("look at the speed and the free space of {directory}"),
            ));
        }
        problems
    }

    fn set_failing(&self, why: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*failing, &why) {
            (None, Some(why)) => log::error!("events are not being recorded: {why}"),
            (Some(_), None) => log::info!("events are being recorded again"),
            _ => {}
        }
        *failing = why;
    }
}

/// The files of one day.
#[derive(Debug)]
struct Files {
    day: Date,
    events: Appender,
    attempts: Appender,
    names: Appender,
    /// The numbers of the names in `names`.
    numbers: HashMap<String, u32>,
}

/// The writing end.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    options: StoreOptions,
    health: Arc<Health>,
    files: Option<Files>,
    retry_at: Option<Instant>,
}

/// What is to be written together.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    events: u64,
    attempts: Vec<AttemptRecord>,
    waiting: Vec<SyncSender<()>>,
}

impl Batch {
    fn add(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                // A record of strings and numbers always has a JSON form.
                if serde_json::to_writer(&mut self.lines, &*event).is_ok() {
                    self.lines.push(b'\n');
                }
                self.events += 1;
            }
            Message::Attempt(attempt) => self.attempts.push(attempt),
            Message::Flush(done) => self.waiting.push(done),
        }
    }
}

impl Writer {
    /// A writer into `directory`.
    pub const fn new(directory: PathBuf, options: StoreOptions, health: Arc<Health>) -> Self {
        Self {
            directory,
            options,
            health,
            files: None,
            retry_at: None,
        }
    }

    /// Writes until nobody can send any more.
    pub fn run(mut self, messages: &Receiver<Message>) {
        let mut expire_at = Instant::now();
        let mut bound_at = expire_at;
        loop {
            if Instant::now() >= bound_at {
                self.bound();
                bound_at = Instant::now() + BOUND_EVERY;
            }
            if Instant::now() >= expire_at {
                self.expire();
                expire_at = Instant::now() + EXPIRE_EVERY;
            }
            let first = match messages.recv_timeout(EXPIRE_EVERY) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = Batch::default();
            batch.add(first);
            for message in messages.try_iter().take(BATCH) {
                batch.add(message);
            }
            self.write(batch);
        }
    }

    /// Removes the oldest days where all together take too much.
    fn bound(&self) {
        let today = day::day_of(Timestamp::now());
        let most = self.options.most_bytes;
        match day::bound(&self.directory, today, most) {
            Ok(None) => {}
            Ok(Some((days, last))) => {
                log::warn!(
                    "{days} days of events, up to {last}, were removed: all together took more than \
                     {most} bytes"
                );
                let mut removed = self
                    .health
                    .removed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let before = removed.map_or(0, |(days, ..)| days);
                *removed = Some((before + days, last, most));
            }
            Err(error) => log::warn!(
                "cannot look how much events take below {}: {error}",
                self.directory.display()
            ),
        }
    }

    fn expire(&self) {
        let expired = day::expire(&self.directory, Timestamp::now(), self.options.retention);
        match expired {
            Ok(0) => {}
            Ok(count) => log::info!("deleted {count} files of events past their retention"),
            Err(error) => log::warn!(
                "cannot delete old events below {}: {error}",
                self.directory.display()
            ),
        }
    }

    fn write(&mut self, batch: Batch) {
        let Batch {
            lines,
            events,
            attempts,
            waiting,
        } = batch;
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            self.lost(events, attempts.len());
        } else {
            let outcome = self.try_write(&lines, events, &attempts);
            self.retry_at = match &outcome {
                Ok(()) => None,
                // One file is full for today: the other goes on.
                Err(error) if error.kind() == BOUND => None,
                Err(_) => {
                    // Opened anew, in case the directory itself was lost.
                    self.files = None;
                    Some(Instant::now() + RETRY_AFTER)
                }
            };
            if events > 0 || !attempts.is_empty() {
                let why = outcome.err().map(|error| error.to_string());
                self.health.set_failing(why);
            }
        }
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.try_send(());
        }
    }

    fn lost(&self, events: u64, attempts: usize) {
        let attempts = u64::try_from(attempts).unwrap_or(u64::MAX);
        self.health.events_disk.fetch_add(events, Ordering::Relaxed);
        self.health
            .attempts_disk
            .fetch_add(attempts, Ordering::Relaxed);
    }

    fn try_write(
        &mut self,
        lines: &[u8],
        events: u64,
        attempts: &[AttemptRecord],
    ) -> io::Result<()> {
        if events == 0 && attempts.is_empty() {
            return Ok(());
        }
        let most = self.options.most_bytes_a_day;
        let files = match self.today() {
            Ok(files) => files,
            Err(error) => {
                self.lost(events, attempts.len());
                return Err(error);
            }
        };
        let wrote_events = bounded(&mut files.events, lines, most);
        let wrote_attempts = files.append_attempts(attempts, most);
        if wrote_events.is_err() {
            self.lost(events, 0);
        }
        if wrote_attempts.is_err() {
            self.lost(0, attempts.len());
        }
        let errors = [wrote_events, wrote_attempts]
            .into_iter()
            .filter_map(Result::err);
        // A disk that fails is worse than a file that is full for today.
        match errors.min_by_key(|error| error.kind() == BOUND) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The files of today, opened when the day begins.
    fn today(&mut self) -> io::Result<&mut Files> {
        let today = day::day_of(Timestamp::now());
        let files = match self.files.take() {
            Some(files) if files.day == today => files,
            _ => Files::open(&self.directory, today)?,
        };
        Ok(self.files.insert(files))
    }
}

/// Appends unless the file would grow beyond `most`.
fn bounded(file: &mut Appender, bytes: &[u8], most: u64) -> io::Result<()> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if file.len().saturating_add(length) > most {
        let why = format!("today's file has reached its bound of {most} bytes");
        return Err(io::Error::new(BOUND, why));
    }
    if bytes.is_empty() {
        return Ok(());
    }
    file.append(bytes)
}

impl Files {
    fn open(directory: &Path, day: Date) -> io::Result<Self> {
        let open = |kind: Kind, shape| Appender::open(&kind.path(directory, day), shape);
        let record = u64::try_from(ENCODED_LEN).unwrap_or(u64::MAX);
        let names = open(Kind::Names, Shape::Lines)?;
        let known = fs::read_to_string(Kind::Names.path(directory, day))?;
        Ok(Self {
            day,
            events: open(Kind::Events, Shape::Lines)?,
            attempts: open(Kind::Attempts, Shape::Fixed(record))?,
            numbers: known.lines().map(str::to_owned).zip(0..).collect(),
            names,
        })
    }

    /// Names first, and safely on the disk: an attempt whose name got lost in a power failure
    /// would be taken for another tenant's.
    fn append_attempts(&mut self, attempts: &[AttemptRecord], most: u64) -> io::Result<()> {
        self.append_names(attempts, most)?;
        let mut bytes = Vec::with_capacity(attempts.len() * ENCODED_LEN);
        for attempt in attempts {
            let number = attempt.tenant.as_ref().and_then(|t| self.numbers.get(t));
            bytes.extend_from_slice(&attempt.encode(number.copied().unwrap_or(u32::MAX)));
        }
        bounded(&mut self.attempts, &bytes, most)
    }

    fn append_names(&mut self, attempts: &[AttemptRecord], most: u64) -> io::Result<()> {
        let tenants: BTreeSet<&str> = attempts
            .iter()
            .filter_map(|attempt| attempt.tenant.as_deref())
            .filter(|tenant| !self.numbers.contains_key(*tenant))
            .collect();
        if tenants.is_empty() {
            return Ok(());
        }
        // A newline cannot stand in a tenant's name; if it did, it would shift all others.
        let lines: String = tenants
            .iter()
            .flat_map(|tenant| [tenant.replace('\n', " "), "\n".to_owned()])
            .collect();
        bounded(&mut self.names, lines.as_bytes(), most)?;
        self.names.sync()?;
        let first = u32::try_from(self.numbers.len()).map_err(io::Error::other)?;
        self.numbers
            .extend(tenants.into_iter().map(str::to_owned).zip(first..));
        Ok(())
    }
}
