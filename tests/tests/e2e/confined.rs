//! Who is suspended, and what a node has beside the world outside: its own mail, its neighbours,
//! and its own programs that talk to somebody who is null-routed.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use limiter_tests::{
    Agent, Capture, Config, Guest, NODE4, NODE6, Node, OUTSIDE_MX_EXEMPT, OUTSIDE_MX6_EXEMPT,
    Place, Sink, Wiring, mx, orders::Report, packets::Ended, process,
};

/// How long nothing has to come to be taken for nothing.
const SILENCE: Duration = Duration::from_millis(700);
/// An address of the node that a tenant has for itself.
const THEIRS4: &str = "203.0.113.77";
const THEIRS6: &str = "2001:db8:113::77";
/// Of each kind of port one.
const PORTS: [u16; 4] = [25, 587, 143, 80];

/// A node with a server, a server outside, and tenants of all kinds.
struct Yard<'n> {
    node: &'n Node,
    wire: Capture,
    _inside: Sink,
    _outside: Sink,
    /// A container whose cgroup is claimed.
    bag: Guest<'n>,
    /// A container whose interface is claimed.
    cask: Guest<'n>,
    machine: Guest<'n>,
}

impl<'n> Yard<'n> {
    fn new(node: &'n Node) -> Self {
        let mut ip = node.root().command("ip");
        let lines =
            format!("address add {THEIRS4}/24 dev eth0\naddress add {THEIRS6}/64 dev eth0 nodad\n");
        let _ = process::run(ip.args(["-batch", "-"]), &lines).success("ip");
        Self {
            node,
            wire: Capture::start(node.outside()),
            _inside: Sink::mail(node.inside(), &PORTS, "node.example"),
            _outside: Sink::mail(node.outside(), &PORTS, "outside.example"),
            bag: Guest::unprivileged(node, Wiring::Veth, "veth-bag", 1),
            cask: Guest::unprivileged(node, Wiring::Veth, "veth-cask", 2),
            machine: Guest::new(node, Wiring::Tap, "tap101i0", 3),
        }
    }

    fn agent(&self, main: &str) -> Agent<'n> {
        let open = "direct_smtp: allow\nsubmission: allow";
        let tenants = format!(
            "
tenant: alice
{open}
match: {{users: [alice]}}
---
tenant: bag
{open}
match: {{cgroups: ['{}']}}
---
tenant: cask
{open}
match: {{interfaces: [veth-cask]}}
---
tenant: machine
{open}
match: {{interfaces: ['tap101i*']}}
---
tenant: here
match: {{addresses: [{THEIRS4}, '{THEIRS6}']}}
---
tenant: away
match: {{addresses: [{OUTSIDE_MX_EXEMPT}, '{OUTSIDE_MX6_EXEMPT}']}}
",
            self.bag.cgroup().path(),
        );
        let main =
            format!("mode: enforce\ndefault: {{direct_smtp: allow, submission: allow}}\n{main}");
        let config = Config::new(&main, &tenants)
            .attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]");
        Agent::start(self.node, &config)
    }

    /// Those with programs of this machine.
    fn places(&self) -> [(&str, Place); 3] {
        [
            ("alice", self.node.user(2001)),
            ("bag", self.bag.root()),
            ("cask", self.cask.root()),
        ]
    }

    /// What comes of a connection from there, bound to an address if one is given.
    fn connect(&self, place: &Place, to: SocketAddr, from: Option<IpAddr>) -> Option<Report> {
        self.connect_within(SILENCE, place, to, from)
    }

    fn connect_within(
        &self,
        patience: Duration,
        place: &Place,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> Option<Report> {
        let attempt = self.node.sender_at(place.clone()).attempt(to);
        let attempt = match from {
            Some(from) => attempt.from(from),
            None => attempt,
        };
        attempt.start().go().finish_within(patience)
    }

    #[track_caller]
    fn reaches(&self, place: &Place, to: SocketAddr) {
        // Longer than it takes to ask for a neighbour, or to connect, a second time.
        let report = self.connect_within(Duration::from_secs(5), place, to, None);
        assert!(
            report.as_ref().is_some_and(|report| report.connected == 1),
            "from {place:?} to {to}: {report:?}"
        );
    }
}

fn sanction(agent: &Agent, tenant: &str, sanction: &str) {
    agent.must(&[
        "suspend",
        tenant,
        "--sanction",
        sanction,
        "--reason",
        "spam",
    ]);
}

fn exempt(v6: bool) -> IpAddr {
    if v6 {
        OUTSIDE_MX6_EXEMPT.into()
    } else {
        OUTSIDE_MX_EXEMPT.into()
    }
}

