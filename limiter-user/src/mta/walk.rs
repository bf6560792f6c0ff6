//! Lists the directories of a queue, and says cheaply whether they changed since.

use std::{
    fs, io,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::MtaError;

/// Changes this short before a look may have left no trace in the time of the directory: the
/// kernel's clock for files ticks in up to 10 ms.
const BLUR_NS: i128 = 50_000_000;

/// A file of a queue.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its name.
    pub(super) name: String,
    /// Its inode.
    pub(super) inode: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// What directories looked like.
#[derive(Debug, Default)]
pub(super) struct Looked {
    directories: Vec<(PathBuf, i128)>,
    /// Something happened just before, or while looking.
    blurred: bool,
}

impl Looked {
    /// Whether anything came, went or was renamed in these directories since.
    pub(super) fn changed(&self) -> bool {
        self.blurred
            || self.directories.is_empty()
            || self
                .directories
                .iter()
                .any(|(path, then)| modified_ns(path).is_none_or(|now| now != *then))
    }

    /// Lists the files in `root` and in its directories with names of one character (that is how
    /// mail servers spread large queues), `depth` levels deep. A directory that does not exist is empty.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(super) fn list(
        &mut self,
        root: &Path,
        depth: u32,
        out: &mut Vec<Found>,
    ) -> Result<(), MtaError> {
        // The time is taken first: what changes while it is read is read again.
        match modified_ns(root) {
            Some(modified) => {
                self.blurred |= modified > now_ns() - BLUR_NS;
                self.directories.push((root.to_path_buf(), modified));
            }
            None => return Ok(()),
        }
        let failed = |source| MtaError::Read {
            path: root.to_path_buf(),
            source,
        };
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.len() == 1 {
                if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.list(&entry.path(), depth - 1, out)?;
                }
            } else if !name.starts_with('.') {
                out.push(Found {
                    name,
                    inode: entry.ino(),
                    path: entry.path(),
                });
            }
        }
        Ok(())
    }
}

fn modified_ns(path: &Path) -> Option<i128> {
    let meta = fs::symlink_metadata(path).ok()?;
    meta.is_dir()
        .then(|| i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()))
}

fn now_ns() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|time| i128::try_from(time.as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn what_comes_goes_or_moves_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("A/B")).unwrap();
        fs::write(root.path().join("A/B/message"), "").unwrap();
        fs::write(root.path().join("other"), "").unwrap();
        let look = || {
            thread::sleep(Duration::from_millis(80));
            let mut looked = Looked::default();
            let mut found = Vec::new();
            looked.list(root.path(), 2, &mut found).unwrap();
            let mut names: Vec<_> = found.into_iter().map(|found| found.name).collect();
            names.sort();
            (looked, names)
        };
        let (looked, names) = look();
        assert_eq!(names, ["message", "other"]);
        assert!(!looked.changed());
        fs::rename(root.path().join("A/B/message"), root.path().join("A/here")).unwrap();
        assert!(looked.changed());
        let (looked, names) = look();
        assert_eq!(names, ["here", "other"]);
        assert!(!looked.changed());
        fs::remove_file(root.path().join("other")).unwrap();
        assert!(looked.changed());
    }

    #[test]
    fn what_just_happened_may_go_on() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("one"), "").unwrap();
        let mut looked = Looked::default();
        looked.list(root.path(), 0, &mut Vec::new()).unwrap();
        assert!(looked.changed());
        let mut none = Looked::default();
        none.list(&root.path().join("none"), 0, &mut Vec::new())
            .unwrap();
        assert!(none.changed());
    }
}
