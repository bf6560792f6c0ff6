//! Ending MPTCP sessions through the programs that hold them.
//!
//! The kernel ends single connections of such a session on command, and not the session: without
//! connections it lives on for a minute and swallows what its program writes. What the program
//! holds is therefore fetched (`pidfd_getfd`) and disconnected.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use super::members::socket_inode;

/// Sessions to end: the inode of the socket, and its cookie, which no other socket ever has.
pub(super) type Sessions = HashMap<u64, u64>;

/// Ends the sessions that a process holds, and says how many. Those that are on their way from one
/// process to another, or held by the kernel alone, are not found.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn end(mut sessions: Sessions) -> io::Result<usize> {
    let all = sessions.len();
    if all == 0 {
        return Ok(0);
    }
    for process in fs::read_dir("/proc")?.flatten() {
        if sessions.is_empty() {
            break;
        }
        let Some(pid) = number::<libc::pid_t>(&process.path()) else {
            continue;
        };
        // Processes end while they are looked at.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for file in files.flatten() {
            let path = file.path();
            let inode = fs::read_link(&path).ok().and_then(|to| socket_inode(&to));
            if let Some(inode) = inode
                && let Some(cookie) = sessions.get(&inode)
                && let Some(fd) = number::<RawFd>(&path)
                && end_one(pid, fd, *cookie).is_ok()
            {
                sessions.remove(&inode);
            }
        }
    }
    Ok(all - sessions.len())
}

/// The number that a path ends with.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Disconnects the socket that process `pid` has as `fd`, if it is the one with this cookie.
fn end_one(pid: libc::pid_t, fd: RawFd, cookie: u64) -> io::Result<()> {
    // SAFETY: takes numbers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: takes numbers.
    let socket =
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
    if cookie_of(&socket)? != cookie {
        return Err(io::ErrorKind::NotFound.into());
    }
    // It fails where the session has come to its end already.
    let _ = shutdown(&socket);
    disconnect(&socket)
}

/// Whoever waits for the session is woken, and nothing more can be written.
fn shutdown(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes numbers.
    done(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) })
}

/// What is left of the session is dropped, and the peer told where it can still be reached.
fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_UNSPEC).unwrap_or(0),
        sa_data: [0; 14],
    };
    let length = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or(16);
    // SAFETY: the address is one, and as long as is said.
    done(unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) })
}

fn cookie_of(socket: &OwnedFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap_or(8);
    // SAFETY: the pointers are to a u64 and to its size.
    done(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    })?;
    Ok(cookie)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel just made this descriptor, and nobody else has it.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        _ => Err(io::Error::last_os_error()),
    }
}
