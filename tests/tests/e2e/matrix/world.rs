//! The node with all its tenants, and the outside, watched.

use std::{fmt::Write, net::IpAddr};

use limiter_tests::{
    Agent, Capture, Cgroup, Config, Guest, NODE4, NODE6, Node, Place, Sink, Wiring,
    guest::{add_bridge, flatten},
    machine, process,
};

use super::rows::{Row, Way, Who};

/// The ports of the server outside.
const PORTS: [u16; 3] = [25, 80, 2525];

/// The users of the node that send, each a tenant of that name.
const USERS: [(&str, u32); 4] = [
    ("alice", 2001),
    ("bob", 2002),
    ("carol", 2003),
    ("dave", 2004),
];

/// What the tenants may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Block,
    /// Two connections an hour.
    Limit,
    /// Everything.
    Allow,
}

/// A node with all kinds of tenants, a mail server outside, and what arrives there.
///
/// Of each kind there are several: a tenant's refusals are told once a second, and rows are many.
pub struct World<'n> {
    /// The node.
    pub node: &'n Node,
    /// What arrives outside.
    pub capture: Capture,
    /// Whether packets can be rewritten right before the interface, by [`UNTRACKED`]: on the node,
    /// and in containers.
    rewrites: [bool; 2],
    _outside: Sink,
    guests: Vec<(Who, Guest<'n>)>,
    shops: Vec<Cgroup>,
}

/// A node that routes for its guests, and some that sit on its uplink.
pub fn routed(node: &Node) -> World<'_> {
    World::routed(node)
}

/// A node whose guests are on the same network as the outside.
pub fn flat(node: &Node) -> World<'_> {
    World::flat(node)
}

impl<'n> World<'n> {
    fn routed(node: &'n Node) -> Self {
        add_bridge(node);
        let contained = |who, wiring, name: &str, number| {
            (who, Guest::unprivileged(node, wiring, name, number))
        };
        let machine =
            |who, wiring, name: &str, number| (who, Guest::new(node, wiring, name, number));
        let guests = vec![
            contained(Who::Container, Wiring::Veth, "veth-box0", 1),
            contained(Who::Container, Wiring::Veth, "veth-box1", 2),
            contained(Who::Container, Wiring::Veth, "veth-box2", 3),
            contained(Who::Container, Wiring::Veth, "veth-box3", 4),
            machine(Who::Machine, Wiring::Tap, "tap101i0", 5),
            machine(Who::Machine, Wiring::Tap, "tap102i0", 6),
            machine(Who::Machine, Wiring::Tap, "tap103i0", 8),
            machine(Who::Machine, Wiring::Tap, "tap104i0", 9),
            contained(Who::Addressed, Wiring::Veth, "veth-addr0", 10),
            contained(Who::Addressed, Wiring::Veth, "veth-addr1", 11),
            contained(Who::Bridged, Wiring::Bridge, "veth-port0", 12),
            contained(Who::Bridged, Wiring::Bridge, "veth-port1", 13),
            machine(Who::BridgedMachine, Wiring::BridgeTap, "tap201i0", 14),
            machine(Who::BridgedMachine, Wiring::BridgeTap, "tap202i0", 15),
            contained(Who::Macvlan, Wiring::Macvlan, "macv0", 1),
            contained(Who::Macvlan, Wiring::Macvlan, "macv1", 2),
            machine(Who::Macvtap, Wiring::Macvtap, "macvtap0", 3),
            machine(Who::Macvtap, Wiring::Macvtap, "macvtap1", 4),
        ];
        add_tunnel(node);
        Self::new(node, guests)
    }

