//! The pin directory: what keeps enforcing when the agent is gone. Whoever can write there can
//! open the gate, so it is root's alone, and looked at before it is used.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use limiter_common::abi;

use super::{KernelError, sys};
use crate::system::mounts::mount_bpf;

/// The magic number of a BPF file system.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Held by the agent that keeps what is pinned in step; nobody else may touch it meanwhile.
#[derive(Debug)]
pub struct PinLock(#[expect(dead_code, reason = "the lock lives as long as it is open")] File);

/// The directories in which things are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    root: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// The pins below `root`, for this version of the layout.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            version: root.join(format!("v{}", abi::VERSION)),
        }
    }

    /// Where the map `name` is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.version.join("maps").join(name)
    }

    /// Where the link of the program `name` is pinned.
    #[must_use]
    pub fn link(&self, name: &str) -> PathBuf {
        self.version.join("links").join(name)
    }

    /// Where links are pinned.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    /// The pin directory, of all versions.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this version of the layout.
    #[must_use]
    pub fn version_dir(&self) -> &Path {
        &self.version
    }

    /// Whether anything of this version is pinned.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.map(abi::maps::SETTINGS).exists()
    }

    /// Makes the directories, or makes sure that those that are there are safe.
    ///
    /// # Errors
    ///
    /// The parent is no BPF file system, or a directory is not root's alone.
    pub fn prepare(&self) -> Result<(), KernelError> {
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        if !parent.exists() {
            make_dir(parent)?;
        }
        check_file_system(parent)?;
        for dir in [
            &self.root,
            &self.version,
            &self.version.join("maps"),
            &self.version.join("links"),
        ] {
            make_dir(dir)?;
            check_owner(dir)?;
        }
        Ok(())
    }

    /// Makes what is missing of the directories again, and mounts the BPF file system again at
    /// `mount`, where it was, if it is gone. Says what had to be done.
    ///
    /// # Errors
    ///
    /// A directory is not root's alone, or the file system cannot be mounted.
    pub fn restore(&self, mount: Option<&Path>) -> Result<Option<String>, KernelError> {
        let mut done = None;
        if let Some(mount) = mount
            && check_file_system(mount).is_err()
        {
            mount_bpf(mount).map_err(KernelError::io("mount the BPF file system at", mount))?;
            done = Some(format!(
                "somebody unmounted the BPF file system at {}: it is mounted again, with \
                 everything of limiter's in it",
                mount.display()
            ));
        }
        self.prepare()?;
        Ok(done)
    }

    /// Takes the pins for this process, as long as the lock is kept. It goes with the process.
    ///
    /// # Errors
    ///
    /// [`KernelError::InUse`] if another process has them.
    pub fn lock(&self) -> Result<PinLock, KernelError> {
        let directory = File::open(&self.root).map_err(KernelError::io("open", &self.root))?;
        match directory.try_lock() {
            Ok(()) => Ok(PinLock(directory)),
            Err(TryLockError::WouldBlock) => Err(KernelError::InUse {
                path: self.root.clone(),
            }),
            Err(TryLockError::Error(error)) => Err(KernelError::io("lock", &self.root)(error)),
        }
    }

    /// Makes sure that what is pinned is safe to use.
    ///
    /// # Errors
    ///
    /// Nothing is pinned, or a directory is not root's alone.
    pub fn check(&self) -> Result<(), KernelError> {
        let settings = self.map(abi::maps::SETTINGS);
        let exist = settings.try_exists();
        if !exist.map_err(KernelError::io("look at", &settings))? {
            return Err(KernelError::NotPinned {
                path: self.version.clone(),
            });
        }
        for dir in [&self.root, &self.version] {
            check_owner(dir)?;
        }
        Ok(())
    }

    /// The directories of other versions of the layout that have links: something else enforces.
    #[must_use]
    pub fn other_versions(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let mut found: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| *path != self.version && is_version(path) && is_real_dir(path))
            .filter(|path| is_real_dir(&path.join("links")))
            .collect();
        found.sort();
        found
    }

    /// Removes every pin of every version: links first, so that nothing is enforced with half of
    /// its maps. Returns what was removed.
    ///
    /// # Errors
    ///
    /// All faults are collected; the first is returned after everything was tried.
    pub fn remove_all(&self) -> Result<Vec<PathBuf>, KernelError> {
        if fs::symlink_metadata(&self.root).is_err() {
            return Ok(Vec::new());
        }
        // Where somebody else can put links to anywhere, nothing is followed and nothing removed.
        check_file_system(&self.root)?;
        check_owner(&self.root)?;
        let mut removed = Vec::new();
        let mut first_error = None;
        let mut versions = self.other_versions();
        versions.push(self.version.clone());
        for version in &versions {
            for part in ["links", "maps"] {
                remove_dir(&version.join(part), &mut removed, &mut first_error);
            }
            remove_dir(version, &mut removed, &mut first_error);
        }
        if let Err(error) = fs::remove_dir(&self.root)
            && error.kind() != io::ErrorKind::NotFound
        {
            first_error.get_or_insert(KernelError::io("remove", &self.root)(error));
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(removed),
        }
    }

    /// Removes the pins of one other version.
    ///
    /// # Errors
    ///
    /// The first fault, after everything was tried.
    pub fn remove_version(version: &Path) -> Result<(), KernelError> {
        let mut removed = Vec::new();
        let mut first_error = None;
        for part in ["links", "maps"] {
            remove_dir(&version.join(part), &mut removed, &mut first_error);
        }
        remove_dir(version, &mut removed, &mut first_error);
        first_error.map_or(Ok(()), Err)
    }
}

