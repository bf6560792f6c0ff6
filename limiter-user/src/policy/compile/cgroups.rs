//! Who owns which cgroups.

use std::{collections::BTreeMap, path::Path};

use limiter_common::abi::MAX_CGROUP_DEPTH;

use super::tenants::FIRST;
use crate::{
    policy::{
        fault::Fault,
        image::{CgroupBinding, TenantRef},
        model::{Located, Policy, Tenant},
    },
    system::{Cgroup, Cgroups, pattern::CgroupPattern},
};

/// That a cgroup is somebody's.
#[derive(Clone, Copy)]
struct Claim<'a> {
    tenant: TenantRef,
    name: &'a str,
    pattern: &'a Located<String>,
    exact: bool,
    cgroup: &'a Cgroup,
}

/// The owners of all cgroups that the policy claims and the system has, sorted by id.
///
/// A path beats a glob. Two tenants that claim a cgroup by the same means are an error.
pub(super) fn bind(
    policy: &Policy,
    cgroups: &Cgroups,
    faults: &mut Vec<Fault>,
) -> Vec<CgroupBinding> {
    let mut claims: BTreeMap<u64, Vec<Claim<'_>>> = BTreeMap::new();
    for (index, tenant) in policy.tenants.iter().enumerate() {
        for pattern in &tenant.matches.cgroups {
            let Some(exact) = check(tenant, pattern, &policy.places.cgroup, cgroups, faults) else {
                continue;
            };
            for cgroup in cgroups.matching(&pattern.value) {
                claims.entry(cgroup.id).or_default().push(Claim {
                    tenant: FIRST + index,
                    name: &tenant.name,
                    pattern,
                    exact,
                    cgroup,
                });
            }
        }
    }
    claims
        .into_values()
        .filter_map(|claims| decide(&claims, faults))
        .collect()
}

/// Reports what is wrong with a pattern. Returns whether it is an exact path; none if it cannot be
/// used at all.
fn check(
    tenant: &Tenant,
    pattern: &Located<String>,
    attach: &Path,
    cgroups: &Cgroups,
    faults: &mut Vec<Fault>,
) -> Option<bool> {
    let Located { value, origin } = pattern;
    let parsed = match CgroupPattern::parse(value) {
        Ok(parsed) => parsed,
        Err(error) => {
            faults.push(Fault::error(
                origin,
                format!(
                    "match.cgroups: {value:?} of tenant {}: {error}",
                    tenant.name
                ),
                "a path below the cgroup v2 mount with globs inside its components, such as \
                 /user.slice/user-*.slice",
            ));
            return None;
        }
    };
    if parsed.depth() > MAX_CGROUP_DEPTH {
        faults.push(Fault::error(
            origin,
            format!(
                "match.cgroups: {value} of tenant {} is {} levels deep",
                tenant.name,
                parsed.depth()
            ),
            format!(
                "at most {MAX_CGROUP_DEPTH} levels; what is below a claimed cgroup comes with it"
            ),
        ));
        return None;
    }
    let matching = cgroups.matching(value);
    if matching.is_empty() && parsed.is_exact() {
        faults.push(Fault::warning(
            origin,
            format!(
                "match.cgroups: there is no cgroup {value} (tenant {})",
                tenant.name
            ),
            "it is bound when it appears",
        ));
    }
    if let Some(outside) = matching
        .iter()
        .find(|cgroup| is_outside(&cgroup.path, attach))
    {
        faults.push(Fault::warning(
            origin,
            format!(
                "match.cgroups: {} of tenant {} is outside {}, below which limiter looks \
                 (attach.cgroup)",
                outside.path,
                tenant.name,
                attach.display()
            ),
            "what runs there is not seen; attach at / or at a cgroup above both",
        ));
    }
    Some(parsed.is_exact())
}

/// Whether nothing in a cgroup passes the point of attachment.
fn is_outside(path: &str, attach: &Path) -> bool {
    let path = Path::new(path);
    !path.starts_with(attach) && !attach.starts_with(path)
}

/// Whose a cgroup is, of those who claim it; nobody's if two claim it alike.
fn decide(claims: &[Claim<'_>], faults: &mut Vec<Fault>) -> Option<CgroupBinding> {
    let exact = claims.iter().any(|claim| claim.exact);
    let mut strongest = claims.iter().filter(|claim| claim.exact == exact);
    let first = strongest.next()?;
    for other in strongest {
        if other.tenant != first.tenant {
            faults.push(Fault::error(
                &other.pattern.origin,
                format!(
                    "cgroup {} is claimed by tenant {} ({}, {}) and by tenant {} ({}, {})",
                    first.cgroup.path,
                    first.name,
                    first.pattern.value,
                    first.pattern.origin,
                    other.name,
                    other.pattern.value,
                    other.pattern.origin,
                ),
                "one tenant for each cgroup; its path written out beats a glob",
            ));
            return None;
        }
    }
    Some(CgroupBinding {
        id: first.cgroup.id,
        depth: first.cgroup.depth,
        path: first.cgroup.path.clone(),
        tenant: first.tenant,
        by: format!("cgroup {}", first.pattern.value),
    })
}
