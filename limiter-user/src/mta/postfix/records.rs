//! Reads records of a Postfix queue file: a byte that says which, a length of seven bits a byte,
//! the text. The format is that of all releases since 2.3 (`rec_type.h` in its sources).

use std::{fs::File, io, os::unix::fs::FileExt};

/// Whole small messages come with one read.
const CHUNK: usize = 4096;
/// Longer records than this are not written (`line_length_limit` and the limits of addresses).
const MOST_RECORD: usize = 64 << 10;
/// So much of a file is read before it is given up.
pub(super) const MOST_READ: usize = 4 << 20;

/// The size of the message, and where it begins: the first record of a complete file.
pub(super) const SIZE: u8 = b'C';
/// When it arrived: seconds and microseconds.
pub(super) const TIME: u8 = b'T';
/// `name=value`, from Postfix itself.
pub(super) const ATTRIBUTE: u8 = b'A';
/// A recipient, or how it was written: the attributes of the message are before.
pub(super) const RECIPIENTS: [u8; 4] = *b"ROD/";
/// The message begins.
pub(super) const MESSAGE: u8 = b'M';
/// A line, or the last part of one.
pub(super) const LINE: u8 = b'N';
/// A part of a line that goes on.
pub(super) const PART: u8 = b'L';
/// Go on reading elsewhere; 0: go on here.
pub(super) const POINTER: u8 = b'p';
/// The message ends.
pub(super) const EXTRA: u8 = b'X';
/// The file ends.
pub(super) const END: u8 = b'E';

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Its kind.
    pub(super) kind: u8,
    /// Its text.
    pub(super) text: &'a [u8],
    /// Where the next one begins.
    pub(super) next: u64,
}

impl Record<'_> {
    /// The numbers in it, as in [`SIZE`] and [`POINTER`].
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.text
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map_while(|word| std::str::from_utf8(word).ok()?.parse().ok())
    }
}

/// A queue file, read piecemeal.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    chunk: Vec<u8>,
    at: u64,
    /// The chunk reaches to the end of the file.
    to_end: bool,
    left: usize,
}

impl Records {
    /// Of the file at most `most` bytes are read.
    pub(super) fn new(file: File, most: usize) -> Self {
        Self {
            file,
            chunk: Vec::new(),
            at: 0,
            to_end: false,
            left: most,
        }
    }

    /// The record that begins at `at`.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no whole record.
    pub(super) fn at(&mut self, at: u64) -> io::Result<Record<'_>> {
        let head = self.bytes(at, 1, 6)?;
        let kind = head.first().copied().unwrap_or(END);
        let mut length = 0_usize;
        let mut used = 1;
        loop {
            let Some(&byte) = head.get(used).filter(|_| used < 6) else {
                return Err(malformed("a record's length"));
            };
            length |= usize::from(byte & 0x7f) << (7 * (used - 1));
            used += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > MOST_RECORD {
            return Err(malformed("a record's length"));
        }
        let whole = used + length;
        let next = at + u64::try_from(whole).unwrap_or(u64::MAX);
        let text = self.bytes(at, whole, whole)?;
        Ok(Record {
            kind,
            text: text.get(used..whole).unwrap_or_default(),
            next,
        })
    }

    /// At least `least` bytes from `at` on, `most` if there are so many.
    fn bytes(&mut self, at: u64, least: usize, most: usize) -> io::Result<&[u8]> {
        let have = |chunk: &[u8], from: u64| {
            let skip = usize::try_from(at.checked_sub(from)?).ok()?;
            (skip < chunk.len()).then_some(skip)
        };
        let mut skip = have(&self.chunk, self.at);
        if skip.is_none_or(|skip| !self.to_end && self.chunk.len() - skip < most) {
            let want = most.max(CHUNK);
            self.left = self
                .left
                .checked_sub(want)
                .ok_or_else(|| malformed("an end of its headers"))?;
            self.chunk.resize(want, 0);
            let mut got = 0;
            while got < want {
                let offset = at + u64::try_from(got).unwrap_or(u64::MAX);
                match self.file.read_at(&mut self.chunk[got..], offset) {
                    Ok(0) => break,
                    Ok(count) => got += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.chunk.truncate(got);
            self.at = at;
            self.to_end = got < want;
            skip = (got > 0).then_some(0);
        }
        let rest = skip
            .and_then(|skip| self.chunk.get(skip..))
            .unwrap_or_default();
        if rest.len() < least {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(rest)
    }
}

/// A queue file that has not what it should have.
pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the queue file has not {what}"),
    )
}
