//! A directory by its descriptor, so that nobody can put another in its place half-way.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::SystemTime,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, openat, renameat2},
    sys::stat::{Mode, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// How many names are tried for a mail whose name is taken.
const MOST_NAMES: u32 = 1_000;

/// A directory.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a directory. The path is the operator's; only its last part must not be a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a directory in this one.
    pub fn below(&self, name: &str) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, DIRECTORY, Mode::empty())?))
    }

    /// As [`below`](Self::below), making it where it is missing.
    pub fn made_below(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => self.below(name),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it that are no hidden ones, sorted; at most `most`.
    pub fn names(&self, most: usize) -> io::Result<Vec<OsString>> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if !name.as_encoded_bytes().starts_with(b".") {
                names.push(name);
            }
            if names.len() >= most {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Calls `look` with each name in it that is no hidden one, until it says that it saw enough.
    pub fn each(&self, mut look: impl FnMut(&OsStr) -> io::Result<bool>) -> io::Result<()> {
        for entry in fs::read_dir(self.by_descriptor())? {
            let name = entry?.file_name();
            if !name.as_encoded_bytes().starts_with(b".") && !look(&name)? {
                break;
            }
        }
        Ok(())
    }

    /// Removes a file, or a link itself, that nobody moved or changed since `before`; whether it did.
    pub fn remove_if_older(&self, name: &OsStr, before: SystemTime) -> io::Result<bool> {
        let stat = match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let kind = stat.st_mode & libc::S_IFMT;
        let since_1970 = before.duration_since(SystemTime::UNIX_EPOCH);
        let before = since_1970.map_or(0, |since| since.as_secs());
        // When it was moved here: the time of the file itself is whatever its maker says.
        let is_old = u64::try_from(stat.st_ctime).is_ok_and(|moved| moved < before);
        if !is_old || !matches!(kind, libc::S_IFREG | libc::S_IFLNK) {
            return Ok(false);
        }
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file in it for reading, following no link and waiting for nobody.
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Moves what is called `name` (a link itself, not what it leads to) into `to`, where it is
    /// called `stem` and `flags`; never over anything. Returns the stem that was free.
    pub fn move_to(&self, name: &OsStr, to: &Self, stem: &str, flags: &str) -> io::Result<String> {
        for attempt in 0..MOST_NAMES {
            let stem = match attempt {
                0 => stem.to_owned(),
                number => format!("{stem},{number}"),
            };
            let target = format!("{stem}{flags}");
            match renameat2(
                &self.0,
                name,
                &to.0,
                target.as_str(),
                RenameFlags::RENAME_NOREPLACE,
            ) {
                Ok(()) => return Ok(stem),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Writes a new file; one that is there already is left as it is.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.0, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => File::from(file).write_all(text.as_bytes()),
            Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the directory is still what `path` leads to.
    pub fn is_at(&self, path: &Path) -> bool {
        let id = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
        let here = nix::sys::stat::fstat(&self.0).map(id);
        let there = fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW).map(id);
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    /// Its path by the descriptor, which leads to it wherever it is.
    pub fn by_descriptor(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_fd().as_raw_fd())
    }
}
