//! Owners of ordinary uids, as they stand in one array by uid.

/// A uid as a place in the dense array.
pub fn place(uid: u32) -> usize {
    usize::try_from(uid).unwrap_or(usize::MAX)
}

/// The uids whose owner is not what it is to be, with what it is to be; 0 for nobody's. Mostly long
/// stretches are the same.
pub fn differing(now: &[u32], wanted: &[u32]) -> Vec<(u32, u32)> {
    const STRETCH: usize = 1_024;
    let mut found = Vec::new();
    let mut first = 0_u32;
    for at in (0..now.len().max(wanted.len())).step_by(STRETCH) {
        let stretch =
            |of: &[u32]| -> (usize, usize) { (at.min(of.len()), (at + STRETCH).min(of.len())) };
        let ((from, to), (wanted_from, wanted_to)) = (stretch(now), stretch(wanted));
        let (now, wanted) = (&now[from..to], &wanted[wanted_from..wanted_to]);
        if now != wanted {
            for (uid, place) in (first..).zip(0..now.len().max(wanted.len())) {
                let wanted = wanted.get(place).copied().unwrap_or_default();
                if now.get(place).copied().unwrap_or_default() != wanted {
                    found.push((uid, wanted));
                }
            }
        }
        first += 1_024;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_differs_is_found_wherever_it_is(
            now in prop::collection::vec(0_u32..3, 0..3_000),
            changes in prop::collection::vec((0_usize..3_000, 0_u32..3), 0..20),
            length in 0_usize..3_000,
        ) {
            let mut wanted = now.clone();
            wanted.resize(length, 0);
            for (at, wire) in changes {
                if let Some(place) = wanted.get_mut(at) {
                    *place = wire;
                }
            }
            let owner = |of: &[u32], at: usize| of.get(at).copied().unwrap_or_default();
            let expected: Vec<(u32, u32)> = (0..3_000_u32)
                .map(|uid| (uid, place(uid)))
                .filter(|(_, at)| owner(&now, *at) != owner(&wanted, *at))
                .map(|(uid, at)| (uid, owner(&wanted, at)))
                .collect();
            prop_assert_eq!(differing(&now, &wanted), expected);
        }
    }
}
