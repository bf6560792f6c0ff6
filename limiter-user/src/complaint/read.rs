//! Reading a report into memory, never more than the limit.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{limits::Limits, refusal::Refusal};

/// Reads all of `from`, at most `limits.bytes`.
///
/// Memory never exceeds the limit by more than a few bytes, whatever `from` holds.
///
/// # Errors
/// What the system says. Too long a report is no error of the system: the inner result says so.
pub fn read_bounded(from: impl Read, limits: &Limits) -> io::Result<Result<Vec<u8>, Refusal>> {
    let limit = u64::try_from(limits.bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limits.bytes {
        return Ok(Err(Refusal::TooLarge {
            limit: limits.bytes,
        }));
    }
    Ok(Ok(bytes))
}

/// Opens a regular file without following a link at its end and without ever waiting (for the
/// other end of a pipe, say), and reads it as [`read_bounded`] does. A file that is too long is
/// not read at all.
///
/// # Errors
/// What the system says: `ELOOP` for a symbolic link. What is no regular file is
/// [`io::ErrorKind::InvalidInput`].
pub fn read_file(path: &Path, limits: &Limits) -> io::Result<Result<Vec<u8>, Refusal>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    read_open(file, limits)
}

/// As [`read_file`], of a file that is open already.
pub(super) fn read_open(file: File, limits: &Limits) -> io::Result<Result<Vec<u8>, Refusal>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a regular file",
        ));
    }
    if metadata.len() > u64::try_from(limits.bytes).unwrap_or(u64::MAX) {
        return Ok(Err(Refusal::TooLarge {
            limit: limits.bytes,
        }));
    }
    read_bounded(file, limits)
}
