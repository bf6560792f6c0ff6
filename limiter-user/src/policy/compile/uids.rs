//! Who claims which uids.

use std::fmt;

use super::tenants::FIRST;
use crate::{
    policy::{
        fault::Fault,
        image::{Holder, TenantRef},
        model::{Origin, Policy, Tenant, UidRange},
    },
    system::Users,
};

/// That uids belong to somebody, as far as nobody claims them more narrowly.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    /// The uids.
    pub(super) range: UidRange,
    /// Who claims them.
    pub(super) holder: Holder,
    /// How.
    pub(super) by: By<'a>,
    /// Where it is written.
    pub(super) origin: &'a Origin,
    /// Whether it comes from `accounts` and not from a file of its own. A conflict then is the
    /// system's making and not the policy's, and must not keep the policy from being loaded.
    pub(super) of_account: bool,
}

/// By which match uids are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By<'a> {
    /// `mta.users`.
    MtaUser(&'a str),
    /// `match.users`.
    User(&'a str),
    /// `match.uids`.
    Uids(UidRange),
    /// The sub-uid ranges of a user.
    SubUidsOf(&'a str),
    /// `accounts`.
    Account,
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MtaUser(name) => write!(f, "MTA user {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Uids(range) => write!(f, "uids {}", Uids(range)),
            Self::SubUidsOf(name) => write!(f, "sub-uids of {name}"),
            Self::Account => f.write_str("account"),
        }
    }
}

/// Uids for people: `2001`, `2100-2199`.
pub(super) struct Uids(pub(super) UidRange);

impl fmt::Display for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UidRange { first, last } = self.0;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// Adds what the tenants of the files claim: their users, the sub-uid ranges of those, their uids.
pub(super) fn claim<'a>(
    policy: &'a Policy,
    users: &Users,
    claims: &mut Vec<Claim<'a>>,
    faults: &mut Vec<Fault>,
) {
    for (index, tenant) in policy.tenants.iter().enumerate() {
        claim_users(tenant, FIRST + index, users, claims, faults);
        for uids in &tenant.matches.uids {
            if uids.value.first == 0 {
                faults.push(Fault::error(
                    &uids.origin,
                    format!(
                        "match.uids: {} of tenant {} holds uid 0, which is root",
                        Uids(uids.value),
                        tenant.name
                    ),
                    "uids from 1 on: root belongs to no tenant",
                ));
            }
            claims.push(Claim {
                range: uids.value,
                holder: Holder::Tenant(FIRST + index),
                by: By::Uids(uids.value),
                origin: &uids.origin,
                of_account: false,
            });
        }
    }
}

/// Adds the users of a tenant and their sub-uid ranges.
fn claim_users<'a>(
    tenant: &'a Tenant,
    index: TenantRef,
    users: &Users,
    claims: &mut Vec<Claim<'a>>,
    faults: &mut Vec<Fault>,
) {
    for user in &tenant.matches.users {
        let name = user.value.as_str();
        let uid = match users.uid_of(name) {
            None => {
                faults.push(Fault::warning(
                    &user.origin,
                    format!(
                        "match.users: there is no user {name} (tenant {})",
                        tenant.name
                    ),
                    "it is bound when it appears",
                ));
                continue;
            }
            Some(0) => {
                faults.push(Fault::error(
                    &user.origin,
                    format!(
                        "match.users: the user {name} of tenant {} has uid 0",
                        tenant.name
                    ),
                    "users other than root: root belongs to no tenant",
                ));
                continue;
            }
            Some(uid) => uid,
        };
        let holder = Holder::Tenant(index);
        claims.push(Claim {
            range: UidRange {
                first: uid,
                last: uid,
            },
            holder,
            by: By::User(name),
            origin: &user.origin,
            of_account: false,
        });
        claims.extend(users.sub_uids_of(uid).iter().map(|&range| Claim {
            range,
            holder,
            by: By::SubUidsOf(name),
            origin: &user.origin,
            of_account: false,
        }));
    }
}
