//! Mailbox connections by client.

use crate::{
    address::{self, Address},
    assert_layout,
    window::Slot,
};

/// What is counted of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// Completed handshakes in the window.
    pub slot: Slot,
}
assert_layout!(Client, 144, 8);

/// How many locks the clients share: maps that forget the least recently used hold none of their
/// own.
pub const LOCKS: u32 = 256;

/// Which lock a client changes under.
#[must_use]
#[inline(always)]
pub const fn lock_of(client: &Address) -> u32 {
    let [.., a, b, c, d] = *client;
    let [e, f, g, h] = [client[4], client[5], client[6], client[7]];
    let folded = u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]);
    folded.wrapping_mul(0x9e37_79b9) >> 24
}

/// The client behind an address: an IPv4 address, or the IPv6 /64 that one customer of an access
/// provider has at least.
#[must_use]
#[inline(always)]
pub const fn client_of(remote: &Address) -> Address {
    if address::as_v4(remote).is_some() {
        return *remote;
    }
    let [a, b, c, d, e, f, g, h, ..] = *remote;
    [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_64() {
        let v4 = address::from_v4([192, 0, 2, 7]);
        assert_eq!(client_of(&v4), v4);
        let mut v6 = [0x20; 16];
        v6[15] = 1;
        let mut other = v6;
        other[8] = 9;
        assert_eq!(client_of(&v6), client_of(&other));
        other[7] = 9;
        assert_ne!(client_of(&v6), client_of(&other));
    }
}
