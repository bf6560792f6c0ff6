//! System users without a tenant file, each of which becomes a tenant.

use std::collections::HashSet;

use limiter_common::abi::MAX_TENANT_NAME;

use super::{
    tenants::{NODE, tenant},
    uids::{By, Claim},
};
use crate::{
    policy::{
        fault::Fault,
        image::{Holder, ImageTenant},
        model::{Accounts, Mode, Origin, UidRange},
    },
    system::{Users, users::User},
};

/// The kernel's stand-in for uids that have no number in a namespace, and the user of services
/// that shall own nothing: many programs at once, and so nobody's account.
const NOBODY: u32 = 65534;

/// What accounts are made from.
pub(super) struct Builder<'a, 'b> {
    pub(super) accounts: &'a Accounts,
    pub(super) node_mode: Mode,
    pub(super) users: &'a Users,
    pub(super) origin: &'a Origin,
    pub(super) tenants: &'b mut Vec<ImageTenant>,
}

impl<'a> Builder<'a, '_> {
    /// Adds a tenant and its claims for every system user in the ranges whom no claim names yet,
    /// in the order of their uids. Somebody else's sub-uid range over a user's uid does not count.
    pub(super) fn add(&mut self, claims: &mut Vec<Claim<'a>>, faults: &mut Vec<Fault>) {
        let accounts = RangeSet::new(self.accounts.uids.iter().copied());
        let claimed = RangeSet::new(
            claims
                .iter()
                .filter(|claim| !matches!(claim.by, By::SubUidsOf(_)))
                .map(|claim| claim.range),
        );
        let mut found: Vec<&User> = self
            .users
            .iter()
            .filter(|user| {
                let uid = user.uid;
                uid != 0 && uid != NOBODY && accounts.contains(uid) && !claimed.contains(uid)
            })
            .collect();
        // Of several names for one uid the first in the file counts: sorting keeps their order.
        found.sort_by_key(|user| user.uid);
        found.dedup_by_key(|user| user.uid);

        let names: HashSet<String> = self
            .tenants
            .iter()
            .map(|tenant| tenant.name.clone())
            .collect();
        for user in found {
            if let Some(problem) = unfit(&user.name, &names) {
                faults.push(Fault::warning(
                    self.origin,
                    format!(
                        "accounts: the user {} (uid {}) {problem}",
                        user.name, user.uid
                    ),
                    "it is left to `default`; give it a tenant file that names it in match.users",
                ));
                continue;
            }
            self.add_one(user, claims);
        }
    }

    fn add_one(&mut self, user: &'a User, claims: &mut Vec<Claim<'a>>) {
        let holder = Holder::Tenant(self.tenants.len());
        self.tenants.push(tenant(
            &user.name,
            NODE,
            self.node_mode,
            &self.accounts.rules,
        ));
        let claim = |range, by| Claim {
            range,
            holder,
            by,
            origin: self.origin,
            of_account: true,
        };
        claims.push(claim(
            UidRange {
                first: user.uid,
                last: user.uid,
            },
            By::Account,
        ));
        let sub_uids = self.users.sub_uids_of(user.uid).iter();
        claims.extend(sub_uids.map(|&range| claim(range, By::SubUidsOf(&user.name))));
    }
}

/// Why a user's name cannot be a tenant's.
fn unfit(name: &str, names: &HashSet<String>) -> Option<&'static str> {
    if names.contains(name) {
        Some("cannot become an account: a tenant that does not claim it has its name")
    } else if name.len() > MAX_TENANT_NAME {
        Some("cannot become an account: its name is longer than the 127 bytes of a tenant's")
    } else {
        None
    }
}

/// Uids in ranges, to ask for one of them.
struct RangeSet {
    /// Sorted, not overlapping.
    ranges: Vec<UidRange>,
}

impl RangeSet {
    fn new(ranges: impl Iterator<Item = UidRange>) -> Self {
        let mut sorted: Vec<UidRange> = ranges.collect();
        sorted.sort_unstable();
        let mut ranges: Vec<UidRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match ranges.last_mut() {
                Some(last) if range.first <= last.last => last.last = last.last.max(range.last),
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }

    fn contains(&self, uid: u32) -> bool {
        let behind = self.ranges.partition_point(|range| range.first <= uid);
        behind
            .checked_sub(1)
            .is_some_and(|index| uid <= self.ranges[index].last)
    }
}
