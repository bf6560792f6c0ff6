//! Which interfaces lead out.

use std::collections::BTreeSet;

use super::{
    Interface, Kind,
    names::Names,
    resolve::{Resolver, leads_to_guest},
};

impl Resolver<'_> {
    /// The interfaces that the policy names as uplinks, bridges not yet resolved to their ports.
    pub(super) fn named_uplinks(&mut self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for glob in self.wanted.uplinks.iter().flatten() {
            let mut names = Names::new();
            names.add(glob, ());
            let links = self.interfaces.links.values();
            let matching: Vec<u32> = links
                .filter(|link| link.kind != Kind::Loopback && names.matches(&link.name))
                .map(|link| link.index)
                .collect();
            if matching.is_empty() {
                self.missing
                    .push(format!("attach.uplinks: there is no interface {glob}"));
            }
            found.extend(matching);
        }
        found
    }

    /// The interfaces that lead out.
    pub(super) fn uplinks(
        &mut self,
        named: &BTreeSet<u32>,
        guests: &BTreeSet<u32>,
    ) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        if self.wanted.uplinks.is_some() {
            for index in named {
                self.expand(*index, guests, &mut seen, &mut found);
            }
            return found;
        }
        let outward = &self.interfaces.outward;
        for index in outward.difference(guests) {
            self.expand(*index, guests, &mut seen, &mut found);
        }
        for index in outward.intersection(guests) {
            if let Some(link) = self.interfaces.get(*index) {
                self.warn(
                    None,
                    format!(
                        "attach.guests: {} is a guest's by its name, and a route to the world goes \
                         by it",
                        link.name
                    ),
                    "it is taken for a guest's; if it is an uplink, name it in attach.uplinks",
                );
            }
        }
        if found.is_empty() {
            self.missing
                .push("attach.uplinks: no interface has a route to the world".to_owned());
        }
        // What the node wraps can be read here and nowhere after.
        found.extend(
            self.interfaces
                .links
                .values()
                .filter(|link| wraps(link) && link.up && !guests.contains(&link.index))
                .map(|link| link.index),
        );
        found
    }

    /// What an uplink really sends by: the ports of bridges and bonds. Guests are none.
    fn expand(
        &self,
        index: u32,
        guests: &BTreeSet<u32>,
        seen: &mut BTreeSet<u32>,
        found: &mut BTreeSet<u32>,
    ) {
        let Some(link) = self.interfaces.get(index) else {
            return;
        };
        if link.kind == Kind::Loopback || !seen.insert(index) {
            return;
        }
        let mut ports: Vec<&Interface> = match link.kind {
            Kind::Bridge | Kind::Bond | Kind::Team | Kind::Vrf => self.ports(index).collect(),
            Kind::OpenVswitch => self.switch_ports(),
            // Its frames leave by the bridge's ports, as do those that bypass this device.
            Kind::Vlan => link
                .lower
                .and_then(|lower| self.interfaces.get(lower))
                .filter(|lower| matches!(lower.kind, Kind::Bridge | Kind::OpenVswitch))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        };
        ports.retain(|port| !guests.contains(&port.index) && port.index != index);
        // A port that leads to a guest whom nobody named is no way out, unless there is no other.
        if ports.iter().any(|port| is_wire(port)) {
            ports.retain(|port| is_wire(port));
        } else {
            ports.retain(|port| {
                leads_to_guest(port) || matches!(port.kind, Kind::Bridge | Kind::OpenVswitch)
            });
        }
        if ports.is_empty() {
            found.insert(index);
        }
        for port in ports {
            self.expand(port.index, guests, seen, found);
        }
    }

    /// The ports of the switch, which does not tell which bridge of it they belong to.
    fn switch_ports(&self) -> Vec<&Interface> {
        self.interfaces
            .links
            .values()
            .filter(|link| link.kind == Kind::OpenVswitch)
            .flat_map(|switch| self.ports(switch.index))
            .collect()
    }
}

/// Whether a port may be a way out on its own.
fn is_wire(link: &Interface) -> bool {
    match link.kind {
        Kind::Veth | Kind::Netkit | Kind::Bridge | Kind::OpenVswitch => false,
        Kind::Tun => !link.is_ethernet,
        _ => true,
    }
}

/// Whether an interface wraps what it gets, by itself or by a program that reads it.
fn wraps(link: &Interface) -> bool {
    match link.kind {
        Kind::Tunnel(_) => true,
        Kind::Tun => !link.is_ethernet,
        _ => false,
    }
}
