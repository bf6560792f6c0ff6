//! Blocked prefixes, behind a filter that keeps other traffic from paying for the look-up.

use aya_ebpf::btf_maps::lpm_trie::Key;
use limiter_common::{
    address::Address,
    blocked::{self, Bit},
};

use crate::{
    judge::{halves, whole},
    maps,
};

/// Whether an address is in a blocked prefix.
#[inline(always)]
pub fn matches(address: &Address) -> bool {
    let [high, low] = halves(address);
    limiter_blocked(high, low) != 0
}

/// [`matches`] with a stack of its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_blocked(high: u64, low: u64) -> u64 {
    u64::from(is_blocked(&whole(&[high, low])))
}

#[inline(always)]
fn is_blocked(address: &Address) -> bool {
    let (bit, v6) = blocked::bit_of(address);
    let mut possible = has(bit);
    if v6 && !possible {
        possible = has(Bit {
            word: blocked::SHORT_V6_WORD,
            mask: u64::MAX,
        });
    }
    possible && maps::BLOCKED.get(&Key::new(128, *address)).is_some()
}

/// Whether an address of which these are the first 32 bits may be blocked, as far as the filter says.
#[inline(always)]
pub fn may_match(first: u32, v6: bool) -> bool {
    if !v6 {
        return has(blocked::v4_bit(first >> 8));
    }
    // IPv4 addresses in disguise have bits of their own.
    first == 0
        || has(blocked::v6_bit(first))
        || has(Bit {
            word: blocked::SHORT_V6_WORD,
            mask: u64::MAX,
        })
}

#[inline(always)]
fn has(bit: Bit) -> bool {
    maps::BLOCKED_FILTER
        .get(bit.word)
        .is_some_and(|word| word & bit.mask != 0)
}
