//! Which programs belong on which interfaces, by what the policy says. Nothing is touched here.
//!
//! Where a guest's packets are seen in this network namespace (measured on 6.18; ipvlan by its source):
//! - veth, netkit, tap: they come in by the interface (tc ingress), bridged or routed alike;
//! - macvtap: what the guest writes *goes out* of the macvtap device (tc egress) and then of the
//!   device below it. It never comes in;
//! - macvlan and ipvlan devices that were moved into a guest: only going out of the device below.
//!   Nothing is left here to attach to; the uplink sees them, with the sender's cgroup;
//! - a bridge: routed frames come in by it (tc ingress) after they came in by the port, bridged
//!   frames never do. So the ports are attached to, not the bridge.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{Interface, Interfaces, Kind, covered, judged, names::Names};
use crate::{
    policy::model::{Located, Origin, Policy},
    report::text::few,
    system::Warning,
};

/// What the policy says about interfaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The main configuration file, for warnings.
    pub config: PathBuf,
    /// Names or globs of those that lead out; `None`: to be found from the routes.
    pub uplinks: Option<Vec<String>>,
    /// Globs of those that lead to guests.
    pub guests: Vec<String>,
    /// The tenants that have interfaces.
    pub tenants: Vec<WantedTenant>,
}

/// The interfaces that a tenant has.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedTenant {
    /// Which tenant: its place in the policy.
    pub index: usize,
    /// Its name, for warnings.
    pub name: String,
    /// Globs of its interfaces.
    pub interfaces: Vec<Located<String>>,
}

impl Wanted {
    /// What a policy says.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let tenants = policy.tenants.iter().enumerate();
        Self {
            config: policy.places.config.clone(),
            uplinks: policy.places.uplinks.clone(),
            guests: policy.places.guests.clone(),
            tenants: tenants
                .filter(|(_, tenant)| !tenant.matches.interfaces.is_empty())
                .map(|(index, tenant)| WantedTenant {
                    index,
                    name: tenant.name.clone(),
                    interfaces: tenant.matches.interfaces.clone(),
                })
                .collect(),
        }
    }
}

/// On which side of an interface packets are to be judged, as tc names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Coming in from the guest.
    Ingress,
    /// Going out.
    Egress,
}

/// A program that belongs on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attach {
    /// The interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether its packets start with an Ethernet header.
    pub ethernet: bool,
    /// On which side. Guests: ingress, but egress for macvtap. Uplinks: egress.
    pub side: Side,
}

/// Which programs belong where, and what follows from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The guest program, by index of the interface.
    pub guests: Vec<Attach>,
    /// The uplink program, by index of the interface.
    pub uplinks: Vec<Attach>,
    /// Whose interfaces are whose: index of the interface, place of the tenant in the policy.
    /// Bridges of tenants are in, with their ports: packets that the node routes come from there.
    pub owners: Vec<(u32, usize)>,
    /// [`judged`], if all of this is attached.
    pub judged: BTreeSet<u32>,
    /// [`covered`], if all of this is attached.
    pub covered: BTreeSet<u32>,
    /// What is odd, and what was done about it.
    pub warnings: Vec<Warning>,
    /// Why the uplink layer does not see all that it should: uplinks that are not there.
    pub missing: Vec<String>,
}

/// Decides which programs belong where.
///
/// A guest is what a glob of `guests` or of a tenant matches; the ports of a tenant's bridge are its
/// guests too, where they lead to one. Guests win over what the routes say, or a guest that
/// announces itself as a router would get rid of its program; uplinks that are named win over guests.
#[must_use]
pub fn resolve(interfaces: &Interfaces, wanted: &Wanted) -> Coverage {
    let mut resolver = Resolver {
        interfaces,
        ports: interfaces.ports(),
        wanted,
        warnings: Vec::new(),
        missing: Vec::new(),
    };
    let named = resolver.named_uplinks();
    let owners = resolver.owners(&named);
    let guests = resolver.guests(&named, &owners);
    let uplinks = resolver.uplinks(&named, &guests);
    resolver.warn_of_strangers(&guests, &uplinks);
    let attach = |indexes: &BTreeSet<u32>, is_guest: bool| {
        let links = indexes.iter().filter_map(|index| interfaces.get(*index));
        links
            .map(|link| Attach {
                index: link.index,
                name: link.name.clone(),
                ethernet: link.is_ethernet,
                side: match link.kind {
                    Kind::Macvtap => Side::Egress,
                    _ if is_guest => Side::Ingress,
                    _ => Side::Egress,
                },
            })
            .collect()
    };
    Coverage {
        guests: attach(&guests, true),
        uplinks: attach(&uplinks, false),
        judged: judged(interfaces, &guests, &uplinks),
        covered: covered(interfaces, &uplinks),
        owners: owners.into_iter().collect(),
        warnings: resolver.warnings,
        missing: resolver.missing,
    }
}

