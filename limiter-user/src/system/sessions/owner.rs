//! Whose the other end of a connection within this node is.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::sys::socket::AddressFamily;

use super::diag::{Diag, Entry, Protocol};

/// Whose a TCP socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The uid that made it, as this process's user namespace has it.
    pub uid: u32,
    /// The cgroup it was made in, where the kernel says so (5.9).
    pub cgroup_id: Option<u64>,
    /// Its inode; never 0.
    pub inode: u32,
}

impl Owner {
    pub(super) const fn of(entry: &Entry) -> Self {
        Self {
            uid: entry.uid,
            cgroup_id: entry.cgroup_id,
            inode: entry.inode,
        }
    }
}

/// Looks owners of TCP sockets up, in the network namespace of the thread that opened it. Any number of
/// threads may ask.
pub struct Owners {
    diag: Mutex<Diag>,
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

impl Owners {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            diag: Mutex::new(Diag::open()?),
        })
    }

    /// The owner of the socket whose own address is `local` and whose peer is `remote`: for the client of
    /// an accepted connection, the peer's address and this end's.
    ///
    /// `None`: there is no such socket here, or no program holds it any more. The kernel says 0 for the
    /// uid of a socket that its program closed, so that whoever sends something and closes at once would
    /// pass for root.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn owner_of(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Owner>> {
        let mut open = self.lock();
        match find(&mut open, local, remote) {
            // An answer that came late is told from the next by its number.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => find(&mut open, local, remote),
            found => found,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Diag> {
        self.diag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner of a socket in the namespace of `diag`.
pub(super) fn find(
    diag: &mut Diag,
    local: SocketAddr,
    remote: SocketAddr,
) -> io::Result<Option<Owner>> {
    let (local, remote) = (canonical(local), canonical(remote));
    let family = if local.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let found = diag.find(family, Protocol::Tcp, local, remote)?;
    let same = found.filter(|entry| entry.local == local && entry.remote == remote);
    let held = same.filter(|entry| entry.inode != 0);
    Ok(held.as_ref().map(Owner::of))
}

/// Without flow label and scope, which no answer has; IPv4 as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}
