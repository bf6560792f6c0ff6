//! Which network namespace is the node's own.

use std::{fs, io, os::unix::fs::MetadataExt as _};

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// The network namespace could not be named.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the network namespace ({OWN}): {0}; is /proc mounted?")]
pub struct NamespaceError(#[source] io::Error);

/// The inode number of the network namespace of the calling thread: the number that the kernel
/// programs read behind sockets and tasks. It stands for this namespace as long as it exists.
///
/// # Errors
/// /proc is not mounted, or the number is of no kernel that is known.
pub fn own_netns() -> Result<u32, NamespaceError> {
    let inode = fs::metadata(OWN).map_err(NamespaceError)?.ino();
    u32::try_from(inode)
        .map_err(|_| NamespaceError(io::Error::other(format!("its inode is {inode}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testing::in_own_netns;

    #[test]
    fn a_namespace_keeps_its_number_and_shares_it_with_none() {
        let ours = own_netns().unwrap();
        assert_ne!(ours, 0);
        assert_eq!(own_netns().unwrap(), ours);
        in_own_netns(move |_ip| {
            let theirs = own_netns().unwrap();
            assert_ne!(theirs, ours);
            assert_ne!(theirs, 0);
        });
    }
}