    fn flat(node: &'n Node) -> Self {
        flatten(node);
        let guests = vec![
            (
                Who::Bridged,
                Guest::unprivileged(node, Wiring::Flat, "veth-flat0", 1),
            ),
            (
                Who::Bridged,
                Guest::unprivileged(node, Wiring::Flat, "veth-flat1", 2),
            ),
            (
                Who::BridgedMachine,
                Guest::new(node, Wiring::FlatTap, "tap301i0", 3),
            ),
            (
                Who::BridgedMachine,
                Guest::new(node, Wiring::FlatTap, "tap302i0", 4),
            ),
        ];
        Self::new(node, guests)
    }

    fn new(node: &'n Node, guests: Vec<(Who, Guest<'n>)>) -> Self {
        let mut rewrites = [rewrite_untracked(&node.root()), true];
        for (_, guest) in guests.iter().filter(|(who, _)| who.has_kernel()) {
            nft(&guest.root(), TRACKED);
            rewrites[1] &= rewrite_untracked(&guest.root());
        }
        Self {
            node,
            capture: Capture::start(node.outside()),
            rewrites,
            _outside: Sink::mail(node.outside(), &PORTS, "outside.example"),
            guests,
            shops: (0..USERS.len())
                .map(|number| {
                    let below = format!("shops/{number}/php/pool/worker");
                    node.cgroup().child(&below)
                })
                .collect(),
        }
    }

    /// The product in force, all tenants under this verdict, without these layers.
    pub fn agent(&self, verdict: Verdict, without: &[&str]) -> Agent<'n> {
        let keys = match verdict {
            Verdict::Block => "direct_smtp: block",
            Verdict::Limit => {
                "direct_smtp: allow\nlimits: [{unit: connections, max: 2, window: 1h}]"
            }
            Verdict::Allow => "direct_smtp: allow",
        };
        let mut tenants = String::new();
        let mut add = |name: &str, part: &str, what: &str| {
            writeln!(
                tenants,
                "---\ntenant: {name}\n{keys}\nmatch: {{{part}: [{what}]}}"
            )
            .expect("a string takes anything");
        };
        for (name, _) in USERS {
            add(name, "users", name);
        }
        for number in 0..USERS.len() {
            let cgroup = self.node.cgroup().path();
            add(
                &shop(number),
                "cgroups",
                &format!("{cgroup}/shops/{number}"),
            );
        }
        for (who, guest) in &self.guests {
            let name = guest.interface();
            match who {
                // What comes after the number of a machine's interface changes with the machine.
                Who::Machine => add(name, "interfaces", &format!("\"{}*\"", &name[..7])),
                Who::Container | Who::Bridged | Who::BridgedMachine => {
                    add(name, "interfaces", name);
                }
                Who::Macvlan => add(name, "cgroups", &guest.cgroup().path()),
                Who::Addressed | Who::Macvtap => {
                    let all = [false, true].map(|v6| guest.forger(v6).to_string());
                    let kernels = [false, true].map(|v6| guest.kernel(v6).to_string());
                    let (all, kernels) = (all.join(", "), kernels.join(", "));
                    add(name, "addresses", &format!("{all}, {kernels}"));
                }
                Who::User | Who::Shop => {}
            }
        }
        let config = Config::new(
            "mode: enforce\ndefault: {direct_smtp: allow, submission: allow}",
            &tenants,
        )
        .attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]")
        .without(without);
        Agent::start(self.node, &config)
    }

    /// Whether the row can be tried on this kernel.
    pub fn can_try(&self, row: &Row) -> bool {
        row.way != Way::Rewritten(2527) || self.rewrites[usize::from(row.who.has_kernel())]
    }

    /// How many tenants there are for the row.
    pub fn room(&self, row: &Row) -> usize {
        match row.who {
            Who::User | Who::Shop => USERS.len(),
            who => self.guests.iter().filter(|(kind, _)| *kind == who).count(),
        }
    }

    /// The name of the row's tenant, of those that there are.
    pub fn tenant(&self, row: &Row, number: usize) -> String {
        match row.who {
            Who::User => USERS[number].0.to_owned(),
            Who::Shop => shop(number),
            who => self.guest(who, number).interface().to_owned(),
        }
    }

    /// All guests.
    pub fn guests(&self) -> &[(Who, Guest<'n>)] {
        &self.guests
    }

    /// The guest of a kind.
    pub fn guest(&self, who: Who, number: usize) -> &Guest<'n> {
        let mut all = self.guests.iter().filter(|(kind, _)| *kind == who);
        let found = all.nth(number);
        &found.expect("there are that many").1
    }

    /// An address that is somebody else's: another tenant's, or the node's where the node would
    /// notice.
    pub fn other(&self, v6: bool) -> IpAddr {
        let mut others = self.guests.iter().filter(|(who, _)| *who == Who::Addressed);
        match others.next() {
            Some((_, other)) => other.forger(v6),
            None if v6 => NODE6.into(),
            None => NODE4.into(),
        }
    }

    /// The uid of a user.
    pub fn uid(number: usize) -> u32 {
        USERS[number].1
    }

    /// A cgroup far below the one that a shop's tenant claims.
    pub fn shop(&self, number: usize) -> &Cgroup {
        &self.shops[number]
    }
}

