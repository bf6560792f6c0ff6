//! A log file, followed through its rotations: every line once, in order.
//!
//! Up to where it was read is a [`Position`]: the file's inode, how far, and what its first line was, for
//! inodes are used again, and a file that was cut off (`copytruncate`) has the same one. What was rotated away
//! meanwhile is found among the files beside it (`mail.log.1`, `mail.log-20261120`) by the same, and
//! read to its end before the next; what was compressed before it was read is gone, and that is said.
//!
//! A file is given up for the next one when that one has something in it, for until then its writer may
//! not have noticed; and not before a moment later.
//!
//! It is looked at once a second, and not waited for with inotify: bounces are heard once a minute, and
//! a look is two system calls.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use ring::digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A longer line is skipped, bytes.
const LONGEST_LINE: usize = 16 << 10;
/// How much is read at once, bytes.
const CHUNK: usize = 64 << 10;
/// How much of the first line tells files apart, bytes.
const FIRST: usize = 512;
/// How long the next file must have had something in it before the one before is given up.
const REST: Duration = Duration::from_secs(1);
/// More files than this are not looked through for one that was rotated away.
const MOST_SIBLINGS: usize = 1_000;

/// Up to where a log was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file.
    pub inode: u64,
    /// How many bytes of it were read, whole lines.
    pub offset: u64,
    /// The digest of its first line; `None` while it has none.
    pub first: Option<String>,
    /// When it was last read.
    pub read: Timestamp,
}

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The system refuses.
    #[error("cannot {action} the log {path}: {source}", path = path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("the log {path} is no file", path = path.display())]
    NoFile {
        /// What it is.
        path: PathBuf,
    },
}

/// What came of reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// There may be more at once.
    pub more: bool,
    /// What was written to the file before was rotated away and is not to be found.
    pub lost: bool,
}

