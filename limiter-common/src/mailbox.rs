//! Mailbox connections by client.

use crate::{
    address::{self, Address},
    assert_layout,
    limit::bpf_spin_lock,
    window::Slot,
};

/// What is counted of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// Held while the rest changes.
    pub lock: bpf_spin_lock,
    /// Zero.
    pub reserved: u32,
    /// Completed handshakes in the window.
    pub slot: Slot,
}
assert_layout!(Client, 152, 8);

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
