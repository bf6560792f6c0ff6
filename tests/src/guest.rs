//! Whoever has a network of its own behind the node: virtual machines and containers, by every
//! way to connect one.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use crate::{
    Cgroup, NODE4, NODE6, Namespace, Node, PacketAttempt, Place, Sender,
    container::{Namespaces, unprivileged},
    node::ip_batch,
    packets::Link,
};

/// How a guest is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// A tap that the node routes: a virtual machine.
    Tap,
    /// A pair of interfaces that the node routes.
    Veth,
    /// A pair of interfaces at a bridge that the node routes.
    Bridge,
    /// A tap at that bridge.
    BridgeTap,
    /// A pair of interfaces at the bridge that has the uplink, see [`flatten`].
    Flat,
    /// A tap at the bridge that has the uplink, see [`flatten`].
    FlatTap,
    /// A macvlan interface on the uplink.
    Macvlan,
    /// A macvtap interface on the uplink: a virtual machine.
    Macvtap,
}

/// A guest of the node.
///
/// A container has two IPv4 and two IPv6 addresses: one that its kernel has, and one for programs
/// that bring packets of their own making, which the kernel must not answer for. A virtual machine
/// has only the latter.
#[derive(Debug)]
pub struct Guest<'n> {
    node: &'n Node,
    interface: String,
    wiring: Wiring,
    place: Place,
    inside: Option<Namespaces>,
    cgroup: Cgroup,
    mac: [u8; 6],
    network: Network,
}

/// A network with a gateway: `.1`; and places for its members from `.2` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    four: Ipv4Addr,
    bits4: u8,
    gateway4: Ipv4Addr,
    six: Ipv6Addr,
    bits6: u8,
    gateway6: Ipv6Addr,
}

impl Network {
    /// One of the networks behind the node, up to 14. What is in 0 belongs to others.
    fn behind(number: u8) -> Self {
        assert!((1..15).contains(&number), "there are fourteen");
        let four = Ipv4Addr::new(192, 0, 2, number * 16);
        let six = Ipv6Addr::new(0x2001, 0xdb8, 0x192, 0, number.into(), 0, 0, 0);
        Self {
            four,
            bits4: 28,
            gateway4: plus4(four, 1),
            six,
            bits6: 80,
            gateway6: plus6(six, 1),
        }
    }

    /// The network that the node itself is in: its member `number` gets addresses of its own there.
    fn before(number: u8) -> Self {
        assert!((1..10).contains(&number), "there is room for nine");
        Self {
            four: Ipv4Addr::new(203, 0, 113, 100 + number * 16),
            bits4: 24,
            gateway4: Ipv4Addr::new(203, 0, 113, 1),
            six: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, number.into(), 0, 0),
            bits6: 64,
            gateway6: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1),
        }
    }

    fn member(&self, v6: bool, number: u8) -> IpAddr {
        if v6 {
            plus6(self.six, number).into()
        } else {
            plus4(self.four, number).into()
        }
    }
}

fn plus4(address: Ipv4Addr, number: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() + u32::from(number))
}

fn plus6(address: Ipv6Addr, number: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() + u128::from(number))
}

/// Makes the node a part of the network outside: a bridge has the uplink and its addresses, and
/// whoever is at the bridge talks to the outside without being routed.
pub fn flatten(node: &Node) {
    // A bridge that filters by IP rules refuses what is no good IP. Most do not.
    node.inside().enter(|| {
        for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            // A kernel without that has no such switch.
            let _ = fs::write(Path::new("/proc/sys/net/bridge").join(switch), "0");
        }
    });
    let lines = [
        "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        "link set br0 up",
        "address flush dev eth0 scope global",
        "link set eth0 master br0",
        "address add 203.0.113.2/24 dev br0",
        "address add 2001:db8:113::2/64 dev br0 nodad",
        "route replace default via 203.0.113.1 dev br0",
        "route replace default via 2001:db8:113::1 dev br0",
    ];
    ip_batch(node.inside(), &lines.map(str::to_owned));
}

/// The bridge of [`Wiring::Bridge`] guests: in network 7, routed by the node.
pub fn add_bridge(node: &Node) {
    let Network {
        gateway4, gateway6, ..
    } = Network::behind(BRIDGE);
    let lines = [
        "link add br1 type bridge forward_delay 0 mcast_snooping 0".to_owned(),
        "link set br1 up".to_owned(),
        format!("address add {gateway4}/28 dev br1"),
        format!("address add {gateway6}/80 dev br1 nodad"),
    ];
    ip_batch(node.inside(), &lines);
}