/// What decides.
pub(super) struct Resolver<'a> {
    pub interfaces: &'a Interfaces,
    ports: BTreeMap<u32, Vec<&'a Interface>>,
    pub wanted: &'a Wanted,
    warnings: Vec<Warning>,
    pub missing: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// Adds a warning; without an origin it is about the main configuration.
    pub fn warn(&mut self, origin: Option<&Origin>, problem: String, advice: &str) {
        self.warnings.push(Warning {
            origin: origin.cloned().unwrap_or_else(|| Origin {
                file: self.wanted.config.as_path().into(),
                ..Origin::default()
            }),
            problem,
            advice: advice.to_owned(),
        });
    }

    /// The ports of a bridge, bond, team, vrf or switch.
    pub fn ports(&self, master: u32) -> impl Iterator<Item = &'a Interface> + use<'a> {
        self.ports
            .get(&master)
            .cloned()
            .unwrap_or_default()
            .into_iter()
    }

    /// What matches the guests' globs.
    pub fn guest_names(&self) -> Names<()> {
        let mut names = Names::new();
        for glob in &self.wanted.guests {
            names.add(glob, ());
        }
        names
    }

    /// The interfaces that guests are attached by.
    fn guests(&mut self, named: &BTreeSet<u32>, owners: &BTreeMap<u32, usize>) -> BTreeSet<u32> {
        let names = self.guest_names();
        let mut guests: BTreeSet<u32> = self
            .interfaces
            .links
            .values()
            .filter(|link| !named.contains(&link.index))
            .filter(|link| {
                !matches!(
                    link.kind,
                    Kind::Loopback | Kind::Bridge | Kind::Vrf | Kind::Bond | Kind::Team
                )
            })
            .filter(|link| {
                owners.contains_key(&link.index)
                    || (names.matches(&link.name) && !self.is_patch_cable(link))
            })
            .map(|link| link.index)
            .collect();
        // Everything that they carry has been seen at the device below.
        let above: Vec<u32> = guests
            .iter()
            .copied()
            .filter(|index| self.stands_on(*index, &guests))
            .collect();
        for index in above {
            guests.remove(&index);
            if owners.contains_key(&index)
                && let Some(link) = self.interfaces.get(index)
            {
                self.warn(
                    None,
                    format!(
                        "match.interfaces: {} stands on a guest's interface",
                        link.name
                    ),
                    "its packets are judged at that one, as its tenant's",
                );
            }
        }
        guests
    }

    /// A cable between two bridges of this network namespace: what comes in by one end came in by a
    /// port before, or is on its way to a guest.
    fn is_patch_cable(&self, link: &Interface) -> bool {
        matches!(link.kind, Kind::Veth | Kind::Netkit)
            && link.master.is_some()
            && link
                .lower
                .and_then(|peer| self.interfaces.get(peer))
                .is_some_and(|peer| peer.master.is_some())
    }

    /// Whether a VLAN, macvlan or ipvlan device stands on one of these, over others or not.
    fn stands_on(&self, index: u32, guests: &BTreeSet<u32>) -> bool {
        let mut at = self.interfaces.get(index);
        // Devices are stacked eight deep at most.
        for _ in 0..8 {
            let Some(link) = at else { break };
            if !matches!(link.kind, Kind::Vlan | Kind::Macvlan | Kind::Ipvlan) {
                break;
            }
            match link.lower {
                Some(lower) if guests.contains(&lower) => return true,
                Some(lower) => at = self.interfaces.get(lower),
                None => break,
            }
        }
        false
    }

    /// Says which interfaces look like those of guests, and are not.
    fn warn_of_strangers(&mut self, guests: &BTreeSet<u32>, uplinks: &BTreeSet<u32>) {
        let strangers: Vec<&str> = self
            .interfaces
            .links
            .values()
            .filter(|link| !guests.contains(&link.index) && !uplinks.contains(&link.index))
            .filter(|link| leads_to_guest(link) || link.kind == Kind::Macvtap)
            .map(|link| link.name.as_str())
            .collect();
        if !strangers.is_empty() {
            self.warn(
                None,
                format!(
                    "attach.guests: {} looks like a guest's interface, and no glob matches it",
                    few(&strangers)
                ),
                "what comes from there is seen at the uplinks alone; add a glob for it",
            );
        }
    }
}

/// Whether somebody else is at the other end: another network namespace, or a program that sends
/// and gets Ethernet frames.
pub(super) fn leads_to_guest(link: &Interface) -> bool {
    match link.kind {
        Kind::Veth | Kind::Netkit => link.peer_elsewhere,
        Kind::Tun => link.is_ethernet,
        _ => false,
    }
}