fn make_dir(dir: &Path) -> Result<(), KernelError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(KernelError::io("make the directory", dir)(error)),
    }
}

fn check_file_system(dir: &Path) -> Result<(), KernelError> {
    let path = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes())
        .map_err(|_| KernelError::io("use", dir)(io::Error::from_raw_os_error(libc::EINVAL)))?;
    // SAFETY: zero is valid for this structure of integers.
    let mut info = unsafe { std::mem::zeroed::<libc::statfs>() };
    // SAFETY: a terminated string, and room for the result.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut info) } != 0 {
        return Err(KernelError::io("look at", dir)(io::Error::last_os_error()));
    }
    if info.f_type == BPF_FS_MAGIC {
        return Ok(());
    }
    Err(KernelError::UnsafePins {
        path: dir.to_owned(),
        problem: "is not on a BPF file system (mount -t bpf bpf /sys/fs/bpf)".to_owned(),
    })
}

/// Makes sure that a directory is root's alone.
pub(super) fn check_owner(dir: &Path) -> Result<(), KernelError> {
    let unsafe_pins = |problem: String| KernelError::UnsafePins {
        path: dir.to_owned(),
        problem,
    };
    let metadata = fs::symlink_metadata(dir).map_err(KernelError::io("look at", dir))?;
    if !metadata.is_dir() {
        return Err(unsafe_pins("is no directory".to_owned()));
    }
    if metadata.uid() != 0 {
        return Err(unsafe_pins(format!("belongs to uid {}", metadata.uid())));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode != 0o700 {
        return Err(unsafe_pins(format!("has mode {mode:04o}")));
    }
    Ok(())
}

/// Whether a path is named as this program names a version's directory.
fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix('v'))
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether there is a directory, and not a link to one.
fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Removes the files in a directory and then the directory, if it is one and root's alone.
fn remove_dir(dir: &Path, removed: &mut Vec<PathBuf>, first_error: &mut Option<KernelError>) {
    if fs::symlink_metadata(dir).is_err() {
        return;
    }
    if let Err(error) = check_owner(dir) {
        first_error.get_or_insert(error);
        return;
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            first_error.get_or_insert(KernelError::io("read", dir)(error));
            return;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if is_real_dir(&path) {
            continue;
        }
        // A link may be pinned elsewhere too, or held by somebody. Maps have nothing to detach.
        if let Ok(object) = sys::open_pin(&path) {
            let _ = sys::link_detach(object.as_fd());
        }
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) => {
                first_error.get_or_insert(KernelError::io("remove", &path)(error));
            }
        }
    }
    if let Err(error) = fs::remove_dir(dir) {
        first_error.get_or_insert(KernelError::io("remove", dir)(error));
    }
}
