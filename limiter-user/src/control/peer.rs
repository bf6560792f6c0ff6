//! Who is at the other end of the control socket.

use std::{
    fs,
    os::{fd::AsRawFd, unix::net::UnixStream},
};

use serde::{Deserialize, Serialize};

use super::users::user_name;

/// "No login" in `/proc/PID/loginuid`.
const NO_LOGIN: u32 = u32::MAX;

/// Who asks. The kernel vouches for `uid` and `pid`; the rest is looked up, best effort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The uid.
    pub uid: u32,
    /// The uid's name.
    pub user: Option<String>,
    /// As whom the person logged in, before any sudo: the kernel's audit login uid.
    pub login_uid: Option<u32>,
    /// That uid's name.
    pub login_user: Option<String>,
    /// The process id.
    pub pid: Option<u32>,
}

impl Peer {
    /// Looks up what is known of a uid and a process. May ask a directory service, so it may block.
    #[must_use]
    pub fn look(uid: u32, pid: Option<u32>) -> Self {
        let login_uid = pid.and_then(login_uid);
        Self {
            uid,
            user: user_name(uid),
            login_uid,
            login_user: login_uid.and_then(user_name),
            pid,
        }
    }

    /// This process.
    #[must_use]
    pub fn own() -> Self {
        // SAFETY: geteuid has no preconditions and cannot fail.
        let uid = unsafe { libc::geteuid() };
        Self::look(uid, Some(std::process::id()))
    }
}

/// The process that listens at the other end.
#[must_use]
pub fn pid_of(stream: &UnixStream) -> Option<u32> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the descriptor is open, and the buffer is as long as `length` says.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    (code == 0).then(|| u32::try_from(credentials.pid).ok())?
}

fn login_uid(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    let uid = text.trim().parse().ok()?;
    (uid != NO_LOGIN).then_some(uid)
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.user.as_deref().unwrap_or("?");
        write!(f, "{name} (uid {})", self.uid)?;
        if let Some(login) = self.login_uid.filter(|login| *login != self.uid) {
            let name = self.login_user.as_deref().unwrap_or("?");
            write!(f, ", logged in as {name} (uid {login})")?;
        }
        Ok(())
    }
}