/// The network of the bridge.
const BRIDGE: u8 = 7;

impl<'n> Guest<'n> {
    /// A guest with root of the machine's: uids are the node's. `number` tells guests of the node
    /// apart; the interface on the node's side is called `interface`.
    #[must_use]
    pub fn new(node: &'n Node, wiring: Wiring, interface: &str, number: u8) -> Self {
        Self::connect(node, wiring, interface, number, || Namespaces {
            net: Namespace::network(),
            user: None,
        })
    }

    /// The same, a container with a user namespace of its own: root inside is nobody outside.
    #[must_use]
    pub fn unprivileged(node: &'n Node, wiring: Wiring, interface: &str, number: u8) -> Self {
        Self::connect(node, wiring, interface, number, unprivileged)
    }

    fn connect(
        node: &'n Node,
        wiring: Wiring,
        interface: &str,
        number: u8,
        namespaces: impl FnOnce() -> Namespaces,
    ) -> Self {
        let network = match wiring {
            Wiring::Tap | Wiring::Veth => Network::behind(number),
            Wiring::Bridge | Wiring::BridgeTap => Network::behind(BRIDGE),
            Wiring::Flat | Wiring::FlatTap | Wiring::Macvlan | Wiring::Macvtap => {
                Network::before(number)
            }
        };
        let mac = [2, 0, 0x5e, 0x10, 0, number];
        let cgroup = node.cgroup().child(&format!("guests/{interface}"));
        let inside = match wiring {
            Wiring::Veth | Wiring::Bridge | Wiring::Flat | Wiring::Macvlan => Some(namespaces()),
            Wiring::Tap | Wiring::BridgeTap | Wiring::FlatTap | Wiring::Macvtap => None,
        };
        let mut place = match &inside {
            Some(inside) => Place::new(&inside.net, &cgroup),
            None => Place::new(node.inside(), &cgroup),
        };
        if let Some(Namespaces {
            user: Some(user), ..
        }) = &inside
        {
            place = place.in_user_namespace(Arc::clone(user));
        }
        let guest = Self {
            node,
            interface: interface.to_owned(),
            wiring,
            place,
            inside,
            cgroup,
            mac,
            network,
        };
        guest.wire(number);
        guest
    }

    /// Joins it to the node.
    fn wire(&self, number: u8) {
        let name = &self.interface;
        let mac = self.mac();
        let peer = self
            .inside
            .as_ref()
            .map(|inside| inside.net.net_path().display().to_string());
        let mut lines = Vec::new();
        match (self.wiring, peer) {
            (Wiring::Macvlan, Some(peer)) => {
                lines.push(format!(
                    "link add {name} link eth0 address {mac} type macvlan mode bridge"
                ));
                lines.push(format!("link set {name} netns {peer} name eth0"));
            }
            (_, Some(peer)) => {
                lines.push(format!(
                    "link add {name} type veth peer name eth0 address {mac} netns {peer}"
                ));
                lines.push(format!("link set {name} up"));
            }
            (Wiring::Macvtap, None) => {
                lines.push(format!(
                    "link add {name} link eth0 address {mac} type macvtap mode bridge"
                ));
                lines.push(format!("link set {name} up"));
            }
            (_, None) => {
                lines.push(format!("tuntap add dev {name} mode tap"));
                lines.push(format!("link set {name} up"));
            }
        }
        let Network {
            gateway4,
            gateway6,
            bits4,
            bits6,
            ..
        } = self.network;
        match self.wiring {
            Wiring::Tap | Wiring::Veth => {
                lines.push(format!("address add {gateway4}/{bits4} dev {name}"));
                lines.push(format!("address add {gateway6}/{bits6} dev {name} nodad"));
            }
            Wiring::Bridge | Wiring::BridgeTap => lines.push(format!("link set {name} master br1")),
            Wiring::Flat | Wiring::FlatTap => lines.push(format!("link set {name} master br0")),
            Wiring::Macvlan | Wiring::Macvtap => {}
        }
        ip_batch(self.node.inside(), &lines);
        if let Some(inside) = &self.inside {
            let (four, six) = (self.address(false, number), self.address(true, number));
            let lines = [
                "link set lo up".to_owned(),
                "link set eth0 up".to_owned(),
                format!("address add {four}/{bits4} dev eth0"),
                format!("address add {six}/{bits6} dev eth0 nodad"),
                format!("route add default via {gateway4}"),
                format!("route add default via {gateway6}"),
            ];
            ip_batch(&inside.net, &lines);
        }
    }

