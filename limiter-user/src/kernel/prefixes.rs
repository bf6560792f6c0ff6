//! Ranges of uids as prefixes, for the kernel's trie.

use std::collections::BTreeMap;

/// The prefixes (data, length in bits) that together hold exactly `first..=last`.
#[must_use]
pub fn of_range(first: u32, last: u32) -> Vec<(u32, u32)> {
    let mut prefixes = Vec::new();
    let (mut at, end) = (u64::from(first), u64::from(last) + 1);
    while at < end {
        // As large as its place allows and as fits into the rest.
        let by_place = if at == 0 { 32 } else { at.trailing_zeros().min(32) };
        let by_rest = (end - at).ilog2();
        let bits = by_place.min(by_rest);
        if let Ok(data) = u32::try_from(at) {
            prefixes.push((data, 32 - bits));
        }
        at += 1 << bits;
    }
    prefixes
}

/// The prefixes of ranges that do not overlap, with the value of each.
#[must_use]
pub fn of_ranges(
    ranges: impl IntoIterator<Item = (u32, u32, u32)>,
) -> BTreeMap<(u32, u32), u32> {
    ranges
        .into_iter()
        .flat_map(|(first, last, value)| {
            of_range(first, last).into_iter().map(move |prefix| (prefix, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extremes() {
        assert_eq!(of_range(0, u32::MAX), [(0, 0)]);
        assert_eq!(of_range(7, 7), [(7, 32)]);
        assert_eq!(of_range(u32::MAX, u32::MAX), [(u32::MAX, 32)]);
        assert!(of_range(100_000, 165_535).len() <= 32);
    }

    proptest! {
        #[test]
        fn exactly_the_range(first in 0_u32..3_000, length in 0_u32..3_000) {
            let last = first + length;
            let mut covered = Vec::new();
            for (data, bits) in of_range(first, last) {
                prop_assert!(bits <= 32);
                covered.extend(u64::from(data)..u64::from(data) + (1_u64 << (32 - bits)));
            }
            let wanted: Vec<u64> = (u64::from(first)..=u64::from(last)).collect();
            prop_assert_eq!(covered, wanted, "in order, nothing twice");
        }
    }
}
