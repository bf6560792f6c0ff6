//! Reading the history back, with or without an agent that writes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    vec,
};

use jiff::{Timestamp, civil::Date};

use super::{
    DIRECTORY, StoreError,
    day::{self, Kind},
};
use crate::report::{
    attempt::{AttemptRecord, ENCODED_LEN},
    event::EventRecord,
};

/// A longer line is none of ours.
const LONGEST_LINE: u64 = 64 * 1024;

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only from this moment on; `None`: all that are kept.
    pub since: Option<Timestamp>,
    /// Only of this tenant.
    pub tenant: Option<String>,
}

impl EventFilter {
    /// Whether `event` is asked for.
    #[must_use]
    pub fn admits(&self, event: &EventRecord) -> bool {
        self.since.is_none_or(|since| event.time >= since)
            && (self.tenant.is_none() || self.tenant == event.tenant)
    }
}

/// The reading end: needs no agent.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

impl Reader {
    /// Reads the history in `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join(DIRECTORY),
        }
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The events that `filter` lets through, oldest first. A history that was never written is
    /// empty.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn history(&self, filter: &EventFilter) -> Result<History, StoreError> {
        Ok(History {
            files: self.files(Kind::Events, filter.since)?,
            current: None,
            filter: filter.clone(),
            line: Vec::new(),
            skipped: 0,
        })
    }

    /// The allowed attempts since `since` (of `tenant`), oldest first.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn attempts(
        &self,
        since: Option<Timestamp>,
        tenant: Option<&str>,
    ) -> Result<Attempts, StoreError> {
        Ok(Attempts {
            files: self.files(Kind::Attempts, since)?,
            current: None,
            since,
            tenant: tenant.map(str::to_owned),
        })
    }

    /// The files that can hold something since `since`. One more day than needed: events are
    /// written a moment after they happen, and clocks are set.
    fn files(
        &self,
        kind: Kind,
        since: Option<Timestamp>,
    ) -> Result<vec::IntoIter<PathBuf>, StoreError> {
        let from = since.map(|since| {
            let day = day::day_of(since);
            day.yesterday().unwrap_or(day)
        });
        let asked = |day: &Date| from.is_none_or(|from| *day >= from);
        let days = day::days(&self.directory, kind)
            .map_err(|source| StoreError::io("read", &self.directory, source))?;
        let paths: Vec<PathBuf> = days
            .into_iter()
            .filter(asked)
            .map(|day| kind.path(&self.directory, day))
            .collect();
        Ok(paths.into_iter())
    }
}

/// Opens a file, unless it was deleted since the directory was read.
fn open(path: &Path) -> Result<Option<BufReader<File>>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(1 << 16, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("open", path, source)),
    }
}

/// Events, oldest first. Lines that hold no event (one cut off by a crash, say) are skipped.
#[derive(Debug)]
pub struct History {
    files: vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, BufReader<File>)>,
    filter: EventFilter,
    line: Vec<u8>,
    skipped: u64,
}

impl History {
    /// How many lines held no event so far.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next line, `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, StoreError> {
        self.line.clear();
        let Some((path, file)) = &mut self.current else {
            return Ok(false);
        };
        let length = file
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut self.line)
            .map_err(|source| StoreError::io("read", path, source))?;
        Ok(length > 0)
    }

    fn next_event(&mut self) -> Result<Option<EventRecord>, StoreError> {
        loop {
            while self.read_line()? {
                match serde_json::from_slice::<EventRecord>(&self.line) {
                    Ok(event) if self.filter.admits(&event) => return Ok(Some(event)),
                    Ok(_) => {}
                    Err(_) => self.skipped += 1,
                }
            }
            let Some(path) = self.files.next() else {
                self.current = None;
                return Ok(None);
            };
            self.current = open(&path)?.map(|file| (path, file));
        }
    }
}

impl Iterator for History {
    type Item = Result<EventRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_event().transpose();
        if let Some(Err(_)) = next {
            // The error ends the history: trying again would only meet it again.
            self.files = Vec::new().into_iter();
            self.current = None;
        }
        next
    }
}

/// Allowed attempts, oldest first.
#[derive(Debug)]
pub struct Attempts {
    files: vec::IntoIter<PathBuf>,
    current: Option<DayOfAttempts>,
    since: Option<Timestamp>,
    tenant: Option<String>,
}

#[derive(Debug)]
struct DayOfAttempts {
    path: PathBuf,
    file: BufReader<File>,
    names: Vec<String>,
}

impl DayOfAttempts {
    fn open(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let Some(file) = open(&path)? else {
            return Ok(None);
        };
        let names_path = path.with_extension("names");
        let mut names = String::new();
        if let Some(mut file) = open(&names_path)? {
            file.read_to_string(&mut names)
                .map_err(|source| StoreError::io("read", &names_path, source))?;
        }
        Ok(Some(Self {
            path,
            file,
            names: names.lines().map(str::to_owned).collect(),
        }))
    }

    /// The next attempt, `None` at the end, whole or torn.
    fn next(&mut self) -> Result<Option<AttemptRecord>, StoreError> {
        let mut bytes = [0; ENCODED_LEN];
        loop {
            match self.file.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(source) => return Err(StoreError::io("read", &self.path, source)),
            }
            let name = |number: u32| {
                let number = usize::try_from(number).ok()?;
                self.names.get(number).cloned()
            };
            if let Some(attempt) = AttemptRecord::decode(&bytes, name) {
                return Ok(Some(attempt));
            }
        }
    }
}

impl Attempts {
    fn next_attempt(&mut self) -> Result<Option<AttemptRecord>, StoreError> {
        loop {
            while let Some(day) = &mut self.current
                && let Some(attempt) = day.next()?
            {
                if self.since.is_none_or(|since| attempt.time >= since)
                    && (self.tenant.is_none() || self.tenant == attempt.tenant)
                {
                    return Ok(Some(attempt));
                }
            }
            let Some(path) = self.files.next() else {
                self.current = None;
                return Ok(None);
            };
            self.current = DayOfAttempts::open(path)?;
        }
    }
}

impl Iterator for Attempts {
    type Item = Result<AttemptRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_attempt().transpose();
        if let Some(Err(_)) = next {
            // The error ends the attempts: trying again would only meet it again.
            self.files = Vec::new().into_iter();
            self.current = None;
        }
        next
    }
}
