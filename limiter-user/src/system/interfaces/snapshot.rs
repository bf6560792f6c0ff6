//! Lists the interfaces and those that the world is reached through.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Interface, Interfaces, InterfacesError, Kind,
    netlink::{Attributes, align, list, text, u16_at, u32_at},
};

/// `RTM_NEWLINK`, which an answer to `RTM_GETLINK` consists of.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const GET_ROUTE: u16 = 26;
const NEW_NEXTHOP: u16 = 104;
const GET_NEXTHOP: u16 = 106;

/// The length of `struct ifinfomsg`.
pub(super) const LINK_HEADER: usize = 16;
/// The length of `struct rtmsg`.
pub(super) const ROUTE_HEADER: usize = 12;
/// The length of `struct nhmsg`.
const NEXTHOP_HEADER: usize = 8;
/// The length of `struct rtnexthop`.
const HOP_HEADER: usize = 8;
/// The length of `struct nexthop_grp`.
const GROUP_MEMBER: usize = 8;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
pub(super) const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
/// Leaves the statistics out, which are most of a message.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const IFF_UP: u32 = 1;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_NH_ID: u16 = 30;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

impl Interfaces {
    /// Lists the interfaces of the calling thread's network namespace. It blocks for as long as the
    /// kernel needs to write the lists: some milliseconds, up to a second or so with a million routes.
    ///
    /// # Errors
    /// When the kernel cannot be asked, refuses or answers nonsense.
    pub fn snapshot() -> Result<Self, InterfacesError> {
        Ok(Self {
            links: links()?,
            outward: outward()?,
        })
    }
}

fn links() -> Result<BTreeMap<u32, Interface>, InterfacesError> {
    let mut request = vec![0; LINK_HEADER];
    request.extend(8_u16.to_ne_bytes());
    request.extend(IFLA_EXT_MASK.to_ne_bytes());
    request.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let what = "interfaces";
    let links = list(
        what,
        GET_LINK,
        &request,
        || Some(BTreeMap::new()),
        |links, message| {
            if message.kind == NEW_LINK {
                match (links.as_mut(), link(message.body)) {
                    (Some(links), Some(link)) => drop(links.insert(link.index, link)),
                    // An interface that cannot be told is one that cannot be watched.
                    _ => *links = None,
                }
            }
        },
    )?;
    links.ok_or(InterfacesError::Malformed { what })
}