/// A log that is followed.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// Where to go on, until the file is found.
    from: Option<Position>,
    open: Option<Open>,
    /// Nothing was there at the first look: whatever comes is new.
    was_missing: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    offset: u64,
    first: Option<String>,
    /// Since when the next file has something in it.
    superseded: Option<Instant>,
    /// It is not at its place any more, and nobody writes to it.
    finished: bool,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Follower {
    /// Goes on at `from`. Without one it begins with what is written from now on: what came back before is
    /// nobody's offence.
    #[must_use]
    pub fn new(path: &Path, from: Option<Position>) -> Self {
        Self {
            path: path.to_owned(),
            from,
            open: None,
            was_missing: false,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Up to where it was read.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match &self.open {
            // Whatever comes to be there is new, also to the next one who looks.
            None if self.was_missing && self.from.is_none() => Some(Position {
                inode: 0,
                offset: 0,
                first: None,
                read: Timestamp::now(),
            }),
            None => self.from.clone(),
            Some(open) => Some(Position {
                inode: open.inode,
                offset: open.offset,
                first: open.first.clone(),
                read: Timestamp::now(),
            }),
        }
    }

    /// Hands whole lines to `each`, about `most` bytes of them.
    ///
    /// # Errors
    /// The file cannot be read. What was handed over stays read.
    pub fn read(
        &mut self,
        most: usize,
        mut each: impl FnMut(&str),
    ) -> Result<Progress, FollowError> {
        let mut progress = Progress::default();
        if self.open.is_none() {
            progress.lost = self.find()?;
        }
        let path = &self.path;
        let Some(open) = &mut self.open else {
            return Ok(progress);
        };
        if open.was_cut_off(path)? {
            // What was not read of it is in the copy, if there is one.
            let copy = siblings(path)?
                .into_iter()
                .find(|other| other.inode != open.inode && other.holds(open.offset, &open.first));
            progress.lost = copy.is_none();
            if let Some(copy) = copy {
                let mut copy = Open::new(&copy.path, open.offset)?;
                copy.finished = true;
                while copy.read(path, CHUNK, &mut each)? {}
            }
            open.offset = 0;
            open.first = None;
        }
        let mut read = 0;
        while read < most {
            if !open.read(path, CHUNK, &mut each)? {
                return self.turn_over(progress);
            }
            read += CHUNK;
        }
        progress.more = true;
        Ok(progress)
    }

    /// All was read: goes on with the next file, if there is one.
    fn turn_over(&mut self, mut progress: Progress) -> Result<Progress, FollowError> {
        let Some(open) = &mut self.open else {
            return Ok(progress);
        };
        let next = match fs::metadata(&self.path) {
            Ok(now) => now.ino() != open.inode && now.len() > 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(failed("look at", &self.path)(source)),
        };
        if !next {
            open.superseded = None;
            return Ok(progress);
        }
        let since = *open.superseded.get_or_insert_with(Instant::now);
        if since.elapsed() < REST {
            return Ok(progress);
        }
        if !open.finished {
            // One more read: the last line may have come after the one that found the end.
            open.finished = true;
            progress.more = true;
            return Ok(progress);
        }
        let changed = open
            .file
            .metadata()
            .and_then(|meta| meta.modified())
            .map_err(failed("look at", &self.path))?;
        let (inode, first) = (open.inode, open.first.clone());
        let is_later = |other: &Sibling| {
            let is_other = other.inode != inode && (first.is_none() || other.first != first);
            is_other && (other.changed >= changed || other.path == self.path)
        };
        if let Some(next) = self.oldest(is_later)? {
            self.open = Some(next);
            progress.more = true;
        }
        Ok(progress)
    }

    /// Finds the file to go on with. Whether what follows its position is lost.
    fn find(&mut self) -> Result<bool, FollowError> {
        let Some(from) = &self.from else {
            let Some(meta) = metadata(&self.path)? else {
                self.was_missing = true;
                return Ok(false);
            };
            let offset = if self.was_missing { 0 } else { meta.len() };
            self.open = Some(Open::new(&self.path, offset)?);
            return Ok(false);
        };
        let mut all = siblings(&self.path)?;
        // The same inode first: a copy begins with the same line.
        all.sort_by_key(|other| other.inode != from.inode);
        let found = all
            .iter()
            .filter(|other| from.first.is_some() || other.inode == from.inode)
            .find(|other| other.holds(from.offset, &from.first));
        if let Some(found) = found {
            self.open = Some(Open::new(&found.path, from.offset)?);
            return Ok(false);
        }
        // All that was written to since it was last read is new.
        let read = SystemTime::from(from.read);
        let lost = from.offset > 0;
        self.open = self.oldest(|other| other.changed >= read || other.path == self.path)?;
        Ok(lost && self.open.is_some())
    }

    /// The oldest of the files beside it that `fits`, from its beginning.
    fn oldest(&self, fits: impl Fn(&Sibling) -> bool) -> Result<Option<Open>, FollowError> {
        let mut all = siblings(&self.path)?;
        all.retain(|other| fits(other) && (other.length > 0 || other.path == self.path));
        // At its place is what is written to now.
        all.sort_by_key(|other| (other.path == self.path, other.changed));
        let oldest = all.first();
        oldest.map(|oldest| Open::new(&oldest.path, 0)).transpose()
    }
}

impl Open {
    fn new(path: &Path, offset: u64) -> Result<Self, FollowError> {
        let file = open(path).map_err(failed("open", path))?;
        let meta = file.metadata().map_err(failed("look at", path))?;
        if !meta.is_file() {
            return Err(FollowError::NoFile {
                path: path.to_owned(),
            });
        }
        let first = first_line(&file).map_err(failed("read", path))?;
        Ok(Self {
            file,
            inode: meta.ino(),
            offset,
            first,
            superseded: None,
            finished: false,
            skipping: false,
        })
    }

    /// Whether it was emptied since, or is another file by now.
    fn was_cut_off(&mut self, path: &Path) -> Result<bool, FollowError> {
        let meta = self.file.metadata().map_err(failed("look at", path))?;
        if meta.len() < self.offset {
            return Ok(true);
        }
        let now = first_line(&self.file).map_err(failed("read", path))?;
        match (&self.first, now) {
            (None, now) => {
                self.first = now;
                Ok(false)
            }
            (Some(first), Some(now)) => Ok(*first != now),
            (Some(_), None) => Ok(true),
        }
    }

    /// Reads a chunk; whether there was any.
    fn read(
        &mut self,
        path: &Path,
        most: usize,
        each: &mut impl FnMut(&str),
    ) -> Result<bool, FollowError> {
        let mut buffer = vec![0; most];
        let length = self
            .file
            .read_at(&mut buffer, self.offset)
            .map_err(failed("read", path))?;
        let read = buffer.get(..length).unwrap_or_default();
        let whole = match read.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => read.get(..=end).unwrap_or_default(),
            // Its last line has no end, and will not get one.
            None if self.finished => read,
            None if length > LONGEST_LINE => {
                self.skipping = true;
                self.offset = self.offset.saturating_add(bytes(length));
                return Ok(true);
            }
            None => return Ok(false),
        };
        let mut lines = whole.split(|byte| *byte == b'\n');
        if std::mem::take(&mut self.skipping) {
            // The end of one that is too long.
            lines.next();
        }
        for line in lines.filter(|line| (1..=LONGEST_LINE).contains(&line.len())) {
            each(&String::from_utf8_lossy(line));
        }
        self.offset = self.offset.saturating_add(bytes(whole.len()));
        Ok(!whole.is_empty())
    }
}

