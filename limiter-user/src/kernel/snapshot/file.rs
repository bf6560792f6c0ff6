//! The snapshot as bytes, and the file that it stands in: whole, or as it was before.
//!
//! A line that says what it is, of which version, how long and with which checksum; then JSON.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::Snapshot;
use crate::system::durable;

/// Its name in the state directory.
const NAME: &str = "counts.snapshot";

/// What it is, and the version of its form: raised whenever [`Snapshot`] changes.
const MAGIC: &str = "limiter-counts 1";

/// Why a snapshot cannot be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none, or not whole.
    #[error("{what}")]
    Broken {
        /// What is wrong with it.
        what: String,
    },
}

/// A snapshot as bytes.
///
/// # Errors
///
/// It cannot be written as JSON, which no snapshot is known for.
pub fn encode(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(snapshot)?;
    let (sum, length) = (crc32fast::hash(&body), body.len());
    let mut bytes = format!("{MAGIC} {length} {sum:08x}\n").into_bytes();
    bytes.extend(body);
    Ok(bytes)
}

/// The snapshot in these bytes.
///
/// # Errors
///
/// [`SnapshotError::Broken`]: another version, cut off, changed.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let broken = |what: String| SnapshotError::Broken { what };
    let end = bytes.iter().take(80).position(|byte| *byte == b'\n');
    let Some(end) = end else {
        return Err(broken("it does not begin as a snapshot does".to_owned()));
    };
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let wanted = format!("{MAGIC} {} {:08x}", body.len(), crc32fast::hash(body));
    if line != wanted.as_bytes() {
        let found = String::from_utf8_lossy(line);
        return Err(broken(format!(
            "it is not whole, or of another version: it begins with {found:?}, what is there \
             would need {wanted:?}"
        )));
    }
    serde_json::from_slice(body).map_err(|why| broken(format!("it makes no sense: {why}")))
}

/// Where it is kept.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

/// Keeps a snapshot in the place of the last one. Gives its length, bytes.
///
/// # Errors
///
/// The state directory cannot be written: the last one is still there.
pub fn keep(state_dir: &Path, snapshot: &Snapshot) -> io::Result<usize> {
    let bytes = encode(snapshot)?;
    durable::replace(&path(state_dir), &bytes)?;
    Ok(bytes.len())
}

/// The snapshot that is kept, if there is one.
///
/// # Errors
///
/// [`SnapshotError`].
pub fn load(state_dir: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    let path = path(state_dir);
    match fs::read(&path) {
        Ok(bytes) => decode(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SnapshotError::Unreadable { path, source }),
    }
}

/// Moves a snapshot that cannot be used out of the way of the next, for whoever wants to look at
/// it. Gives where it is now.
///
/// # Errors
///
/// The state directory cannot be written.
pub fn set_aside(state_dir: &Path) -> io::Result<PathBuf> {
    let aside = path(state_dir).with_extension("broken");
    fs::rename(path(state_dir), &aside)?;
    Ok(aside)
}
