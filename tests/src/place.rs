//! Where and as whom a process runs.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use crate::{Cgroup, Namespace};

/// Where and as whom a process runs: namespaces, cgroup, user.
#[derive(Clone, Debug)]
pub struct Place {
    namespace: Namespace,
    user_namespace: Option<Arc<OwnedFd>>,
    cgroup: PathBuf,
    uid: u32,
    gid: u32,
}

impl Place {
    /// As root in these namespaces and this cgroup.
    #[must_use]
    pub fn new(namespace: &Namespace, cgroup: &Cgroup) -> Self {
        Self {
            namespace: namespace.clone(),
            user_namespace: None,
            cgroup: cgroup.directory().to_path_buf(),
            uid: 0,
            gid: 0,
        }
    }

    /// The same in a user namespace: uids are those inside.
    #[must_use]
    pub fn in_user_namespace(mut self, user: Arc<OwnedFd>) -> Self {
        self.user_namespace = Some(user);
        self
    }

    /// The same, in this cgroup.
    #[must_use]
    pub fn in_cgroup(mut self, cgroup: &Cgroup) -> Self {
        self.cgroup = cgroup.directory().to_path_buf();
        self
    }

    /// The same, as this user, whose group has the same number.
    #[must_use]
    pub fn as_uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self.gid = uid;
        self
    }

    /// The user it runs as, as seen where it runs.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The namespaces.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The cgroup's directory.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A command that runs there. The process is killed when the thread that starts it ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let place = self.clone();
        let procs = OpenOptions::new()
            .write(true)
            .open(self.cgroup.join("cgroup.procs"))
            .unwrap_or_else(|error| panic!("the cgroup {:?} is gone: {error}", self.cgroup));
        // SAFETY: between fork and exec the closure makes system calls on descriptors that were
        // opened before, and neither allocates nor takes locks.
        unsafe {
            command.pre_exec(move || {
                write_zero(procs.as_raw_fd())?;
                if let Some(mount) = place.namespace.mount() {
                    check(libc::setns(mount.as_raw_fd(), libc::CLONE_NEWNS))?;
                }
                // The owner of the network namespace is the user namespace: enter that first.
                if let Some(user) = &place.user_namespace {
                    check(libc::setns(user.as_raw_fd(), libc::CLONE_NEWUSER))?;
                }
                check(libc::setns(
                    place.namespace.net().as_raw_fd(),
                    libc::CLONE_NEWNET,
                ))?;
                check(libc::setgroups(0, std::ptr::null()))?;
                check(libc::setresgid(place.gid, place.gid, place.gid))?;
                check(libc::setresuid(place.uid, place.uid, place.uid))?;
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
            });
        }
        command
    }
}

/// Moves the calling process into the cgroup whose `cgroup.procs` is open as `procs`.
fn write_zero(procs: RawFd) -> io::Result<()> {
    // SAFETY: the buffer is a static of one byte.
    match unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) } {
        1 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
