//! The file that a snapshot stands in: whole, or as it was before.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Snapshot;
use crate::system::sealed::Sealed;
pub use crate::system::sealed::SealedError as SnapshotError;

/// The version of its form is raised whenever [`Snapshot`] changes.
const FILE: Sealed = Sealed {
    name: "counts.snapshot",
    magic: "limiter-counts 1",
};

/// A snapshot as bytes.
///
/// # Errors
///
/// It cannot be written as JSON, which no snapshot is known for.
pub fn encode(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    FILE.encode(snapshot)
}

/// The snapshot in these bytes.
///
/// # Errors
///
/// [`SnapshotError::Broken`]: another version, cut off, changed.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    FILE.decode(bytes)
}

/// Where it is kept.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    FILE.path(state_dir)
}

/// Keeps a snapshot in the place of the last one. Gives its length, bytes.
///
/// # Errors
///
/// The state directory cannot be written: the last one is still there.
pub fn keep(state_dir: &Path, snapshot: &Snapshot) -> io::Result<usize> {
    FILE.keep(state_dir, snapshot)
}

/// The snapshot that is kept, if there is one.
///
/// # Errors
///
/// [`SnapshotError`].
pub fn load(state_dir: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    FILE.load(state_dir)
}

/// Moves a snapshot that cannot be used out of the way of the next, for whoever wants to look at
/// it. Gives where it is now.
///
/// # Errors
///
/// The state directory cannot be written.
pub fn set_aside(state_dir: &Path) -> io::Result<PathBuf> {
    FILE.set_aside(state_dir)
}
