//! Who owns which uid, cgroup and address, which addresses are the node's, and which destinations are
//! exempt: the maps that name identities, kept by writing only what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use limiter_common::{
    abi::{DENSE_UIDS, MAX_CGROUP_DEPTHS},
    address::{self, Address, EXEMPT_SET_BITS, ExemptKey, ExemptPorts, MAX_EXEMPT_PORTS},
    owner::Owner,
};

use super::{KernelError, dense, maps::Maps, own, prefixes, sys};
use crate::policy::{
    image::{AddressBinding, UidBinding},
    model::Exempt,
    prefix_set::PrefixSet,
};

/// What stands in the identity maps, as encoded owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    /// Owners by uid, ordinary uids; 0 for none, and behind the end.
    uids: Vec<u32>,
    /// Owners by prefix, high uids.
    uid_ranges: BTreeMap<(u32, u32), u32>,
    /// Owners by cgroup id.
    cgroups: BTreeMap<u64, u32>,
    /// The node's own addresses.
    own_addresses: BTreeSet<Address>,
    /// Owners by address prefix: length in bits, data.
    addresses: BTreeMap<(u32, Address), u32>,
    /// Prefixes that stay reachable under a suspension.
    management: BTreeSet<(u32, Address)>,
}

impl Identities {
    /// What is to stand in the maps. `owner` gives the encoded owner of a binding.
    #[must_use]
    pub fn wanted<'b>(
        uids: impl IntoIterator<Item = &'b UidBinding>,
        owner: impl Fn(&UidBinding) -> Owner,
        cgroups: impl IntoIterator<Item = (u64, Owner)>,
        own_addresses: &[IpAddr],
    ) -> Self {
        let mut wanted = Self::default();
        let mut high = Vec::new();
        for binding in uids {
            let wire = owner(binding).to_wire();
            let (first, last) = (binding.range.first, binding.range.last);
            if first < DENSE_UIDS {
                let range = dense::place(first)..=dense::place(last.min(DENSE_UIDS - 1));
                let length = wanted.uids.len().max(range.end() + 1);
                wanted.uids.resize(length, 0);
                wanted.uids[range].fill(wire);
            }
            if last >= DENSE_UIDS {
                high.push((first.max(DENSE_UIDS), last, wire));
            }
        }
        wanted.uid_ranges = prefixes::of_ranges(high);
        wanted.cgroups = cgroups
            .into_iter()
            .map(|(id, owner)| (id, owner.to_wire()))
            .collect();
        wanted.own_addresses = own_addresses.iter().copied().map(wire_address).collect();
        wanted
    }

    /// Adds the owners of addresses, and what stays reachable under a suspension. `owner` gives
    /// the encoded owner of a binding.
    ///
    /// This node's own addresses are nobody's unless they are claimed one by one: a tenant's
    /// prefix around them does not make the node's traffic the tenant's.
    #[must_use]
    pub fn with_networks(
        mut self,
        addresses: &[AddressBinding],
        owner: impl Fn(&AddressBinding) -> Owner,
        management: &[IpNet],
    ) -> Self {
        self.addresses = addresses
            .iter()
            .map(|binding| (wire_net(binding.net), owner(binding).to_wire()))
            .collect();
        let claimed = PrefixSet::merged(addresses.iter().map(|binding| binding.net));
        for address in &self.own_addresses {
            let host = host_of(address);
            if claimed.holding(host).is_some() {
                let nobody = Owner::NOBODY.to_wire();
                self.addresses.entry((128, *address)).or_insert(nobody);
            }
        }
        self.management = management.iter().map(|net| wire_net(*net)).collect();
        self
    }

    /// Which map lacks room for what is here and in `wanted` side by side, with how many entries
    /// it would need and how many it holds.
    #[must_use]
    pub fn lacks_room(&self, wanted: &Self, maps: &Maps) -> Option<(&'static str, usize, usize)> {
        let all = [
            (
                "claimed cgroups",
                self.cgroups.len() + new_keys(&self.cgroups, &wanted.cgroups),
                maps.cgroups.room(),
            ),
            (
                "prefixes of high uids",
                self.uid_ranges.len() + new_keys(&self.uid_ranges, &wanted.uid_ranges),
                maps.uid_ranges.room(),
            ),
            (
                "addresses of this node",
                self.own_addresses.union(&wanted.own_addresses).count(),
                maps.own_addresses.room(),
            ),
            (
                "claimed addresses and prefixes",
                self.addresses.len() + new_keys(&self.addresses, &wanted.addresses),
                maps.addresses.room(),
            ),
            (
                "prefixes of `management`",
                self.management.union(&wanted.management).count(),
                maps.management.room(),
            ),
        ];
        all.into_iter().find(|(_, needed, room)| needed > room)
    }

    /// What stands in the maps now.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read(maps: &Maps) -> Result<Self, KernelError> {
        let mut found = Self {
            uids: maps.uids.all()?,
            ..Self::default()
        };
        for (bits, data, wire) in maps.uid_ranges.entries()? {
            found
                .uid_ranges
                .insert((u32::from_be_bytes(data), bits), wire);
        }
        found.cgroups = maps.cgroups.entries()?.into_iter().collect();
        found.own_addresses = maps
            .own_addresses
            .entries()?
            .into_iter()
            .map(|(address, _)| address)
            .collect();
        found.addresses = maps
            .addresses
            .entries()?
            .into_iter()
            .map(|(bits, data, wire)| ((bits, data), wire))
            .collect();
        found.management = maps
            .management
            .entries()?
            .into_iter()
            .map(|(bits, data, _)| (bits, data))
            .collect();
        Ok(found)
    }

    /// Makes the maps hold `wanted`: what is new or changed is written first, then what is gone is
    /// removed, so that nobody is nobody's in between. Returns how many entries were touched.
    ///
    /// # Errors
    ///
    /// A map is full or refuses; what was written until then is remembered.
    pub fn become_in(&mut self, wanted: Self, maps: &mut Maps) -> Result<usize, KernelError> {
        let mut touched = 0;
        let new = differing(&self.cgroups, &wanted.cgroups);
        if !new.is_empty() {
            // Should that fail, nobody knows which stand there.
            self.cgroups.extend(new.iter().map(|(id, _)| (*id, UNSURE)));
            maps.cgroups.insert_many(&new)?;
            touched += new.len();
            self.cgroups.extend(new);
        }
        let new = differing(&self.uid_ranges, &wanted.uid_ranges);
        if !new.is_empty() {
            self.uid_ranges
                .extend(new.iter().map(|(prefix, _)| (*prefix, UNSURE)));
            let entries: Vec<_> = new
                .iter()
                .map(|((first, bits), wire)| (*bits, first.to_be_bytes(), *wire))
                .collect();
            maps.uid_ranges.set_many(&entries)?;
            touched += new.len();
            self.uid_ranges.extend(new);
        }
        touched += self.write_uids(&wanted.uids, |wire| wire != 0, maps)?;
        let moved = self.own_addresses != wanted.own_addresses;
        if moved {
            let both = self.own_addresses.union(&wanted.own_addresses).copied();
            own::pass(&both.collect(), maps)?;
        }
        for address in wanted.own_addresses.difference(&self.own_addresses.clone()) {
            maps.own_addresses.insert(*address, 1)?;
            self.own_addresses.insert(*address);
            touched += 1;
        }
        let new = differing(&self.addresses, &wanted.addresses);
        if !new.is_empty() {
            self.addresses
                .extend(new.iter().map(|(prefix, _)| (*prefix, UNSURE)));
            let entries: Vec<_> = new
                .iter()
                .map(|((bits, data), wire)| (*bits, *data, *wire))
                .collect();
            maps.addresses.set_many(&entries)?;
            touched += new.len();
            self.addresses.extend(new);
        }
        for prefix in wanted.management.difference(&self.management.clone()) {
            maps.management.insert(prefix.0, prefix.1, 1)?;
            self.management.insert(*prefix);
            touched += 1;
        }

        if self.has_more_than(&wanted) {
            // A program that looked for a new claim before it was written may look for the old one
            // next: it stays until all that run now are done.
            sys::let_programs_finish();
        }
        for id in gone(&self.cgroups, &wanted.cgroups) {
            maps.cgroups.remove(&id)?;
            self.cgroups.remove(&id);
            touched += 1;
        }
        for prefix in gone(&self.uid_ranges, &wanted.uid_ranges) {
            maps.uid_ranges.remove(prefix.1, prefix.0.to_be_bytes())?;
            self.uid_ranges.remove(&prefix);
            touched += 1;
        }
        touched += self.write_uids(&wanted.uids, |wire| wire == 0, maps)?;
        for address in self.own_addresses.clone().difference(&wanted.own_addresses) {
            maps.own_addresses.remove(address)?;
            self.own_addresses.remove(address);
            touched += 1;
        }
        if moved {
            own::pass(&self.own_addresses, maps)?;
        }
        for prefix in gone(&self.addresses, &wanted.addresses) {
            maps.addresses.remove(prefix.0, prefix.1)?;
            self.addresses.remove(&prefix);
            touched += 1;
        }
        for prefix in self.management.clone().difference(&wanted.management) {
            maps.management.remove(prefix.0, prefix.1)?;
            self.management.remove(prefix);
            touched += 1;
        }
        Ok(touched)
    }
}

