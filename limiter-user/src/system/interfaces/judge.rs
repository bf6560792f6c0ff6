//! What the kernel programs may rely on: behind which interfaces everything has been judged already,
//! and before which of them everything is going to be. Whatever is not certain is not in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, Interfaces, Kind};

/// The interfaces from which a forwarded packet has been judged at a guest's ingress when it gets
/// to an uplink, `guests` and `uplinks` being those that the programs are really attached to.
///
/// The kernel remembers of a packet the last interface that it came in by. That is the guest's own
/// when a bridge or switch carries the frame, and the bridge, VLAN device or routing domain when
/// the node routes it. So these are in:
/// - the guests;
/// - a bridge or routing domain all of whose ports are in, or are uplinks that wrap nothing (or bonds
///   and VLAN devices of such): what comes from there comes from outside. One other port, and it is
///   out: a guest may be behind it.
///   A tunnel may end in a guest, so a bridge with one is out too;
/// - what stands on a device that is in: VLAN, macvlan, ipvlan;
/// - the end of a cable whose other end, in this network namespace too, is the port of a bridge all
///   of whose other ports would do.
///
/// Guests that are read and written beside another device (macvtap) are judged on their way out of
/// it and come in nowhere: they are not in.
#[must_use]
pub fn judged(
    interfaces: &Interfaces,
    guests: &BTreeSet<u32>,
    uplinks: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let outer = covered(interfaces, uplinks);
    let from_outside = |port: &Interface| {
        outer.contains(&port.index) && !matches!(port.kind, Kind::Tunnel(_) | Kind::Tun)
    };
    let mut judged: BTreeSet<u32> = guests
        .iter()
        .copied()
        .filter(|index| {
            let guest = interfaces.get(*index);
            guest.is_some_and(|guest| guest.kind != Kind::Macvtap)
        })
        .collect();
    let ports = interfaces.ports();
    loop {
        // How many ports of each would let something in that nobody judged.
        let doubtful: BTreeMap<u32, usize> = ports
            .iter()
            .map(|(master, ports)| {
                let doubtful = ports
                    .iter()
                    .filter(|port| !judged.contains(&port.index) && !from_outside(port));
                (*master, doubtful.count())
            })
            .collect();
        let more: Vec<u32> = interfaces
            .links
            .values()
            .filter(|link| !judged.contains(&link.index) && !uplinks.contains(&link.index))
            .filter(|link| match link.kind {
                Kind::Bridge | Kind::Vrf => doubtful.get(&link.index) == Some(&0),
                Kind::Vlan | Kind::Macvlan | Kind::Ipvlan => {
                    link.lower.is_some_and(|lower| judged.contains(&lower))
                }
                Kind::Veth | Kind::Netkit => link
                    .lower
                    .and_then(|peer| interfaces.get(peer))
                    .is_some_and(|peer| {
                        let bridge = peer.master.and_then(|master| interfaces.get(master));
                        bridge.is_some_and(|bridge| {
                            bridge.kind == Kind::Bridge
                                && ports.get(&bridge.index).map_or(0, Vec::len) > 1
                                && doubtful.get(&bridge.index).copied().unwrap_or(0)
                                    == usize::from(
                                        !judged.contains(&peer.index) && !from_outside(peer),
                                    )
                        })
                    }),
                _ => false,
            })
            .map(|link| link.index)
            .collect();
        if more.is_empty() {
            return judged;
        }
        judged.extend(more);
    }
}

/// The interfaces by which a local packet is sent that then passes the program of an uplink for
/// sure, `uplinks` being those that the program is really attached to: the uplinks themselves,
/// bridges, bonds and teams all of whose ports are in, and VLAN devices whose device is.
///
/// Not macvlan and ipvlan devices, unless they are uplinks: what one of them sends to its sibling
/// does not pass the device below.
#[must_use]
pub fn covered(interfaces: &Interfaces, uplinks: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut covered: BTreeSet<u32> = uplinks
        .iter()
        .copied()
        .filter(|index| interfaces.get(*index).is_some())
        .collect();
    let ports = interfaces.ports();
    loop {
        let more: Vec<u32> = interfaces
            .links
            .values()
            .filter(|link| !covered.contains(&link.index))
            .filter(|link| match link.kind {
                Kind::Bridge | Kind::Bond | Kind::Team => ports
                    .get(&link.index)
                    .is_some_and(|ports| ports.iter().all(|port| covered.contains(&port.index))),
                Kind::Vlan => link.lower.is_some_and(|lower| covered.contains(&lower)),
                _ => false,
            })
            .map(|link| link.index)
            .collect();
        if more.is_empty() {
            return covered;
        }
        covered.extend(more);
    }
}

/// Of these, those that a bridge or switch of this node sends by: itself their master, or the master
/// of the bond or team that they are a part of, or of a VLAN of that. What leaves there need not have
/// been routed here to come from here.
#[must_use]
pub fn bridged(interfaces: &Interfaces, among: &BTreeSet<u32>) -> BTreeSet<u32> {
    let is_switched = |link: &Interface| {
        let master = link.master.and_then(|index| interfaces.get(index));
        master.is_some_and(|master| matches!(master.kind, Kind::Bridge | Kind::OpenVswitch))
    };
    let above = |link: &Interface| {
        let master = link.master.and_then(|index| interfaces.get(index))?;
        matches!(master.kind, Kind::Bond | Kind::Team).then_some(master)
    };
    let vlans = |device: &Interface| {
        let mut links = interfaces.links.values();
        let index = device.index;
        links.any(|link| link.kind == Kind::Vlan && link.lower == Some(index) && is_switched(link))
    };
    let links = among.iter().filter_map(|index| interfaces.get(*index));
    links
        .filter(|link| {
            is_switched(link) || above(link).is_some_and(|bond| is_switched(bond) || vlans(bond))
        })
        .map(|link| link.index)
        .collect()
}
