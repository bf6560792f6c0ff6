//! The filter before the node's own addresses: a bit for whatever could be one of them, so that a
//! connection to anybody else does not pay for the look-up.

use std::collections::BTreeSet;

use limiter_common::address::{Address, OWN_WORDS, own_bit};

use super::{KernelError, maps::Maps};

/// The bits of these addresses.
fn filter_of<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> Vec<u64> {
    let mut filter = vec![0; OWN_WORDS as usize];
    for address in addresses {
        let (word, mask) = own_bit(address);
        filter[word as usize] |= mask;
    }
    filter
}

/// Lets the filter pass exactly these addresses, and the few others that share their bits. Before an
/// address is added, and after one is removed: a program that reads in between finds all that are
/// there.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn pass(addresses: &BTreeSet<Address>, maps: &mut Maps) -> Result<(), KernelError> {
    let wanted = filter_of(addresses);
    let differ: Vec<(u32, u64)> = (0_u32..)
        .zip(wanted.iter().zip(&maps.own_filter.all()?))
        .filter(|(_, (wanted, found))| wanted != found)
        .map(|(word, (wanted, _))| (word, *wanted))
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    maps.own_filter.set_many(&differ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use limiter_common::address::from_v4;

    #[test]
    fn own_addresses_pass_and_most_others_do_not() {
        let own: BTreeSet<Address> = (0..200).map(|host| from_v4([192, 0, 2, host])).collect();
        let filter = filter_of(&own);
        let passes = |address: &Address| {
            let (word, mask) = own_bit(address);
            filter[word as usize] & mask != 0
        };
        assert!(own.iter().all(passes));
        let others = (0..1_000_u32).map(|n| from_v4((0x0800_0000 + n * 7_919).to_be_bytes()));
        let passed = others.filter(passes).count();
        assert!(passed < 120, "{passed} of 1,000 strangers");
    }
}
