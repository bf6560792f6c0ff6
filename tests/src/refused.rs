//! Connections that are refused at once, as fast as they go or at a pace.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
};

/// Attempts between looking at the clock.
const AT_ONCE: u64 = 64;
/// Who is so far ahead of its pace sleeps.
const AHEAD: Duration = Duration::from_micros(100);

/// Somebody who tries again and again: a socket that was refused can be tried again.
#[derive(Debug)]
pub struct Refused {
    socket: OwnedFd,
    to: SockaddrStorage,
    start: Instant,
    made: u64,
    per_second: u64,
}

impl Refused {
    /// Nothing is tried yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(to: SocketAddr, per_second: u64) -> io::Result<Self> {
        let family = if to.is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        Ok(Self {
            socket: socket(family, SockType::Stream, flags, None)?,
            to: to.into(),
            start: Instant::now(),
            made: 0,
            per_second: per_second.max(1),
        })
    }

    /// Some attempts, each of which is refused; how many.
    ///
    /// # Errors
    /// When one is not refused.
    pub fn some(&mut self) -> io::Result<u64> {
        // What is due at its pace, not what it could have made since long ago.
        let due = Duration::from_secs_f64(as_float(self.made) / as_float(self.per_second));
        if let Some(ahead) = due.checked_sub(self.start.elapsed()) {
            if ahead > AHEAD {
                thread::sleep(ahead);
            }
            return self.tried(0);
        }
        self.tried(AT_ONCE)
    }

    fn tried(&mut self, count: u64) -> io::Result<u64> {
        for _ in 0..count {
            match connect(self.socket.as_raw_fd(), &self.to) {
                Err(Errno::EPERM) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Err(io::Error::other("it was not refused")),
            }
        }
        self.made += count;
        Ok(count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pace needs no more digits")]
fn as_float(number: u64) -> f64 {
    number as f64
}
