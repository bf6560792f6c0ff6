//! Whose interfaces are whose.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Kind,
    names::Names,
    resolve::{Resolver, leads_to_guest},
};
use crate::report::text::few;

/// A tenant's glob: its place in the list of tenants, and the glob's in the tenant's.
type Claim = (usize, usize);

impl Resolver<'_> {
    /// Whose the interfaces are: places of tenants in the policy.
    pub(super) fn owners(&mut self, named: &BTreeSet<u32>) -> BTreeMap<u32, usize> {
        let wanted = self.wanted;
        let mut names = Names::new();
        for (place, tenant) in wanted.tenants.iter().enumerate() {
            for (which, glob) in tenant.interfaces.iter().enumerate() {
                names.add(&glob.value, (place, which));
            }
        }
        let mut used = BTreeSet::new();
        // By the two that first claim it: which interfaces.
        let mut contested: BTreeMap<(Claim, Claim), Vec<&str>> = BTreeMap::new();
        let mut not_guests: BTreeMap<Claim, Vec<&str>> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for link in self.interfaces.links.values() {
            let mut claims: Vec<(Claim, bool)> = names.matching(&link.name).collect();
            used.extend(claims.iter().map(|(claim, _)| *claim));
            // A name beats a glob.
            if claims.iter().any(|(_, exact)| *exact) {
                claims.retain(|(_, exact)| *exact);
            }
            claims.sort_unstable();
            let Some(((place, which), _)) = claims.first().copied() else {
                continue;
            };
            if link.kind == Kind::Loopback || named.contains(&link.index) {
                not_guests
                    .entry((place, which))
                    .or_default()
                    .push(&link.name);
            } else if let Some((other, _)) = claims
                .iter()
                .copied()
                .find(|((other, _), _)| *other != place)
            {
                contested
                    .entry(((place, which), other))
                    .or_default()
                    .push(&link.name);
            } else if let Some(tenant) = wanted.tenants.get(place) {
                owners.insert(link.index, tenant.index);
            }
        }
        let glob = |(place, which): Claim| {
            let tenant = wanted.tenants.get(place)?;
            Some((tenant, tenant.interfaces.get(which)?))
        };
        for (place, tenant) in wanted.tenants.iter().enumerate() {
            for (which, glob) in tenant.interfaces.iter().enumerate() {
                if !used.contains(&(place, which)) {
                    self.warn(
                        Some(&glob.origin),
                        format!(
                            "match.interfaces: tenant {} has {}, and there is no such interface",
                            tenant.name, glob.value
                        ),
                        "it is bound as soon as it appears",
                    );
                }
            }
        }
        for ((one, other), names) in contested {
            if let (Some((one, first)), Some((other, second))) = (glob(one), glob(other)) {
                self.warn(
                    Some(&first.origin),
                    format!(
                        "match.interfaces: tenants {} ({}) and {} ({}) both claim {}",
                        one.name,
                        first.value,
                        other.name,
                        second.value,
                        few(&names)
                    ),
                    "nobody gets it and the default rules hold; a name beats a glob",
                );
            }
        }
        for (claim, names) in not_guests {
            if let Some((tenant, glob)) = glob(claim) {
                self.warn(
                    Some(&glob.origin),
                    format!(
                        "match.interfaces: {} of tenant {} matches {}, which is an uplink or \
                         loopback",
                        glob.value,
                        tenant.name,
                        few(&names)
                    ),
                    "it is not the tenant's; give the names of guest interfaces",
                );
            }
        }
        self.hand_down(named, &mut owners);
        owners
    }

    /// What a tenant's bridge or routing domain has for ports is the tenant's too, where it leads to
    /// a guest and nobody else has it.
    fn hand_down(&self, named: &BTreeSet<u32>, owners: &mut BTreeMap<u32, usize>) {
        let guests = self.guest_names();
        let masters: Vec<(u32, usize)> = owners.iter().map(|(k, v)| (*k, *v)).collect();
        for (master, owner) in masters {
            let is_master = self
                .interfaces
                .get(master)
                .is_some_and(|link| matches!(link.kind, Kind::Bridge | Kind::Vrf));
            if !is_master {
                continue;
            }
            for port in self.ports(master) {
                if !named.contains(&port.index)
                    && (leads_to_guest(port) || guests.matches(&port.name))
                {
                    owners.entry(port.index).or_insert(owner);
                }
            }
        }
    }
}
