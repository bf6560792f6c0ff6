//! Who owns which addresses and interfaces, and what the blocked prefixes have to do with this
//! node.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::tenants::FIRST;
use crate::policy::{
    fault::Fault,
    image::{AddressBinding, TenantRef},
    model::{Located, Policy, Tenant},
};

/// That a prefix is somebody's: the tenant, and where it says so.
type Claim<'a> = (TenantRef, &'a Tenant, &'a Located<IpNet>);

/// The owners of the prefixes that the policy claims, sorted; a narrower one beats a wider.
///
/// This node's own addresses are not a tenant's by a wider prefix. Claimed one by one they are,
/// and it is said what that means.
pub(super) fn addresses(
    policy: &Policy,
    own: &[IpAddr],
    faults: &mut Vec<Fault>,
) -> Vec<AddressBinding> {
    let own: HashSet<IpNet> = own.iter().map(|address| IpNet::from(*address)).collect();
    let mut claims: BTreeMap<IpNet, Vec<Claim<'_>>> = BTreeMap::new();
    for (index, tenant) in policy.tenants.iter().enumerate() {
        for claim in &tenant.matches.addresses {
            if own.contains(&claim.value) {
                faults.push(Fault::warning(
                    &claim.origin,
                    format!(
                        "match.addresses: {} of tenant {} is this node's own address",
                        claim.value.addr(),
                        tenant.name
                    ),
                    "right for an address that is the tenant's alone; what is sanctioned by \
                     address then reaches it: never claim the node's main address",
                ));
            }
            let claims = claims.entry(claim.value.trunc()).or_default();
            claims.push((FIRST + index, tenant, claim));
        }
    }
    let decide = |(net, claims): (IpNet, Vec<Claim<'_>>)| {
        let (at, first, place) = *claims.first()?;
        if let Some((_, other, other_place)) = claims.iter().find(|claim| claim.0 != at) {
            // The files were checked; a policy that was kept by another version was not.
            faults.push(Fault::error(
                &other_place.origin,
                format!(
                    "match.addresses: {net} is claimed by tenant {} ({}) and by tenant {} ({})",
                    first.name, place.origin, other.name, other_place.origin
                ),
                "one tenant for each prefix; a narrower one beats a wider",
            ));
            return None;
        }
        Some(AddressBinding {
            net,
            tenant: at,
            by: by(net),
        })
    };
    claims.into_iter().filter_map(decide).collect()
}

/// `address 203.0.113.7`, `addresses 203.0.113.0/24`.
fn by(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        format!("address {}", net.addr())
    } else {
        format!("addresses {net}")
    }
}

/// The globs of interfaces of each tenant that has some.
pub(super) fn interfaces(policy: &Policy) -> Vec<(TenantRef, Vec<String>)> {
    let globs = policy.tenants.iter().enumerate().map(|(index, tenant)| {
        let globs = &tenant.matches.interfaces;
        let globs = globs.iter().map(|glob| glob.value.clone()).collect();
        (FIRST + index, globs)
    });
    globs
        .filter(|(_, globs): &(_, Vec<String>)| !globs.is_empty())
        .collect()
}

/// Warns of blocked prefixes that this node needs itself.
pub(super) fn check_blocked(policy: &Policy, own: &[IpAddr], faults: &mut Vec<Fault>) {
    let blocked = &policy.node.blocked;
    let set = &blocked.prefixes;
    if set.is_empty() {
        return;
    }
    let mut warn = |problem: String, allowed: &str| {
        faults.push(Fault::warning(&blocked.origin, problem, allowed));
    };
    let mut cut = own
        .iter()
        .filter(|address| !address.is_loopback())
        .filter_map(|address| Some((set.holding(*address)?, address)));
    if let Some((net, address)) = cut.next() {
        let more = match cut.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        warn(
            format!("blocked: {net} holds this node's own address {address}{more}"),
            "take it out: this node could not connect to itself there, nor to neighbours such as its \
             router",
        );
    }
    let loopback = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    if let Some(net) = loopback.iter().find_map(|net| set.overlapping(*net)) {
        warn(
            format!("blocked: {net} holds loopback addresses"),
            "loopback stays open whatever is blocked; take it out",
        );
    }
    for management in &policy.node.management {
        if let Some(net) = set.overlapping(*management) {
            warn(
                format!("blocked: {net} shares addresses with {management} of `management`"),
                "take it out of one: what is blocked is refused, also for management",
            );
        }
    }
}
