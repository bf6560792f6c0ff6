//! Destination addresses: one form for both families, and which of them never leave the node.

use crate::assert_layout;

/// How many words the filter before the node's own addresses has.
pub const OWN_WORDS: u32 = 64;

/// The place of an address in the filter before the node's own addresses, which few other addresses
/// share: which word, and the bit in it.
#[must_use]
#[inline(always)]
pub const fn own_bit(address: &Address) -> (u32, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    let high = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let low = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
    // Fibonacci hashing: neighbouring addresses are spread.
    let mixed = (high.rotate_left(32) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 58) as u32, 1 << (mixed >> 52 & 63))
}

/// An IPv4 or IPv6 address as 16 bytes in network order; IPv4 as `::ffff:a.b.c.d`.
pub type Address = [u8; 16];

/// The 16-byte form of an IPv4 address in network order.
#[must_use]
#[inline(always)]
pub const fn from_v4(octets: [u8; 4]) -> Address {
    let [a, b, c, d] = octets;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address inside, whether dialled as IPv4 or through an IPv6 socket.
#[must_use]
#[inline(always)]
pub const fn as_v4(address: &Address) -> Option<[u8; 4]> {
    match *address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// Whether a connection to `address` stays on this host whatever the routes say: loopback, and
/// the unspecified address, which the kernel treats as loopback.
#[must_use]
#[inline(always)]
pub const fn is_loopback(address: &Address) -> bool {
    match as_v4(address) {
        Some([127, _, _, _] | [0, 0, 0, 0]) => true,
        Some(_) => false,
        None => matches!(
            *address,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 1]
        ),
    }
}

/// The number of bits in front of the address in an [`ExemptKey`].
pub const EXEMPT_SET_BITS: u32 = 32;

/// The data of a key in the map of exempt destinations: first the set, then the address, so that
/// one trie holds the sets of all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ExemptKey {
    /// The set, big-endian as prefixes demand; set 0 is everybody's.
    pub set: [u8; 4],
    /// The address.
    pub address: Address,
}
assert_layout!(ExemptKey, 20, 1);

impl ExemptKey {
    /// The key of `address` in `set`.
    #[must_use]
    #[inline(always)]
    pub const fn new(set: u32, address: Address) -> Self {
        Self {
            set: set.to_be_bytes(),
            address,
        }
    }
}

/// How many ports one exempt prefix can name.
pub const MAX_EXEMPT_PORTS: usize = 8;

/// The ports to which a prefix is exempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ExemptPorts {
    /// How many of `ports` count; 0 means every port.
    pub count: u32,
    /// The ports, in host order.
    pub ports: [u16; MAX_EXEMPT_PORTS],
}
assert_layout!(ExemptPorts, 20, 4);

impl ExemptPorts {
    /// Whether `port` is among them.
    #[must_use]
    #[inline(always)]
    pub fn contains(&self, port: u16) -> bool {
        if self.count == 0 {
            return true;
        }
        let mut index = 0;
        while index < MAX_EXEMPT_PORTS {
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_EXEMPT_PORTS")]
            if index as u32 >= self.count {
                break;
            }
            if self.ports[index] == port {
                return true;
            }
            index += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v6(text: &str) -> Address {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn mapped_addresses_fold_to_v4() {
        assert_eq!(from_v4([203, 0, 113, 7]), v6("::ffff:203.0.113.7"));
        assert_eq!(as_v4(&v6("::ffff:203.0.113.7")), Some([203, 0, 113, 7]));
        assert_eq!(as_v4(&v6("2001:db8::1")), None);
        assert_eq!(as_v4(&v6("::203.0.113.7")), None);
    }

    #[test]
    fn loopback_is_what_the_kernel_keeps() {
        for local in ["127.0.0.1", "127.255.255.254", "0.0.0.0"] {
            assert!(
                is_loopback(&from_v4(local.parse::<Ipv4Addr>().unwrap().octets())),
                "{local}"
            );
        }
        for local in ["::1", "::", "::ffff:127.0.0.1"] {
            assert!(is_loopback(&v6(local)), "{local}");
        }
        for remote in [
            "::2",
            "::ffff:128.0.0.1",
            "2001:db8::1",
            "::127.0.0.1",
            "1::",
        ] {
            assert!(!is_loopback(&v6(remote)), "{remote}");
        }
    }

    #[test]
    fn exempt_ports() {
        let all = ExemptPorts::default();
        assert!(all.contains(25) && all.contains(65535));
        let some = ExemptPorts {
            count: 2,
            ports: [25, 587, 465, 0, 0, 0, 0, 0],
        };
        assert!(some.contains(25) && some.contains(587));
        assert!(!some.contains(465), "ports beyond the count do not count");
        assert!(!some.contains(0));
    }
}