    /// Its kernel's address; only a container has a kernel of its own here.
    fn address(&self, v6: bool, number: u8) -> IpAddr {
        self.network.member(v6, self.first(number))
    }

    /// The first of its two places in the network, which it may share with others.
    fn first(&self, number: u8) -> u8 {
        match self.wiring {
            Wiring::Bridge | Wiring::BridgeTap => 2 + number % 6 * 2,
            _ => 2,
        }
    }

    /// The address for packets of its own making.
    #[must_use]
    pub fn forger(&self, v6: bool) -> IpAddr {
        let [.., number] = self.mac;
        self.network.member(v6, self.first(number) + 1)
    }

    /// Its kernel's address.
    #[must_use]
    pub fn kernel(&self, v6: bool) -> IpAddr {
        let [.., number] = self.mac;
        self.address(v6, number)
    }

    /// Its hardware address.
    #[must_use]
    pub fn mac(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    /// Who takes what it sends to others.
    #[must_use]
    pub fn gateway(&self, v6: bool) -> IpAddr {
        if v6 {
            self.network.gateway6.into()
        } else {
            self.network.gateway4.into()
        }
    }

    /// The interface on the node's side.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its cgroup. A virtual machine's is that of the program that runs it.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Root inside; for a virtual machine, root on the node, who runs it.
    #[must_use]
    pub fn root(&self) -> Place {
        self.place.clone()
    }

    /// Its network namespace; a virtual machine's is the node's.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.place.namespace()
    }

    /// Root inside, who sends by the kernel's own sockets.
    #[must_use]
    pub fn sender(&self) -> Sender<'n> {
        assert!(
            self.inside.is_some(),
            "a virtual machine has no kernel here"
        );
        self.node.sender_at(self.root())
    }

    /// An attempt with packets of its own making, to the server outside.
    #[must_use]
    pub fn packets(&self, v6: bool) -> PacketAttempt<'n> {
        let name = self.interface.clone();
        let device = "eth0".to_owned();
        let link = match self.wiring {
            Wiring::Tap | Wiring::BridgeTap | Wiring::FlatTap => Link::Tap { name },
            Wiring::Macvtap => Link::Macvtap { name },
            _ => Link::Packet {
                device,
                bypass: false,
            },
        };
        let prefix = if v6 {
            self.network.bits6
        } else {
            self.network.bits4
        };
        PacketAttempt::new(self.node, self.root(), link)
            .mac(self.mac)
            .address(self.forger(v6), prefix, self.gateway(v6))
    }

    /// The same by raw IP sockets. Not from a virtual machine.
    #[must_use]
    pub fn raw_packets(&self, v6: bool) -> PacketAttempt<'n> {
        self.packets(v6).link(Link::Raw {
            device: "eth0".to_owned(),
        })
    }
}

/// An attempt with packets of their own making by somebody on the node itself who may: by packet
/// sockets on the uplink.
#[must_use]
pub fn node_packets(node: &Node, v6: bool) -> PacketAttempt<'_> {
    let link = Link::Packet {
        device: "eth0".to_owned(),
        bypass: false,
    };
    let network = Network::before(9);
    PacketAttempt::new(node, node.root(), link)
        // Another one than the node's: its kernel takes no notice.
        .mac([2, 0, 0x5e, 0x10, 0, 0x99])
        .address(
            network.member(v6, 3),
            if v6 { 64 } else { 24 },
            SocketAddr::new(network.member(v6, 1), 0).ip(),
        )
}

/// The same by somebody outside who is nobody's guest, to this port of the node.
#[must_use]
pub fn outside_packets(node: &Node, v6: bool, port: u16) -> PacketAttempt<'_> {
    let link = Link::Packet {
        device: "out0".to_owned(),
        bypass: false,
    };
    let network = Network::before(9);
    let to: IpAddr = if v6 { NODE6.into() } else { NODE4.into() };
    PacketAttempt::new(node, node.elsewhere(), link)
        .mac([2, 0, 0x5e, 0x10, 0, 0x98])
        .address(network.member(v6, 4), if v6 { 64 } else { 24 }, to)
        .to(SocketAddr::new(to, port))
}
