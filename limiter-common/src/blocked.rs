//! The filter before the blocked prefixes: a bit for what could match at all, so that other
//! traffic does not pay for a look-up among a million.
//!
//! IPv4 has a bit for each /24. IPv6 has a bit for each /32, folded: some share one.

use crate::address::{Address, as_v4};

/// How many words the filter has: the IPv4 bits, then the IPv6 bits, then one word that is not
/// zero if some IPv6 prefix is too short to be spread.
pub const WORDS: u32 = V6_START + V6_WORDS + 1;
/// IPv6 prefixes shorter than this set the last word instead of their bits.
pub const SHORTEST_V6: u8 = 16;
/// The word that stands for short IPv6 prefixes.
pub const SHORT_V6_WORD: u32 = V6_START + V6_WORDS;

const V6_START: u32 = 1 << 18;
const V6_WORDS: u32 = 1 << 15;

/// A bit in the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bit {
    /// Which word.
    pub word: u32,
    /// The bit in it.
    pub mask: u64,
}

/// The bit of an IPv4 /24, given as its first 24 bits.
#[must_use]
#[inline(always)]
pub const fn v4_bit(network: u32) -> Bit {
    Bit {
        word: (network >> 6) & (V6_START - 1),
        mask: 1 << (network & 63),
    }
}

/// The bit of an IPv6 /32, given as its first 32 bits.
#[must_use]
#[inline(always)]
pub const fn v6_bit(network: u32) -> Bit {
    // Fibonacci hashing: neighbouring networks are spread.
    let folded = network.wrapping_mul(0x9e37_79b9) >> 11;
    Bit {
        word: V6_START + ((folded >> 6) & (V6_WORDS - 1)),
        mask: 1 << (folded & 63),
    }
}

/// The bit that stands for `address`, and whether it is IPv6.
#[must_use]
#[inline(always)]
pub const fn bit_of(address: &Address) -> (Bit, bool) {
    match as_v4(address) {
        Some([a, b, c, _]) => (v4_bit((a as u32) << 16 | (b as u32) << 8 | c as u32), false),
        None => {
            let [a, b, c, d, ..] = *address;
            (v6_bit(u32::from_be_bytes([a, b, c, d])), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay_in_the_filter() {
        for network in [0, 1, 0xff_ffff, 0x7f_0000] {
            assert!(v4_bit(network).word < V6_START);
        }
        for network in [0, 1, u32::MAX, 0x2001_0db8, 0xfe80_0000] {
            let bit = v6_bit(network);
            assert!((V6_START..SHORT_V6_WORD).contains(&bit.word), "{bit:?}");
        }
    }

    #[test]
    fn an_address_has_the_bit_of_its_network() {
        let (bit, v6) = bit_of(&crate::address::from_v4([203, 0, 113, 7]));
        assert_eq!((bit, v6), (v4_bit(0x00cb_0071), false));
    }
}