impl Identities {
    /// Whether anything is to be removed that says whose something is.
    fn has_more_than(&self, wanted: &Self) -> bool {
        let cgroups = self
            .cgroups
            .keys()
            .any(|id| !wanted.cgroups.contains_key(id));
        let prefixes = self
            .uid_ranges
            .keys()
            .any(|prefix| !wanted.uid_ranges.contains_key(prefix));
        let addresses = self
            .addresses
            .keys()
            .any(|prefix| !wanted.addresses.contains_key(prefix));
        let management = !self.management.is_subset(&wanted.management);
        cgroups
            || prefixes
            || addresses
            || management
            || dense::differing(&self.uids, &wanted.uids)
                .iter()
                .any(|(_, wire)| *wire == 0)
    }

    /// Writes those uids that are not what they are to be and that `which` says. Returns how many.
    fn write_uids(
        &mut self,
        wanted: &[u32],
        which: impl Fn(u32) -> bool,
        maps: &mut Maps,
    ) -> Result<usize, KernelError> {
        let mut new = dense::differing(&self.uids, wanted);
        new.retain(|(_, wire)| which(*wire));
        if new.is_empty() {
            return Ok(0);
        }
        self.uids.resize(self.uids.len().max(wanted.len()), 0);
        for (uid, _) in &new {
            self.uids[dense::place(*uid)] = UNSURE;
        }
        maps.uids.set_many(&new)?;
        for (uid, wire) in &new {
            self.uids[dense::place(*uid)] = *wire;
        }
        Ok(new.len())
    }
}

