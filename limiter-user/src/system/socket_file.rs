//! A UNIX socket in the file system: never in the way of a living agent, never open to anybody but
//! those it is meant for, not even for a moment.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use thiserror::Error;
use tokio::net::UnixListener;

/// Tells apart what one process binds in one directory at one time.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Why a socket cannot be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// An agent answers there.
    #[error(
        "an agent is already running at {path}; stop it first (systemctl stop limiter), or give \
         this one a `{key}` of its own",
        path = path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The key of the configuration that names it.
        key: &'static str,
    },
    /// Something that is no socket is there.
    #[error(
        "{path} exists and is no socket; remove it, or set `{key}` to another path",
        path = path.display()
    )]
    NotASocket {
        /// What is there.
        path: PathBuf,
        /// The key of the configuration that names it.
        key: &'static str,
    },
    /// The system refuses.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket, bound. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    /// Where connections arrive.
    pub listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    /// Held as long as the socket is: two agents starting at once do not steal each other's.
    _lock: File,
}

impl SocketFile {
    /// Binds `path`, which `key` of the configuration names. `admit` says who may use it, while nobody
    /// can reach it yet. A socket left behind by an agent that died is replaced. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// An agent that lives there, something that is no socket, and what the system refuses.
    pub fn bind(
        path: &Path,
        key: &'static str,
        admit: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, SocketError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io {
                doing,
                path,
                source,
            }
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(io("create", directory))?;
        let lock = lock(path, key)?;
        refuse_if_taken(path, key)?;

        // Bound where nobody else can reach it, and moved into place when its permissions are
        // right: in one step, with no moment in which there is no socket.
        let private = directory.join(format!(
            ".{}.{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = fs::remove_dir_all(&private);
        DirBuilder::new()
            .mode(0o700)
            .create(&private)
            .map_err(io("create", &private))?;
        let bound = bind_in(&private, path, admit);
        let removed = fs::remove_dir_all(&private).map_err(io("remove", &private));
        let listener = bound?;
        removed?;
        let identity = fs::symlink_metadata(path)
            .map(|meta| (meta.dev(), meta.ino()))
            .ok();
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path)
            .map(|meta| (meta.dev(), meta.ino()))
            .ok();
        if now.is_some() && now == self.identity {
            // If it stays, the next agent replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(path: &Path, key: &'static str) -> Result<File, SocketError> {
    let lock_path = path.with_added_extension("lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|source| SocketError::Io {
            doing: "open",
            path: lock_path.clone(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(SocketError::InUse {
            path: path.to_owned(),
            key,
        }),
        Err(fs::TryLockError::Error(source)) => Err(SocketError::Io {
            doing: "lock",
            path: lock_path,
            source,
        }),
    }
}

/// Somebody may answer there although the lock is free: its file may have been removed.
fn refuse_if_taken(path: &Path, key: &'static str) -> Result<(), SocketError> {
    use std::os::unix::fs::FileTypeExt as _;
    let failed = |doing, source| SocketError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("look at", source)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
                key,
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
            key,
        }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(failed("ask who is at", source)),
    }
}

fn bind_in(
    private: &Path,
    path: &Path,
    admit: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<UnixListener, SocketError> {
    let socket = private.join("s");
    let failed = |doing, path: &Path, source| SocketError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    let listener = UnixListener::bind(&socket).map_err(|e| failed("bind", &socket, e))?;
    admit(&socket).map_err(|e| failed("set the permissions of", &socket, e))?;
    fs::rename(&socket, path).map_err(|e| failed("create", path, e))?;
    Ok(listener)
}