/// The log, or what was rotated away of it.
#[derive(Debug)]
struct Sibling {
    path: PathBuf,
    inode: u64,
    length: u64,
    changed: SystemTime,
    first: Option<String>,
}

impl Sibling {
    /// Whether it is the file, or a copy of it, that was read so far.
    fn holds(&self, offset: u64, first: &Option<String>) -> bool {
        self.length >= offset
            && match first {
                Some(_) => self.first == *first,
                None => offset == 0,
            }
    }
}

/// The log and what was rotated away of it, as far as it can be read.
fn siblings(log: &Path) -> Result<Vec<Sibling>, FollowError> {
    let mut found = Vec::new();
    let directory = log.parent().unwrap_or(Path::new("/"));
    let name = log.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = fs::read_dir(directory).map_err(failed("look beside", log))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let other = entry.file_name();
        let Some(suffix) = other.as_encoded_bytes().strip_prefix(name) else {
            continue;
        };
        if !is_rotation(suffix) {
            continue;
        }
        // What goes away meanwhile is not there.
        let Ok(Some(meta)) = metadata(&path) else {
            continue;
        };
        let Ok(file) = open(&path) else {
            continue;
        };
        if found.len() < MOST_SIBLINGS {
            found.push(Sibling {
                inode: meta.ino(),
                length: meta.len(),
                changed: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                first: first_line(&file).map_err(failed("read", &path))?,
                path,
            });
        }
    }
    Ok(found)
}

/// Whether this is what rotation adds to a name: `.1`, `-20261120`, `-2026-11-20`. Somebody's own copies
/// (`.bak`) would be read twice, and what is compressed (`.2.gz`) not at all.
fn is_rotation(suffix: &[u8]) -> bool {
    match suffix {
        [] => true,
        [b'.' | b'-', number @ ..] => {
            !number.is_empty() && number.iter().all(|it| it.is_ascii_digit() || *it == b'-')
        }
        _ => false,
    }
}

/// A file's; none if there is no such file.
fn metadata(path: &Path) -> Result<Option<Metadata>, FollowError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta)),
        Ok(_) => Err(FollowError::NoFile {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("look at", path)(source)),
    }
}

/// Opens a file. What is in its place may be a pipe: nobody waits for it.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

/// The digest of the first line, once there is a whole one, or enough of it.
fn first_line(file: &File) -> io::Result<Option<String>> {
    let mut buffer = [0; FIRST];
    let length = file.read_at(&mut buffer, 0)?;
    let read = buffer.get(..length).unwrap_or_default();
    let line = match read.iter().position(|byte| *byte == b'\n') {
        Some(end) => read.get(..=end),
        None => (length == FIRST).then_some(read),
    };
    Ok(line.map(|line| {
        let whole = digest::digest(&digest::SHA256, line);
        let bytes = whole.as_ref().iter().take(8);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }))
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FollowError {
    let path = path.to_owned();
    move |source| FollowError::Io {
        action,
        path,
        source,
    }
}
