//! From claims that overlap to one owner for every uid: the narrowest claim wins.

use std::collections::BTreeSet;

use super::uids::{Claim, Uids};
use crate::policy::{
    fault::Fault,
    image::{Holder, ImageTenant, UidBinding},
    model::UidRange,
};

/// A claim that holds at the place of the sweep: by its width, narrowest first, then in the order
/// of the claims.
type Active = BTreeSet<(u32, usize)>;

/// Who owns which uids: sorted, not overlapping, none twice.
///
/// Two holders that claim the same uid by ranges of the same width are a fault, even where a third
/// claims it more narrowly. It is an error between files. With an account it is a warning, and the
/// uids in question belong to nobody.
pub(super) fn flatten(
    claims: &[Claim<'_>],
    tenants: &[ImageTenant],
    faults: &mut Vec<Fault>,
) -> Vec<UidBinding> {
    let mut starts: Vec<usize> = (0..claims.len()).collect();
    let mut ends = starts.clone();
    starts.sort_by_key(|&index| claims[index].range.first);
    ends.sort_by_key(|&index| claims[index].range.last);
    let (mut starts, mut ends) = (starts.into_iter().peekable(), ends.into_iter().peekable());

    let mut active = Active::new();
    let mut owned = Owned::default();
    // Where the next stretch begins in which the same claims hold.
    let mut here = 0_u32;
    while let Some(&ending) = ends.peek() {
        let end = claims[ending].range.last;
        match starts.peek() {
            Some(&starting) if claims[starting].range.first <= end => {
                let start = claims[starting].range.first;
                if let Some(last) = start.checked_sub(1).filter(|last| here <= *last) {
                    owned.add(here, last, owner(claims, &active));
                }
                here = start;
                starts.next();
                let claim = (claims[starting].range.width(), starting);
                if let Some(other) = rival(claims, &active, claim) {
                    faults.push(conflict(&claims[other], &claims[starting], tenants));
                }
                active.insert(claim);
            }
            _ => {
                if here <= end {
                    owned.add(here, end, owner(claims, &active));
                }
                ends.next();
                active.remove(&(claims[ending].range.width(), ending));
                match end.checked_add(1) {
                    Some(next) => here = here.max(next),
                    None => break, // The highest uid: nothing starts behind it.
                }
            }
        }
    }
    owned.bindings(claims)
}

/// The claim that holds: the narrowest, none if somebody else makes one as narrow.
fn owner(claims: &[Claim<'_>], active: &Active) -> Option<usize> {
    let &narrowest = active.first()?;
    match rival(claims, active, narrowest) {
        Some(_) => None,
        None => Some(narrowest.1),
    }
}

/// A claim of the same width by another holder.
fn rival(claims: &[Claim<'_>], active: &Active, (width, claim): (u32, usize)) -> Option<usize> {
    active
        .range((width, 0)..=(width, usize::MAX))
        .map(|&(_, other)| other)
        .find(|&other| claims[other].holder != claims[claim].holder)
}

/// Stretches of uids by the claim that holds there, adjacent ones joined.
#[derive(Default)]
struct Owned {
    stretches: Vec<(UidRange, usize)>,
}

impl Owned {
    fn add(&mut self, first: u32, last: u32, owner: Option<usize>) {
        let Some(owner) = owner else { return };
        match self.stretches.last_mut() {
            Some((before, same)) if *same == owner && before.last.checked_add(1) == Some(first) => {
                before.last = last;
            }
            _ => self.stretches.push((UidRange { first, last }, owner)),
        }
    }

    fn bindings(self, claims: &[Claim<'_>]) -> Vec<UidBinding> {
        self.stretches
            .into_iter()
            .map(|(range, owner)| UidBinding {
                range,
                holder: claims[owner].holder,
                by: claims[owner].by.to_string(),
            })
            .collect()
    }
}

/// The fault of two claims of the same width.
fn conflict(earlier: &Claim<'_>, later: &Claim<'_>, tenants: &[ImageTenant]) -> Fault {
    let shared = UidRange {
        first: earlier.range.first.max(later.range.first),
        last: earlier.range.last.min(later.range.last),
    };
    let holder = |claim: &Claim<'_>| match claim.holder {
        Holder::Mta => "the MTA".to_owned(),
        Holder::Tenant(index) => match tenants.get(index) {
            Some(tenant) => format!("tenant {}", tenant.name),
            None => "a tenant".to_owned(),
        },
    };
    let problem = format!(
        "uid {} is claimed by {} ({}, {}) and by {} ({}, {})",
        Uids(shared),
        holder(earlier),
        earlier.by,
        earlier.origin,
        holder(later),
        later.by,
        later.origin,
    );
    if earlier.of_account || later.of_account {
        return Fault::warning(
            later.origin,
            problem,
            "it is left to `default`; give each user a range of its own in /etc/subuid",
        );
    }
    // The MTA's users stand in no place of their own: the tenant's claim is the one to look at.
    let origin = if later.holder == Holder::Mta {
        earlier.origin
    } else {
        later.origin
    };
    let allowed = if [earlier.holder, later.holder].contains(&Holder::Mta) {
        "a tenant cannot be the MTA: take it out of the tenant, or name the MTA's users in mta.users"
    } else {
        "one tenant for each uid at the same width; a narrower claim inside a wider one is allowed"
    };
    Fault::error(origin, problem, allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{compile::uids::By, fault::any_error, model::Origin};

    /// The uid space of the model: its end is the end of the real one.
    const SPACE: u32 = 64;
    const BASE: u32 = u32::MAX - SPACE + 1;

    fn claims(origin: &Origin, ranges: &[(u32, u32, usize, bool)]) -> Vec<Claim<'static>> {
        let origin: &'static Origin = Box::leak(Box::new(origin.clone()));
        ranges
            .iter()
            .map(|&(first, last, holder, of_account)| {
                let range = UidRange { first, last };
                Claim {
                    range,
                    holder: if holder == 0 {
                        Holder::Mta
                    } else {
                        Holder::Tenant(holder)
                    },
                    by: By::Uids(range),
                    origin,
                    of_account,
                }
            })
            .collect()
    }

    /// The slow way: for each uid the holders of its narrowest claims.
    fn model(claims: &[Claim<'_>], uid: u32) -> (Option<Holder>, bool) {
        let at = || {
            claims
                .iter()
                .filter(move |claim| (claim.range.first..=claim.range.last).contains(&uid))
        };
        let contested = at().any(|one| {
            at().any(|two| one.range.width() == two.range.width() && one.holder != two.holder)
        });
        let width = at().map(|claim| claim.range.width()).min();
        let mut holders: Vec<Holder> = at()
            .filter(|claim| Some(claim.range.width()) == width)
            .map(|claim| claim.holder)
            .collect();
        holders.sort_unstable();
        holders.dedup();
        (
            if holders.len() == 1 {
                holders.pop()
            } else {
                None
            },
            contested,
        )
    }

    fn check(base: u32, ranges: &[(u32, u32, usize, bool)]) {
        let claims = claims(&Origin::default(), ranges);
        let mut faults = Vec::new();
        let bindings = flatten(&claims, &[], &mut faults);
        for pair in bindings.windows(2) {
            assert!(pair[0].range.last < pair[1].range.first, "{bindings:?}");
        }
        let mut contested = false;
        for uid in (base..=base + (SPACE - 1)).chain([0, 1, base.wrapping_sub(1)]) {
            let (expected, conflict) = model(&claims, uid);
            contested |= conflict;
            let found: Vec<&UidBinding> = bindings
                .iter()
                .filter(|binding| (binding.range.first..=binding.range.last).contains(&uid))
                .collect();
            assert_eq!(
                found.first().map(|binding| binding.holder),
                expected,
                "uid {uid} of {ranges:?}"
            );
        }
        assert_eq!(contested, !faults.is_empty(), "{ranges:?}: {faults:?}");
        if !ranges.iter().any(|&(_, _, _, of_account)| of_account) {
            assert_eq!(contested, any_error(&faults));
        }
        for binding in &bindings {
            assert!(claims.iter().any(|claim| claim.holder == binding.holder
                && claim.by.to_string() == binding.by
                && claim.range.first <= binding.range.first
                && binding.range.last <= claim.range.last));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_uid_belongs_to_the_narrowest_claim(
            at_the_end in any::<bool>(),
            ranges in prop::collection::vec((0..SPACE, 0..SPACE, 0_usize..4, any::<bool>()), 0..12),
        ) {
            let base = if at_the_end { BASE } else { 0 };
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(a, b, holder, of_account)| (base + a.min(b), base + a.max(b), holder, of_account))
                .collect();
            check(base, &ranges);
        }

        #[test]
        fn single_uids_and_few_widths(
            ranges in prop::collection::vec((0..SPACE - 8, 0_u32..3, 1_usize..5), 0..20),
        ) {
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(first, width, holder)| (first, first + width * 4, holder, false))
                .collect();
            check(0, &ranges);
        }
    }

    #[test]
    fn a_range_around_a_single_uid_is_split() {
        let ranges = [
            (10, 20, 1, false),
            (15, 15, 2, false),
            (20, 30, 1, false),
            (31, 31, 1, false),
        ];
        let claims = claims(&Origin::default(), &ranges);
        let found: Vec<(u32, u32, Holder)> = flatten(&claims, &[], &mut Vec::new())
            .into_iter()
            .map(|binding| (binding.range.first, binding.range.last, binding.holder))
            .collect();
        let (one, two) = (Holder::Tenant(1), Holder::Tenant(2));
        assert_eq!(
            found,
            [
                (10, 14, one),
                (15, 15, two),
                (16, 20, one),
                (21, 30, one),
                (31, 31, one)
            ]
        );
    }
}