fn shop(number: usize) -> String {
    format!("shop{number}")
}

/// A tunnel that ends on the node: who is in it is routed by the node.
fn add_tunnel(node: &Node) {
    let lines = "
        link add vx0 address 02:00:5e:10:00:42 type vxlan id 42 dstport 4789 nolearning
        link set vx0 up
        address add 198.51.100.1/24 dev vx0
    ";
    let mut command = node.root().command("ip");
    let _ = process::run(command.args(["-batch", "-"]), lines).success("ip");
}

/// Rewrites port 2526 to 25 where connections are tracked.
const TRACKED: &str = "
    table ip turn {
        chain out { type nat hook output priority -100; tcp dport 2526 dnat to :25; }
    }
    table ip6 turn {
        chain out { type nat hook output priority -100; tcp dport 2526 dnat to :25; }
    }
";

/// Rewrites port 2527 to 25 right before the interface, and back.
const UNTRACKED: &str = "
    table netdev turn {
        set turned { type inet_service; flags dynamic; size 1000; }
        chain out { type filter hook egress device eth0 priority 0;
            tcp dport 2527 add @turned { tcp sport } tcp dport set 25; }
        chain in { type filter hook ingress device eth0 priority 0;
            tcp sport 25 tcp dport @turned tcp sport set 2527; }
    }
";

/// What the rewriting of tracked connections leaves behind when it is over.
const NOT_TRACKED: &str = "
    delete table ip turn
    delete table ip6 turn
";

/// The node tracks connections while this lives, and rewrites port 2526. A node that does puts
/// fragments together before it routes them, so that it is not done all the time.
pub struct Tracking<'n>(&'n Node);

impl<'n> Tracking<'n> {
    pub fn start(node: &'n Node) -> Self {
        nft(&node.root(), TRACKED);
        Self(node)
    }
}

impl Drop for Tracking<'_> {
    fn drop(&mut self) {
        nft(&self.0.root(), NOT_TRACKED);
    }
}

/// Rewrites packets right before the interface there, if the kernel lets whoever is root there do
/// that: before 5.16 nobody, lately nobody in a container.
fn rewrite_untracked(place: &Place) -> bool {
    if machine::is_emulated() {
        let mut command = place.command("nft");
        let tried = process::run(command.args(["--check", "-f", "-"]), UNTRACKED);
        if tried.code != 0 {
            let why = tried.stderr.lines().next().unwrap_or_default();
            let why = why.rsplit("Error: ").next().unwrap_or_default();
            machine::left_out(&format!(
                "ports rewritten at an interface by nftables: {why}"
            ));
            return false;
        }
    }
    nft(place, UNTRACKED);
    true
}

fn nft(place: &Place, rules: &str) {
    let mut command = place.command("nft");
    let _ = process::run(command.args(["-f", "-"]), rules).success("nft");
}
