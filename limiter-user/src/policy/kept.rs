//! What was read of tenant files last time, so that a reload reads what changed.
//!
//! A file is taken for unchanged by what the system says of it: device, inode, size, and when it and
//! its inode were changed last. Nobody sets the latter but the kernel, so that neither `touch` nor a
//! copy with the times of the original is mistaken. Two changes within one tick of the kernel's clock
//! look the same: what was changed right before it was read is read again the next time. A file that
//! is read is compared part by part, by a cryptographic sum.

use std::{
    collections::{HashMap, HashSet},
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{findings::Findings, section_tenant::RawTenant};

/// How long before it is read a file must have been changed for its times to say that it was not
/// changed since, seconds.
const SETTLED_S: i64 = 2;

/// What was read last time.
#[derive(Debug, Default)]
pub struct Kept {
    files: HashMap<PathBuf, Arc<KeptFile>>,
}

/// What was read of a file.
#[derive(Debug)]
pub(super) struct KeptFile {
    /// What the system said of it; `None`: it may have changed since without a sign.
    pub stamp: Option<Stamp>,
    /// Its parts, in their order.
    pub parts: Vec<KeptPart>,
}

/// What was read of a part of a file.
#[derive(Clone, Debug)]
pub(super) struct KeptPart {
    pub sum: Sum,
    pub read: Arc<(Vec<RawTenant>, Findings)>,
}

/// What a part says, and behind how many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum([u8; SHA256_OUTPUT_LEN]);

/// What the system says of a file, if it changes whenever the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    inode_changed: (i64, i64),
}

/// Directories that were found safe during one reading.
#[derive(Debug, Default)]
pub(super) struct SafeDirectories(Mutex<HashSet<PathBuf>>);

impl Kept {
    /// What was read of the file at `path`.
    pub(super) fn file(&self, path: &Path) -> Option<&Arc<KeptFile>> {
        self.files.get(path)
    }

    /// Keeps what was read this time, in place of what was read before.
    pub(super) fn replace(&mut self, files: HashMap<PathBuf, Arc<KeptFile>>) {
        self.files = files;
    }
}

impl KeptFile {
    /// Its parts by what they say.
    pub fn by_sum(&self) -> HashMap<Sum, &KeptPart> {
        self.parts.iter().map(|part| (part.sum, part)).collect()
    }
}

impl Sum {
    /// Of a part of a file with so many lines before it.
    pub fn of(lines_before: usize, text: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&lines_before.to_le_bytes());
        context.update(text.as_bytes());
        let mut sum = [0; SHA256_OUTPUT_LEN];
        for (place, byte) in sum.iter_mut().zip(context.finish().as_ref()) {
            *place = *byte;
        }
        Self(sum)
    }
}

impl Stamp {
    /// What the system says of a file that is about to be read. `None`: too fresh.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Self::at(metadata, i64::try_from(now.as_secs()).ok()?)
    }

    /// As [`of`](Self::of), at the second `now_s` of the wall clock.
    pub fn at(metadata: &Metadata, now_s: i64) -> Option<Self> {
        let settled_s = now_s.checked_sub(SETTLED_S)?;
        let old = metadata.mtime() < settled_s && metadata.ctime() < settled_s;
        old.then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            inode_changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl SafeDirectories {
    /// Whether the directory was found safe.
    pub fn contains(&self, directory: &Path) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(directory)
    }

    /// Remembers that it is safe.
    pub fn insert(&self, directory: &Path) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(directory.to_owned());
    }
}
