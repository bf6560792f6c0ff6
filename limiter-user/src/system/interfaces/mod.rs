//! The interfaces of this network namespace: what they are, which lead out, which lead to guests,
//! and a watch that says when that changes.
//!
//! [`Watch::open`] comes first and [`Interfaces::snapshot`] after it: what changes in between is
//! then reported, never missed. [`resolve`] is pure.
//!
//! rtnetlink is read by our own few lines and not by a crate: those decode every attribute of every
//! message and give up on a message when one of them is not as expected. Eight attributes are
//! needed here, and no odd device may hide the others.

mod judge;
mod names;
mod netlink;
mod owners;
mod resolve;
mod snapshot;
#[cfg(test)]
mod tests;
mod uplinks;
mod watch;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

pub use self::{
    judge::{bridged, covered, judged},
    resolve::{Attach, Coverage, Side, Wanted, WantedTenant, resolve},
    watch::Watch,
    way::{Way, Ways},
};

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The loopback interface.
    Loopback,
    /// A device with a driver of its own: a network card, a virtio or Xen device. Also whatever
    /// does not say what it is.
    Physical,
    /// One end of a virtual cable: veth.
    Veth,
    /// One end of a virtual cable that carries BPF programs instead of qdiscs: netkit.
    Netkit,
    /// Read and written by a program: tap when it is Ethernet, tun otherwise.
    Tun,
    /// Read and written by a program, beside another device: macvtap, ipvtap.
    Macvtap,
    /// Beside another device, with a MAC address of its own.
    Macvlan,
    /// Beside another device, with its MAC address.
    Ipvlan,
    /// A bridge.
    Bridge,
    /// Any device of Open vSwitch: its datapath, or a port that leads to the node itself.
    OpenVswitch,
    /// A routing domain: vrf.
    Vrf,
    /// Several devices as one: bond.
    Bond,
    /// Several devices as one: team.
    Team,
    /// Tagged frames of another device.
    Vlan,
    /// A device that drops what it gets.
    Dummy,
    /// Wraps what it gets, so that it can only be read here: `ipip`, `gre`, `wireguard`, `vxlan`, …
    Tunnel(String),
    /// Anything else, by the kernel's name.
    Other(String),
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it, unique in the network namespace as long as it is there.
    pub index: u32,
    /// Its name; names move between interfaces.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether its packets start with an Ethernet header. Not those of tun, ppp, wireguard, ipip,
    /// sit, gre and the like: programs see them from the IP header on, or from whatever header
    /// their device has.
    pub is_ethernet: bool,
    /// The bridge, bond, team, vrf or switch that it is a port of.
    pub master: Option<u32>,
    /// The device that it stands on (vlan, macvlan, …) or the other end of the cable (veth), if
    /// that is in this network namespace.
    pub lower: Option<u32>,
    /// A cable whose other end is in another network namespace.
    pub peer_elsewhere: bool,
    /// Whether it was switched on (`IFF_UP`); it need not have a carrier.
    pub up: bool,
    /// Its hardware address, where that is one of six bytes.
    pub mac: Option<[u8; 6]>,
}

/// The interfaces at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// All of them, by index.
    pub links: BTreeMap<u32, Interface>,
    /// Those that a route to the world goes through, IPv4 or IPv6, in whatever table: the default
    /// route, its halves (`0.0.0.0/1`, `128.0.0.0/1`), `2000::/3` and the like, every next hop of
    /// them included.
    pub outward: BTreeSet<u32>,
}

impl Interfaces {
    /// The interface with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Interface> {
        self.links.get(&index)
    }

    /// The interface with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.links.values().find(|link| link.name == name)
    }

    /// The ports of every bridge, bond, team, vrf and switch, in order of their indexes.
    fn ports(&self) -> BTreeMap<u32, Vec<&Interface>> {
        let mut ports: BTreeMap<u32, Vec<&Interface>> = BTreeMap::new();
        for link in self.links.values() {
            if let Some(master) = link.master {
                ports.entry(master).or_default().push(link);
            }
        }
        ports
    }
}

/// Why the interfaces could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    /// The kernel refused, or could not be asked.
    #[error("cannot list the node's {what} (rtnetlink, {call}): {source}")]
    Netlink {
        /// What was to be listed.
        what: &'static str,
        /// The system call, or `answer` for what the kernel answered.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot list the node's {what}: the kernel's answer is cut short or not understood")]
    Malformed {
        /// What was to be listed.
        what: &'static str,
    },
}