/// Reads one interface; none if it has no index or no name.
pub(super) fn link(body: &[u8]) -> Option<Interface> {
    let device = u16_at(body, 2)?;
    let index = u32_at(body, 4).filter(|index| *index != 0)?;
    let flags = u32_at(body, 8)?;
    let mut name = None;
    let mut kind = None;
    let mut mac = None;
    let mut master = None;
    let mut other = None;
    let mut elsewhere = false;
    for (number, value) in Attributes(body.get(LINK_HEADER..)?) {
        match number {
            IFLA_IFNAME => name = Some(text(value)),
            IFLA_ADDRESS => mac = value.try_into().ok(),
            IFLA_MASTER => master = u32_at(value, 0),
            IFLA_LINK => other = u32_at(value, 0),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => {
                kind = Attributes(value)
                    .find(|(number, _)| *number == IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            _ => {}
        }
    }
    let is_ethernet = device == ARPHRD_ETHER;
    let kind = kind_of(kind.as_deref(), device);
    Some(Interface {
        index,
        name: name?,
        is_ethernet,
        master: master.filter(|master| *master != 0),
        lower: other.filter(|other| !elsewhere && *other != 0 && *other != index),
        peer_elsewhere: elsewhere && matches!(kind, Kind::Veth | Kind::Netkit),
        up: flags & IFF_UP != 0,
        mac,
        kind,
    })
}

/// What the kernel calls a kind, and what we call it.
fn kind_of(kind: Option<&str>, device: u16) -> Kind {
    let Some(kind) = kind else {
        return match device {
            ARPHRD_LOOPBACK => Kind::Loopback,
            _ => Kind::Physical,
        };
    };
    match kind {
        "veth" => Kind::Veth,
        "netkit" => Kind::Netkit,
        "tun" => Kind::Tun,
        "macvtap" | "ipvtap" => Kind::Macvtap,
        "macvlan" => Kind::Macvlan,
        "ipvlan" => Kind::Ipvlan,
        "bridge" => Kind::Bridge,
        "openvswitch" => Kind::OpenVswitch,
        "vrf" => Kind::Vrf,
        "bond" => Kind::Bond,
        "team" => Kind::Team,
        "vlan" => Kind::Vlan,
        "dummy" => Kind::Dummy,
        // macsec and ppp wrap too: below them nothing can be read.
        "ipip" | "ip6tnl" | "sit" | "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap"
        | "ip6erspan" | "vti" | "vti6" | "xfrm" | "vxlan" | "geneve" | "bareudp" | "gtp"
        | "amt" | "wireguard" | "ovpn" | "macsec" | "ppp" => Kind::Tunnel(kind.to_owned()),
        _ => Kind::Other(kind.to_owned()),
    }
}

/// What a route to the world goes by.
#[derive(Default)]
struct Hops {
    interfaces: BTreeSet<u32>,
    objects: BTreeSet<u32>,
}

fn outward() -> Result<BTreeSet<u32>, InterfacesError> {
    let mut hops = Hops::default();
    for family in [AF_INET, AF_INET6] {
        // Of routes that packets are sent by, all tables; without what was learnt about single
        // destinations, of which there may be many.
        let mut request = [0; ROUTE_HEADER];
        request[0] = family;
        request[7] = RTN_UNICAST;
        let found = list(
            "routes",
            GET_ROUTE,
            &request,
            Hops::default,
            |hops, message| {
                if message.kind == NEW_ROUTE && is_outward(message.body) {
                    add_hops(message.body, hops);
                }
            },
        );
        match found {
            Ok(found) => {
                hops.interfaces.extend(found.interfaces);
                hops.objects.extend(found.objects);
            }
            // A kernel without IPv6 knows no routes of it.
            Err(InterfacesError::Netlink {
                call: "answer",
                source,
                ..
            }) if family == AF_INET6
                && matches!(
                    source.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    if !hops.objects.is_empty() {
        let objects = nexthops()?;
        hops.interfaces
            .extend(interfaces_of(&hops.objects, &objects));
    }
    Ok(hops.interfaces)
}

/// Whether a route leads to so much of the world that it must be a way out: a default route or a
/// good part of one. Private networks, multicast and the rest that is no world have longer prefixes
/// or are left out: 10.0.0.0/8, 224.0.0.0/4, fc00::/7, ff00::/8.
pub(super) fn is_outward(body: &[u8]) -> bool {
    let (Some(&family), Some(&length), Some(&kind), Some(flags)) =
        (body.first(), body.get(1), body.get(7), u32_at(body, 8))
    else {
        return false;
    };
    if kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return false;
    }
    match family {
        AF_INET => {
            length < 8
                && Attributes(body.get(ROUTE_HEADER..).unwrap_or_default())
                    .find(|(number, _)| *number == RTA_DST)
                    .and_then(|(_, address)| address.first().copied())
                    .unwrap_or(0)
                    < 224
        }
        AF_INET6 => length < 7,
        _ => false,
    }
}

/// Where a route leads.
fn add_hops(body: &[u8], hops: &mut Hops) {
    for (number, value) in Attributes(body.get(ROUTE_HEADER..).unwrap_or_default()) {
        match number {
            RTA_OIF => hops.interfaces.extend(u32_at(value, 0)),
            RTA_NH_ID => hops.objects.extend(u32_at(value, 0)),
            RTA_MULTIPATH => {
                let mut rest = value;
                while let (Some(length), Some(index)) = (u16_at(rest, 0), u32_at(rest, 4)) {
                    hops.interfaces.insert(index);
                    let length = align(usize::from(length).max(HOP_HEADER));
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

/// A next hop as an object of its own.
#[derive(Default)]
struct Nexthop {
    interface: Option<u32>,
    members: Vec<u32>,
}

fn nexthops() -> Result<BTreeMap<u32, Nexthop>, InterfacesError> {
    let request = [0; NEXTHOP_HEADER];
    list(
        "next hops",
        GET_NEXTHOP,
        &request,
        BTreeMap::new,
        |objects, message| {
            if message.kind != NEW_NEXTHOP {
                return;
            }
            let mut id = None;
            let mut object = Nexthop::default();
            for (number, value) in
                Attributes(message.body.get(NEXTHOP_HEADER..).unwrap_or_default())
            {
                match number {
                    NHA_ID => id = u32_at(value, 0),
                    NHA_OIF => object.interface = u32_at(value, 0),
                    NHA_GROUP => {
                        object.members = value
                            .chunks_exact(GROUP_MEMBER)
                            .filter_map(|member| u32_at(member, 0))
                            .collect();
                    }
                    _ => {}
                }
            }
            if let Some(id) = id {
                objects.insert(id, object);
            }
        },
    )
}

/// The interfaces of next hops. Groups hold no groups, so one step is enough.
fn interfaces_of(wanted: &BTreeSet<u32>, objects: &BTreeMap<u32, Nexthop>) -> BTreeSet<u32> {
    wanted
        .iter()
        .filter_map(|id| objects.get(id))
        .flat_map(|object| {
            object
                .members
                .iter()
                .filter_map(|id| objects.get(id)?.interface)
                .chain(object.interface)
        })
        .collect()
}
