//! Namespaces without names: held by file descriptors, gone when those are closed.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// A network namespace, with a mount namespace of its own if asked for.
#[derive(Clone, Debug)]
pub struct Namespace {
    net: Arc<OwnedFd>,
    mount: Option<Arc<OwnedFd>>,
}

impl Namespace {
    /// A network namespace with nothing but a loopback interface that is down.
    #[must_use]
    pub fn network() -> Self {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("a network namespace can be made: run as root");
            Self {
                net: own("net"),
                mount: None,
            }
        })
    }

    /// A network namespace and a mount namespace. `prepare` runs inside and mounts what it likes:
    /// nothing of it is seen outside.
    pub fn with_mounts(prepare: impl FnOnce() + Send) -> Self {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .expect("namespaces can be made: run as root");
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .expect("mounts can be made private");
            prepare();
            Self {
                net: own("net"),
                mount: Some(own("mnt")),
            }
        })
    }

    /// A network namespace that somebody else made.
    #[must_use]
    pub fn from_network(net: OwnedFd) -> Self {
        Self {
            net: Arc::new(net),
            mount: None,
        }
    }

    /// The network namespace.
    #[must_use]
    pub fn net(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// The mount namespace, if it has one.
    #[must_use]
    pub fn mount(&self) -> Option<BorrowedFd<'_>> {
        self.mount.as_ref().map(|fd| fd.as_fd())
    }

    /// A path by which `ip` finds the network namespace, while this process lives.
    #[must_use]
    pub fn net_path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.net.as_raw_fd()
        ))
    }

    /// Runs `work` inside, in a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            if let Some(mount) = self.mount() {
                unshare(CloneFlags::CLONE_FS).expect("a thread can have its own root");
                setns(mount, CloneFlags::CLONE_NEWNS).expect("the mount namespace can be entered");
            }
            setns(self.net(), CloneFlags::CLONE_NEWNET)
                .expect("the network namespace can be entered");
            work()
        })
    }
}

/// This thread's own namespace of the kind `name`.
fn own(name: &str) -> Arc<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{name}");
    Arc::new(File::open(path).expect("proc is mounted").into())
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
