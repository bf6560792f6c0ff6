//! Connections that are refused at once, as fast as they go or at a pace.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
    unistd::{Uid, setresuid},
};

/// Attempts by one user, one after another with the same socket, which can be tried again.
const AT_ONCE: u64 = 64;
/// Who is so far ahead of its pace sleeps.
const AHEAD: Duration = Duration::from_micros(100);

/// Several users who try again and again.
#[derive(Debug)]
pub struct Refused {
    to: SocketAddr,
    start: Instant,
    made: u64,
    per_second: u64,
    by: (u32, u32),
    turn: u32,
}

impl Refused {
    /// Nothing is tried yet.
    pub fn new(to: SocketAddr, per_second: u64, by: (u32, u32)) -> Self {
        Self {
            to,
            start: Instant::now(),
            made: 0,
            per_second: per_second.max(1),
            by,
            turn: 0,
        }
    }

    /// Some attempts, if some are due, each of which is refused; how many.
    ///
    /// # Errors
    /// When one is not refused.
    pub fn some(&mut self) -> io::Result<u64> {
        let due = Duration::from_secs_f64(as_float(self.made) / as_float(self.per_second));
        if let Some(ahead) = due.checked_sub(self.start.elapsed()) {
            if ahead > AHEAD {
                thread::sleep(ahead);
            }
            return Ok(0);
        }
        let (first, count) = self.by;
        let (root, user) = (Uid::from_raw(0), Uid::from_raw(first + self.turn % count));
        self.turn = self.turn.wrapping_add(1);
        setresuid(user, user, root)?;
        let tried = self.tried();
        setresuid(root, root, root)?;
        tried
    }

    fn tried(&mut self) -> io::Result<u64> {
        let family = if self.to.is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Stream, flags, None)?;
        let to = SockaddrStorage::from(self.to);
        for _ in 0..AT_ONCE {
            match connect(socket.as_raw_fd(), &to) {
                Err(Errno::EPERM) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Err(io::Error::other("it was not refused")),
            }
        }
        self.made += AT_ONCE;
        Ok(AT_ONCE)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pace needs no more digits")]
fn as_float(number: u64) -> f64 {
    number as f64
}
