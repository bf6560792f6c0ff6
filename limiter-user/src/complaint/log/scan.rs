//! Reading the lines of a log that belong to a span of time, and no more.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{LogError, LogQuery, time};

/// The most that is read of a file, bytes.
const MOST_BYTES: u64 = 256 << 20;
/// A longer line is skipped.
const LONGEST_LINE: u64 = 16 << 10;
/// Lines are written a moment after what they tell of.
const SLACK: SignedDuration = SignedDuration::from_mins(2);
/// Where looking for the beginning stops, bytes: from there on reading is as quick.
const NEAR_ENOUGH: u64 = 1 << 20;

/// The log and the one before it.
pub(super) fn with_rotated(path: &Path) -> Vec<PathBuf> {
    let rotated = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    vec![rotated(".1"), rotated(".0"), path.to_owned()]
}

/// Hands every line of the span to `each`. Returns whether there was more than may be read.
pub(super) fn lines(
    path: &Path,
    query: &LogQuery,
    mut each: impl FnMut(&str),
) -> Result<bool, LogError> {
    let error = |source| LogError {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(error(source)),
    };
    let metadata = file.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let from = query.from.checked_sub(SLACK).unwrap_or(Timestamp::MIN);
    let until = query.until.checked_add(SLACK).unwrap_or(Timestamp::MAX);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let begin = begin(&mut reader, metadata.len(), from, query.until).map_err(error)?;
    reader.seek(SeekFrom::Start(begin)).map_err(error)?;
    let mut read = 0;
    let mut line = Vec::new();
    if begin > 0 {
        read += next_line(&mut reader, &mut line).map_err(error)?;
    }
    loop {
        let length = next_line(&mut reader, &mut line).map_err(error)?;
        if length == 0 {
            return Ok(false);
        }
        read += length;
        if read > MOST_BYTES {
            return Ok(true);
        }
        let text = String::from_utf8_lossy(&line);
        match time::read(&text, query.until) {
            Some((time, _)) if time > until => return Ok(false),
            Some((time, _)) if time >= from => each(text.trim_end()),
            _ => {}
        }
    }
}

/// Where the span begins, or a little before: lines stand in the order of their times.
fn begin(
    reader: &mut BufReader<File>,
    length: u64,
    from: Timestamp,
    near: Timestamp,
) -> io::Result<u64> {
    let (mut low, mut high) = (0, length);
    let mut line = Vec::new();
    while high - low > NEAR_ENOUGH {
        let middle = low + (high - low) / 2;
        reader.seek(SeekFrom::Start(middle))?;
        // What begins in the middle is no line; a few may have no time.
        let mut before = None;
        next_line(reader, &mut line)?;
        for _ in 0..16 {
            if next_line(reader, &mut line)? == 0 {
                break;
            }
            if let Some((time, _)) = time::read(&String::from_utf8_lossy(&line), near) {
                before = Some(time < from);
                break;
            }
        }
        match before {
            Some(true) => low = middle,
            Some(false) => high = middle,
            // Nothing there says when it was: read on from where that is known.
            None => break,
        }
    }
    Ok(low)
}

/// Reads a line; of a long one only the beginning is kept. Returns how long it was, 0 at the end.
fn next_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut length = u64::try_from(reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?)
        .unwrap_or(u64::MAX);
    while length > 0 && length.is_multiple_of(LONGEST_LINE) && line.last() != Some(&b'\n') {
        // What is too long tells nothing.
        line.clear();
        let more = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
        if more == 0 {
            break;
        }
        length = length.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        if line.last() == Some(&b'\n') {
            line.clear();
            break;
        }
    }
    Ok(length)
}