/// The node's own addresses are no loopback: neither its MTA nor its mailboxes answer.
#[test]
fn whoever_is_suspended_does_not_reach_the_nodes_own_mail() {
    let node = Node::new();
    let yard = Yard::new(&node);
    let agent = yard.agent("");
    let bob = node.user(2002);
    for (tenant, place) in yard.places() {
        let mut own: Vec<IpAddr> = vec![NODE4.into(), NODE6.into()];
        match tenant {
            "bag" => own.extend([false, true].map(|v6| yard.bag.gateway(v6))),
            "cask" => own.extend([false, true].map(|v6| yard.cask.gateway(v6))),
            _ => {}
        }
        let all = || {
            let ports = |address| PORTS.map(|port| SocketAddr::new(address, port));
            own.iter().copied().flat_map(ports)
        };
        for to in all() {
            yard.reaches(&place, to);
        }
        sanction(&agent, tenant, "suspend_network");
        for to in all() {
            let report = yard.connect(&place, to, None);
            let errno = report.as_ref().and_then(Report::errno);
            assert!(
                [Some(libc::EPERM), Some(libc::ECONNREFUSED)].contains(&errno),
                "{tenant} to {to}: {report:?}"
            );
            yard.reaches(&bob, to);
        }
        if tenant == "alice" {
            for to in ["127.0.0.1:25", "[::1]:143"] {
                yard.reaches(&place, to.parse().expect("an address"));
            }
        }
        agent.must(&["reinstate", tenant, "--reason", "cleaned"]);
        for to in all() {
            yard.reaches(&place, to);
        }
    }
    for v6 in [false, true] {
        let to = |port| SocketAddr::new(if v6 { NODE6.into() } else { NODE4.into() }, port);
        let ended = |port| yard.machine.packets(v6).to(to(port)).make().ended;
        assert_eq!(ended(25), Ended::Served);
        sanction(&agent, "machine", "suspend_network");
        for port in PORTS {
            assert_eq!(ended(port), Ended::Refused, "{}", to(port));
        }
        agent.must(&["reinstate", "machine", "--reason", "cleaned"]);
        assert_eq!(ended(25), Ended::Served);
    }
}

/// What stays reachable is reachable only by neighbours that are found: also when nobody knows of
/// anybody yet.
#[test]
fn neighbours_are_found_under_a_suspension() {
    let node = Node::new();
    let yard = Yard::new(&node);
    let agent = yard.agent(&format!(
        "management: [{OUTSIDE_MX_EXEMPT}/32, '{OUTSIDE_MX6_EXEMPT}/128']"
    ));
    let forget = |place: &Place| {
        for family in ["-4", "-6"] {
            let mut ip = place.command("ip");
            ip.args([family, "neighbour", "flush", "all"]);
            let _ = process::run(&mut ip, "").success("ip");
        }
    };
    for tenant in ["alice", "bag", "cask", "machine"] {
        sanction(&agent, tenant, "suspend_network");
    }
    for v6 in [false, true] {
        let (management, other) = (SocketAddr::new(exempt(v6), 80), mx(v6));
        for (tenant, place) in yard.places() {
            forget(&place.clone().as_uid(0));
            forget(&node.root());
            yard.reaches(&place, management);
            let report = yard.connect(&place, other, None);
            let connected = report.as_ref().map_or(0, |report| report.connected);
            assert_eq!(connected, 0, "{tenant}: {report:?}");
        }
        // It begins with nothing each time.
        forget(&node.root());
        let report = yard.machine.packets(v6).to(management).make();
        assert_eq!(report.ended, Ended::Served, "{report:?}");
        let report = yard.machine.packets(v6).to(other).make();
        assert_eq!(report.ended, Ended::Refused, "{report:?}");
    }
}

/// A null route is for everybody, the node's own programs among them: whoever has their address, and
/// whoever talks to it.
#[test]
fn the_nodes_own_programs_talk_neither_from_nor_to_what_is_null_routed() {
    let node = Node::new();
    let yard = Yard::new(&node);
    let agent = yard.agent("");
    let theirs = [THEIRS4, THEIRS6].map(|text| text.parse::<IpAddr>().expect("an address"));
    let (bob, root) = (node.user(2002), node.root());
    for v6 in [false, true] {
        let own = theirs[usize::from(v6)];
        let common = if v6 { NODE6.into() } else { NODE4.into() };
        let (web, away) = (SocketAddr::new(mx(v6).ip(), 80), exempt(v6));
        for (tenant, from, to) in [
            ("here", own, web),
            ("away", common, SocketAddr::new(away, 80)),
        ] {
            let connects = |place: &Place| {
                let report = yard.connect(place, to, Some(from));
                report.is_some_and(|report| report.connected == 1)
            };
            assert!(connects(&bob) && connects(&root), "{tenant} before");
            sanction(&agent, tenant, "null_route");
            let mark = yard.wire.mark();
            for place in [&bob, &root] {
                assert!(!connects(place), "{tenant}: {} to {to}", place.uid());
                // Who does not use their address, and talks to nobody of theirs.
                let report = yard.connect(place, web, Some(common));
                assert_eq!(report.map(|report| report.connected), Some(1), "{tenant}");
            }
            let left = yard
                .wire
                .since(mark)
                .only(|seen| seen.from.ip() == own || seen.to.ip() == away);
            // Neighbours that are found are no packets of theirs.
            let left = left.only(|seen| seen.protocol == TCP);
            assert!(left.frames().is_empty(), "{tenant}: {:?}", left.frames());
            agent.must(&["reinstate", tenant, "--reason", "cleaned"]);
            assert!(connects(&bob) && connects(&root), "{tenant} after");
        }
    }
}

const TCP: u8 = 6;
