//! The checked policy and the facts of this machine, put together: names become uids and ids, wide
//! and narrow claims become one owner each. Nothing here asks the system anything.

mod accounts;
mod cgroups;
mod flatten;
mod mta;
mod networks;
mod tenants;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uids;

use std::{collections::BTreeSet, net::SocketAddr};

use limiter_common::{abi::MAX_CGROUP_DEPTHS, verdict::PortGroup};

pub use self::mta::{KNOWN_MTA_USERS, LAST_SYSTEM_UID};
use super::{
    fault::{Fault, any_error},
    image::{CgroupBinding, Image},
    model::{Mode, Origin, Policy, Ports},
};
use crate::system::System;

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What is to stand in the kernel; none if any fault is an error.
    pub image: Option<Image>,
    /// All that is wrong or waits for something to appear.
    pub faults: Vec<Fault>,
}

/// Puts `policy` together with the facts of `system`.
///
/// The result depends on nothing else, and equal arguments give equal images: tenants stand in the
/// order of the policy, accounts behind them by uid.
#[must_use]
pub fn compile(policy: &Policy, system: &System) -> Compiled {
    let (image, faults) = compile_what_holds(policy, system);
    Compiled {
        image: (!any_error(&faults)).then_some(image),
        faults,
    }
}

/// As [`compile`], even if the machine contradicts the policy: an identity that two tenants have
/// come to claim (by a cgroup that two globs match, by overlapping sub-uid ranges) is an error
/// among the faults and left to whoever nobody claims, and all others hold. What a tenant can
/// bring about on the machine must not keep the policy of the others from being enforced.
#[must_use]
pub fn compile_what_holds(policy: &Policy, system: &System) -> (Image, Vec<Fault>) {
    let mut faults: Vec<Fault> = system
        .warnings
        .iter()
        .map(|warning| Fault::warning(&warning.origin, &warning.problem, &warning.advice))
        .collect();
    let nowhere = Origin {
        file: policy.places.config.as_path().into(),
        line: 0,
        column: 0,
    };

    let mut tenants = tenants::build(policy, &mut faults);
    let mta_users = mta::users(policy, &system.users, &nowhere, &mut faults);
    let mut claims = mta::claims(&mta_users, &nowhere);
    uids::claim(policy, &system.users, &mut claims, &mut faults);
    if let Some(accounts) = &policy.accounts {
        let mut builder = accounts::Builder {
            accounts,
            node_mode: policy.node.mode,
            users: &system.users,
            origin: &nowhere,
            tenants: &mut tenants,
        };
        builder.add(&mut claims, &mut faults);
    }
    let uids = flatten::flatten(&claims, &tenants, &mut faults);
    mta::check_programs(
        policy,
        &system.users,
        &uids,
        &tenants,
        &nowhere,
        &mut faults,
    );
    let cgroups = cgroups::bind(policy, &system.cgroups, &mut faults);

    let mut own_addresses = system.own_addresses.clone();
    own_addresses.extend(&policy.node.mta.addresses);
    own_addresses.sort_unstable();
    own_addresses.dedup();

    let addresses = networks::addresses(policy, &own_addresses, &mut faults);
    networks::check_blocked(policy, &own_addresses, &mut faults);

    let cgroups = shallowest(cgroups, &nowhere, &mut faults);
    let image = Image {
        enforce: policy.node.mode == Mode::Enforce,
        redirect4: first(&policy.node.mta.listen, SocketAddr::is_ipv4),
        redirect6: first(&policy.node.mta.listen, SocketAddr::is_ipv6),
        ports: ports(&policy.node.ports),
        exempt: policy.node.exempt.clone(),
        own_addresses,
        tenants,
        uids,
        cgroups,
        addresses,
        interfaces: networks::interfaces(policy),
        management: policy.node.management.clone(),
        blocked: policy.node.blocked.prefixes.clone(),
        mailbox: policy.node.mailbox,
        locks_clients: policy.node.mailbox_accounts.is_some()
            && !policy.places.services.dovecot.is_empty(),
        estimate: policy.node.estimate,
    };
    (image, faults)
}

/// The cgroups at as many different depths as the kernel looks at, the upper ones first.
fn shallowest(
    mut cgroups: Vec<CgroupBinding>,
    origin: &Origin,
    faults: &mut Vec<Fault>,
) -> Vec<CgroupBinding> {
    let depths: BTreeSet<u32> = cgroups.iter().map(|binding| binding.depth).collect();
    if let Some(most) = depths.iter().nth(MAX_CGROUP_DEPTHS) {
        let deep = cgroups
            .iter()
            .filter(|binding| binding.depth >= *most)
            .count();
        faults.push(Fault::warning(
            origin,
            format!(
                "cgroups are claimed at {} different depths; {deep} of them, {most} levels deep or \
                 deeper, are left to whatever holds above them",
                depths.len()
            ),
            format!("at most {MAX_CGROUP_DEPTHS} different depths"),
        ));
        cgroups.retain(|binding| binding.depth < *most);
    }
    cgroups
}

/// The first listener of a family.
fn first(listen: &[SocketAddr], family: impl Fn(&SocketAddr) -> bool) -> Option<SocketAddr> {
    listen.iter().copied().find(family)
}

/// The ports with their groups.
fn ports(ports: &Ports) -> Vec<(u16, PortGroup)> {
    let Ports {
        smtp,
        submission,
        mailbox,
    } = ports;
    [
        (smtp, PortGroup::Smtp),
        (submission, PortGroup::Submission),
        (mailbox, PortGroup::Mailbox),
    ]
    .into_iter()
    .flat_map(|(ports, group)| ports.iter().map(move |port| (*port, group)))
    .collect()
}
