//! A file that only grows by whole records, whatever happens half-way.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Where records end in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// After every newline.
    Lines,
    /// After every so many bytes.
    Fixed(u64),
}

/// A file open for appending whole records.
#[derive(Debug)]
pub struct Appender {
    file: File,
    /// Where the last whole record ends.
    good: u64,
    /// The file may hold part of a record behind `good`.
    torn: bool,
}

impl Appender {
    /// Opens the file, creating it (0600), and cuts off what a crash left of a last record.
    pub fn open(path: &Path, shape: Shape) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let length = file.metadata()?.len();
        let good = match shape {
            Shape::Fixed(size) => length - length % size,
            Shape::Lines => last_newline(&mut file, length)?,
        };
        let mut appender = Self {
            file,
            good,
            torn: good != length,
        };
        appender.mend()?;
        Ok(appender)
    }

    /// Appends whole records: all of `bytes` or nothing.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mend()?;
        self.torn = true;
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => {
                self.good += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.torn = false;
            }
            // Best effort: the next append tries again before it writes.
            Err(_) => drop(self.mend()),
        }
        written
    }

    /// Waits until what was appended is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// How long the file is, bytes.
    pub const fn len(&self) -> u64 {
        self.good
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.good)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// Where the last newline ends, looking back from `length`.
fn last_newline(file: &mut File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 4096;
    let mut end = length;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        file.take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(at).unwrap_or(0) + 1);
        }
        end = start;
    }
    Ok(0)
}
