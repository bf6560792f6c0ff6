//! The kernel's messages about interfaces, their addresses, and routes to the world (rtnetlink(7)).

use std::{io, os::fd::OwnedFd, time::Duration};

use nix::sys::socket::{SockFlag, setsockopt, sockopt};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

use super::{
    netlink::{self, Messages},
    snapshot::is_outward,
};

/// Interfaces (1), IPv4 addresses (5) and routes (7), IPv6 addresses (9) and routes (11), next hops
/// (32).
const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 31;
/// After the last message of a burst it takes this long until it is reported.
const QUIET: Duration = Duration::from_millis(2);
/// However long a burst lasts, it is reported this long after its first message.
const LONGEST: Duration = Duration::from_millis(10);
/// Room for messages not read yet, in bytes. Where there is not enough everything is looked at
/// again; that is right, only slower.
const ROOM: usize = 4 * 1024 * 1024;
/// How many datagrams are read before others have their turn.
const AT_ONCE: usize = 256;

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;

/// Says when the interfaces of a network namespace, or the routes to the world, may have changed.
/// It must live in a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// When the first and the last message came that were not reported yet.
    burst: Option<(Instant, Instant)>,
    lost: u64,
}

impl Watch {
    /// Starts to watch the calling thread's network namespace. Open it before looking.
    ///
    /// # Errors
    /// When the system has no room for a socket, or cannot tell.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let socket = netlink::open(GROUPS, SockFlag::SOCK_NONBLOCK).map_err(|(call, error)| {
            io::Error::new(
                error.kind(),
                format!("cannot watch the interfaces (rtnetlink, {call}): {error}"),
            )
        })?;
        // Only root may go past the system's limit; what there is will do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &ROOM);
        // SAFETY: the socket is owned, and so open, as long as it is registered.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(io::Error::from)?;
        Ok(Self {
            socket,
            buffer: vec![0; 32 * 1024],
            burst: None,
            lost: 0,
        })
    }

    /// How often there was no room for messages (`ENOBUFS`), since it was opened.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Leaves as little room for messages as the system allows.
    #[cfg(test)]
    pub(super) fn shrink(&self) {
        setsockopt(self.socket.get_ref(), sockopt::RcvBuf, &1).unwrap();
    }

    /// Waits until it is time to look again: some milliseconds after a message, also when more of
    /// them keep coming. Lost messages (`ENOBUFS`) are a reason to look, too.
    ///
    /// Nothing is lost when the returned future is dropped before it is done.
    ///
    /// # Errors
    /// When the socket fails. The watch is of no use then: open another, and look again.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let due = self
                .burst
                .map(|(first, last)| (last + QUIET).min(first + LONGEST));
            if due.is_some_and(|due| due <= Instant::now()) {
                self.burst = None;
                return Ok(());
            }
            tokio::select! {
                ready = self.socket.readable() => {
                    let mut ready = ready?;
                    // Only what says that there is nothing left clears the readiness.
                    let Ok(seen) =
                        ready.try_io(|socket| read(socket.get_ref(), &mut self.buffer))
                    else {
                        continue;
                    };
                    let seen = seen?;
                    self.lost = self.lost.saturating_add(seen.lost);
                    if seen.reason || seen.lost > 0 {
                        let now = Instant::now();
                        self.burst = Some((self.burst.map_or(now, |(first, _)| first), now));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }
}

/// What was read.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Whether any of it is a reason to look.
    reason: bool,
    /// How often messages were lost.
    lost: u64,
}

/// Reads what there is; `WouldBlock` if there was nothing.
fn read(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for at in 0..AT_ONCE {
        match netlink::receive(socket, buffer) {
            Ok(Some(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            // What is cut off may be the reason.
            Ok(Some(length)) => seen.reason |= buffer.get(..length).is_none_or(is_reason),
            Ok(None) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => seen.lost += 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && at > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

/// Whether messages are a reason to look: all of them are, but for routes to a part of the world,
/// which come and go by the thousand on a router.
fn is_reason(messages: &[u8]) -> bool {
    Messages(messages).any(|message| {
        message.is_ok_and(|message| match message.kind {
            NEW_ROUTE | DELETE_ROUTE => is_outward(message.body),
            _ => true,
        })
    })
}
