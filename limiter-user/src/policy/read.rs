//! The bytes of configuration files, from files that nobody else can write.
//!
//! The agent is root: whoever can change what it reads rules the node. A file must be a regular
//! one, its owner root (or the user the agent runs as), and neither the group nor the world may
//! write it; the same goes for the directory that holds it.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::kept::SafeDirectories;

/// The largest file, in bytes.
pub const MAX_FILE: u64 = 64 * 1024 * 1024;
const MAX_FILE_MIB: u64 = MAX_FILE / (1024 * 1024);

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// The system does not let the agent have it.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A directory, a device, a pipe or a socket.
    #[error("is {0}, not a regular file")]
    Kind(&'static str),
    /// It, or its directory, belongs to somebody else.
    #[error("{what} belongs to uid {uid}, who could change it")]
    Owner {
        /// The file, or its directory.
        what: Subject,
        /// The owner.
        uid: u32,
    },
    /// Others can write it, or its directory.
    #[error("{what} can be written by others (mode {mode:04o})")]
    Writable {
        /// The file, or its directory.
        what: Subject,
        /// The permission bits.
        mode: u32,
    },
    /// More than [`MAX_FILE`].
    #[error("is {size} bytes long")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
    },
    /// Not text.
    #[error("is not UTF-8 text: byte {offset} (line {line}) is {byte:#04x}")]
    Binary {
        /// Where the first such byte is, counted from 0.
        offset: usize,
        /// The line it is on, counted from 1.
        line: usize,
        /// The byte.
        byte: u8,
    },
}

/// What a permission is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The file itself.
    File(PathBuf),
    /// The directory that holds it.
    Directory(PathBuf),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(_) => write!(f, "the file"),
            Self::Directory(path) => write!(f, "its directory {}", path.display()),
        }
    }
}

impl Subject {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }
}

impl ReadError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing => {
                "create it; an empty file is a valid configuration (it observes)".into()
            }
            Self::Io(_) => "let the agent's user read it and the directories above it".into(),
            Self::Kind(_) => "a regular file, or a symbolic link to one".into(),
            Self::Owner { what, .. } => format!("chown root {}", quoted(what.path())),
            Self::Writable {
                what: what @ Subject::File(_),
                ..
            } => format!("chmod go-w {}", quoted(what.path())),
            Self::Writable { what, .. } => {
                format!("chmod o-w {}", quoted(what.path()))
            }
            Self::TooLarge { .. } => format!(
                "at most {MAX_FILE} bytes ({MAX_FILE_MIB} MiB); spread the tenants over several \
                 files"
            ),
            Self::Binary { .. } => "YAML as UTF-8 text, without control characters".into(),
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let simple = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(simple) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The text of the file at `path`.
///
/// # Errors
///
/// Returns why it cannot be used. A file that is too large is refused without being read, and a
/// pipe or device is never opened for long enough to block.
pub fn text(path: &Path) -> Result<String, ReadError> {
    // Looked at first, so that no device is opened, and again once open, so that nothing can be
    // put in its place in between.
    check_path(path)?;
    Ok(opened(path)?.0)
}

/// What the system says of a file that nobody else can change or replace, as [`check_path`];
/// directories that are `known` are not looked at again.
///
/// # Errors
///
/// Returns why it cannot be used.
pub(super) fn metadata(path: &Path, known: &SafeDirectories) -> Result<Metadata, ReadError> {
    let metadata = std::fs::symlink_metadata(path).map_err(missing)?;
    if metadata.is_symlink() {
        check_path(path)?;
        return std::fs::metadata(path).map_err(missing);
    }
    check(path, &metadata)?;
    // Without a link at its end the file is in the directory that its name says.
    let directory = path.parent().filter(|_| path.is_absolute());
    if directory.is_none_or(|directory| !known.contains(directory)) {
        check_directories(path)?;
        directory.inspect(|directory| known.insert(directory));
    }
    Ok(metadata)
}

/// The text of a file that was looked at, and what the system said of it when it was opened.
///
/// # Errors
///
/// Returns why it cannot be used.
pub(super) fn opened(path: &Path) -> Result<(String, Metadata), ReadError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)
        .map_err(missing)?;
    let metadata = file.metadata()?;
    check(path, &metadata)?;
    let text = read(file, metadata.len())?;
    Ok((text, metadata))
}

/// Whether nobody else can change the file at `path`, or put another in its place.
///
/// # Errors
///
/// Returns why it cannot be used.
pub fn check_path(path: &Path) -> Result<(), ReadError> {
    check(path, &std::fs::metadata(path).map_err(missing)?)?;
    check_directories(path)
}

fn missing(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Io(error),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    let kind = metadata.file_type();
    if !kind.is_file() {
        return Err(ReadError::Kind(if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a named pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        }));
    }
    let mode = metadata.mode() & 0o7777;
    let what = || Subject::File(path.to_owned());
    if !trusted(metadata.uid()) {
        return Err(ReadError::Owner {
            what: what(),
            uid: metadata.uid(),
        });
    }
    if mode & 0o022 != 0 {
        return Err(ReadError::Writable { what: what(), mode });
    }
    if metadata.len() > MAX_FILE {
        return Err(ReadError::TooLarge {
            size: metadata.len(),
        });
    }
    Ok(())
}

/// The directory that holds the name, and where that is a link, the one that holds the file.
fn check_directories(path: &Path) -> Result<(), ReadError> {
    let real = std::fs::canonicalize(path)?;
    let named = std::path::absolute(path)?;
    let mut directories: Vec<&Path> = [named.parent(), real.parent()]
        .into_iter()
        .flatten()
        .collect();
    directories.dedup();
    for directory in directories {
        let metadata = std::fs::metadata(directory)?;
        let mode = metadata.mode() & 0o7777;
        let what = || Subject::Directory(directory.to_owned());
        // In a sticky directory only the owner of a file can replace it.
        let sticky = mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !sticky {
            return Err(ReadError::Writable { what: what(), mode });
        }
        if !trusted(metadata.uid()) {
            return Err(ReadError::Owner {
                what: what(),
                uid: metadata.uid(),
            });
        }
    }
    Ok(())
}

fn trusted(uid: u32) -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    uid == 0 || uid == unsafe { libc::geteuid() }
}

fn read(file: File, size: u64) -> Result<String, ReadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    // It may grow while it is read.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > MAX_FILE {
        return Err(ReadError::TooLarge { size: length });
    }
    let control =
        |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || *byte == 0x7f;
    if let Some(offset) = bytes.iter().position(control) {
        return Err(binary(&bytes, offset));
    }
    String::from_utf8(bytes)
        .map_err(|error| binary(error.as_bytes(), error.utf8_error().valid_up_to()))
}

fn binary(bytes: &[u8], offset: usize) -> ReadError {
    let before = bytes.get(..offset).unwrap_or_default();
    ReadError::Binary {
        offset,
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        byte: bytes.get(offset).copied().unwrap_or_default(),
    }
}