/// What is remembered of an entry whose writing failed: no owner's number (the highest is the
/// MTA's, and no map holds so many tenants), so that it is written or removed again, whatever
/// stands there.
const UNSURE: u32 = u32::MAX - 1;

/// What is in `wanted` and not the same in `now`.
fn differing<K: Ord + Copy>(now: &BTreeMap<K, u32>, wanted: &BTreeMap<K, u32>) -> Vec<(K, u32)> {
    wanted
        .iter()
        .filter(|(key, wire)| now.get(key) != Some(wire))
        .map(|(key, wire)| (*key, *wire))
        .collect()
}

/// How many keys of `wanted` are not in `now`.
fn new_keys<K: Ord, V>(now: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> usize {
    wanted.keys().filter(|key| !now.contains_key(key)).count()
}

fn gone<K: Ord + Copy, V>(now: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Vec<K> {
    now.keys()
        .filter(|key| !wanted.contains_key(key))
        .copied()
        .collect()
}

/// The depths of claimed cgroups, deepest first, as the kernel walks them.
///
/// # Errors
///
/// There are more different ones than the kernel looks at.
pub fn depths(
    depths: impl IntoIterator<Item = u32>,
) -> Result<[u8; MAX_CGROUP_DEPTHS], KernelError> {
    let distinct: BTreeSet<u8> = depths
        .into_iter()
        .filter_map(|depth| u8::try_from(depth).ok())
        .collect();
    if distinct.len() > MAX_CGROUP_DEPTHS {
        return Err(KernelError::NoRoom {
            what: "different depths of claimed cgroups",
            needed: distinct.len(),
            room: MAX_CGROUP_DEPTHS,
        });
    }
    let mut list = [0; MAX_CGROUP_DEPTHS];
    for (place, depth) in list.iter_mut().zip(distinct.iter().rev()) {
        *place = *depth;
    }
    Ok(list)
}

/// The 16-byte form of an address.
#[must_use]
pub fn wire_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => address::from_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address behind its 16-byte form.
fn host_of(address: &Address) -> IpAddr {
    match address::as_v4(address) {
        Some(octets) => IpAddr::from(octets),
        None => IpAddr::from(*address),
    }
}

/// A prefix as a key: length in bits of the 16-byte form, and its data.
#[must_use]
pub fn wire_net(net: IpNet) -> (u32, Address) {
    let in_front = if net.addr().is_ipv4() { 96 } else { 0 };
    let bits = u32::from(net.prefix_len()) + in_front;
    (bits, wire_address(net.network()))
}

/// The entries of a set of exempt destinations: prefix length, key, ports. A prefix carries the
/// ports of all that hold it, for the kernel finds only the longest.
#[must_use]
pub fn exempt_entries(set: u32, exempt: &[Exempt]) -> BTreeMap<(u32, ExemptKey), ExemptPorts> {
    let mut entries = BTreeMap::new();
    for rule in exempt {
        let net = rule.to.trunc();
        let mut ports = BTreeSet::new();
        let mut every_port = false;
        for other in exempt
            .iter()
            .filter(|other| other.to.trunc().contains(&net))
        {
            every_port |= other.ports.is_empty();
            ports.extend(other.ports.iter().copied());
        }
        let mut value = ExemptPorts::default();
        // More ports than fit can only come together from several overlapping rules.
        if !every_port && ports.len() <= MAX_EXEMPT_PORTS {
            value.count = u32::try_from(ports.len()).unwrap_or_default();
            for (place, port) in value.ports.iter_mut().zip(&ports) {
                *place = *port;
            }
        } else if !every_port {
            value.count = u32::try_from(MAX_EXEMPT_PORTS).unwrap_or_default();
            for (place, port) in value.ports.iter_mut().zip(&rule.ports) {
                *place = *port;
            }
        }
        let (bits, address) = wire_net(net);
        let key = ExemptKey::new(set, address);
        entries.insert((EXEMPT_SET_BITS + bits, key), value);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{image::Holder, model::UidRange};

    fn binding(first: u32, last: u32, tenant: usize) -> UidBinding {
        let range = UidRange { first, last };
        UidBinding {
            range,
            holder: Holder::Tenant(tenant),
            by: String::new(),
        }
    }

    #[test]
    fn ranges_are_split_at_the_end_of_the_dense_array() {
        let bindings = [
            binding(DENSE_UIDS - 2, DENSE_UIDS + 1, 4),
            binding(300_000, 365_535, 5),
        ];
        let owner = |binding: &UidBinding| match binding.holder {
            Holder::Tenant(tenant) => Owner::tenant(u32::try_from(tenant).unwrap()),
            Holder::Mta => Owner::MTA,
        };
        let wanted = Identities::wanted(&bindings, owner, [], &[]);
        assert_eq!(wanted.uids.iter().filter(|wire| **wire != 0).count(), 2);
        assert_eq!(wanted.uid_ranges[&(DENSE_UIDS, 31)], 5);
        let high: u64 = wanted
            .uid_ranges
            .iter()
            .filter(|(_, wire)| **wire == 6)
            .map(|((_, bits), _)| 1_u64 << (32 - bits))
            .sum();
        assert_eq!(high, 65_536);
    }

    #[test]
    fn depths_are_deepest_first() {
        let list = depths([2, 5, 2, 3]).unwrap();
        assert_eq!(list[..4], [5, 3, 2, 0]);
        assert!(depths(1..=17).is_err());
    }

    #[test]
    fn a_longer_prefix_keeps_the_ports_of_the_shorter() {
        let rule = |to: &str, ports: &[u16]| Exempt {
            to: to.parse().unwrap(),
            ports: ports.to_vec(),
        };
        let rules = [
            rule("198.51.100.0/24", &[25]),
            rule("198.51.100.25/32", &[587]),
            rule("2001:db8::/32", &[]),
        ];
        let entries = exempt_entries(7, &rules);
        let longest = entries
            .iter()
            .find(|((bits, _), _)| *bits == 32 + 128)
            .unwrap()
            .1;
        assert!(longest.contains(25) && longest.contains(587) && !longest.contains(465));
        let shorter = entries
            .iter()
            .find(|((bits, _), _)| *bits == 32 + 120)
            .unwrap()
            .1;
        assert!(shorter.contains(25) && !shorter.contains(587));
        let v6 = entries
            .iter()
            .find(|((bits, _), _)| *bits == 32 + 32)
            .unwrap()
            .1;
        assert!(v6.contains(1));
        assert!(entries.keys().all(|(_, key)| key.set == [0, 0, 0, 7]));
    }
}
