//! Which network namespace is the node's own.

use std::{
    io, mem,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

/// Why the network namespace could not be named.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel has no cookies for network namespaces.
    #[error(
        "this kernel does not name network namespaces by cookie (SO_NETNS_COOKIE needs Linux 5.14)"
    )]
    Unsupported,
    /// Something else.
    #[error("cannot ask for the cookie of the network namespace (SO_NETNS_COOKIE): {0}")]
    Socket(#[source] io::Error),
}

/// The cookie of the network namespace of the calling thread: unique until the next boot, and the
/// number that `bpf_get_netns_cookie` gives the kernel programs.
///
/// # Errors
/// [`NamespaceError::Unsupported`] before Linux 5.14.
pub fn netns_cookie() -> Result<u64, NamespaceError> {
    // A socket of any family belongs to the namespace of the thread that made it.
    let socket = UnixDatagram::unbound().map_err(NamespaceError::Socket)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(mem::size_of_val(&cookie)).unwrap_or(8);
    // SAFETY: the descriptor is open, and the pointers are to a u64 and to its size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        return Ok(cookie);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => NamespaceError::Unsupported,
        _ => NamespaceError::Socket(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testing::in_own_netns;

    #[test]
    fn a_namespace_keeps_its_cookie_and_shares_it_with_none() {
        let ours = match netns_cookie() {
            Ok(cookie) => cookie,
            Err(NamespaceError::Unsupported) => return,
            Err(error) => panic!("{error}"),
        };
        assert_ne!(ours, 0);
        assert_eq!(netns_cookie().unwrap(), ours);
        in_own_netns(move |_ip| {
            let theirs = netns_cookie().unwrap();
            assert_ne!(theirs, ours);
            assert_ne!(theirs, 0);
        });
    }
}
