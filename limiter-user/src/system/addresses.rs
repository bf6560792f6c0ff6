//! The node's own addresses.

use std::{io, net::IpAddr};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

/// The addresses on the interfaces of this network namespace, IPv4 and IPv6, sorted, each once.
///
/// Loopback and link-local addresses are left out; other addresses that sit on the loopback interface (as with
/// anycast) belong to the node and are in.
///
/// # Errors
/// What getifaddrs(3) says.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = getifaddrs()
        .map_err(io::Error::from)?
        .filter_map(|interface| ip(&interface.address?))
        .filter(|address| !address.is_loopback() && !is_link_local(address))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Whether an address means something on one link only: another host may have it on another link,
/// and `connect()` does not tell the kernel's hook which link is meant.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The IP address inside, if it is one.
fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testing::in_own_netns;

    #[test]
    fn every_address_of_an_interface_and_none_of_loopback() {
        in_own_netns(|ip| {
            ip("link set lo up");
            assert_eq!(own_addresses().unwrap(), Vec::<IpAddr>::new());
            ip("link add veth0 type veth peer name veth1");
            ip("link set veth1 up");
            ip("link set veth0 up");
            ip("addr add 192.0.2.7/24 dev veth0");
            ip("addr add 2001:db8::7/64 dev veth0 nodad");
            ip("addr add 203.0.113.9/32 dev lo");
            let found = own_addresses().unwrap();
            for expected in ["192.0.2.7", "203.0.113.9", "2001:db8::7"] {
                assert!(
                    found.contains(&expected.parse().unwrap()),
                    "{expected} in {found:?}"
                );
            }
            // veth1 has nothing but its link-local one.
            assert_eq!(found.len(), 3, "nothing of one link only in {found:?}");
            assert!(found.is_sorted() && found.iter().all(|address| !address.is_loopback()));
        });
    }
}
