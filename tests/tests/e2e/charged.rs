//! Every attempt counts exactly once, however many layers see it, however often its first packet is
//! repeated, and under whatever address it goes out.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use etherparse::PacketBuilder;
use limiter_common::mark::MARKS;
use limiter_tests::{
    Agent, Capture, Config, Guest, NODE4, NODE6, Node, Place, Process, Sink, Wiring, machine, mx,
    orders::How,
    packet_socket::PacketSocket,
    packets::{Ended, PacketReport},
    process, programs, wait,
};

use crate::stage::{Stage, at_once};

/// How long first packets stay unanswered: long enough to be repeated several times.
const UNANSWERED: Duration = Duration::from_secs(16);
/// What is to stay as it is, is watched this long.
const STAYS: Duration = Duration::from_millis(300);

/// Which limit of [`tenant`] counts connections.
const CONNECTIONS: usize = 0;
/// Which one counts messages.
const MESSAGES: usize = 1;

/// A tenant that may send, with limits of both kinds: all layers are attached then.
fn tenant(name: &str, what: &str) -> String {
    format!(
        "---
tenant: {name}
direct_smtp: allow
match: {{{what}}}
limits:
  - {{unit: connections, max: 100, window: 1h}}
  - {{unit: messages, max: 100, window: 1h}}
"
    )
}

/// The product on a node with guests, all layers attached.
fn agent<'n>(node: &'n Node, tenants: &str) -> Agent<'n> {
    // Whoever is counted as somebody else would be refused.
    let main = "mode: enforce\ndefault: {direct_smtp: block, submission: block}";
    let config =
        Config::new(main, tenants).attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]");
    let agent = Agent::start(node, &config);
    let status = agent.status();
    let layers = status["layers"].as_array().expect("a list");
    for name in ["connect", "socket", "guest", "uplink"] {
        let attached =
            |layer: &&serde_json::Value| layer["layer"] == name && layer["attached"] == true;
        assert!(
            layers.iter().any(|layer| attached(&layer)),
            "{name}: {status:#}"
        );
    }
    agent
}

/// So much is counted, and it stays so.
#[track_caller]
fn counts(agent: &Agent, tenant: &str, limit: usize, expected: u64) {
    let what = format!("{expected} of limit {limit} for {tenant}");
    wait::until_true(&what, wait::SOON, || agent.used(tenant, limit) >= expected);
    wait::stays_true(&what, STAYS, || agent.used(tenant, limit) == expected);
    if limit == CONNECTIONS {
        assert_eq!(agent.counter(tenant, "allowed"), expected, "{what}");
    }
    assert_eq!(agent.counter(tenant, "denied"), 0, "{what}");
}

/// The tenants of a container whose cgroup and interface are both known.
fn container_tenant(name: &str, guest: &Guest) -> String {
    let (interface, cgroup) = (guest.interface(), guest.cgroup().path());
    tenant(
        name,
        &format!("interfaces: [{interface}], cgroups: [{cgroup}]"),
    )
}

fn nft(place: &Place, rules: &str) {
    let mut command = place.command("nft");
    let _ = process::run(command.args(["-f", "-"]), rules).success("nft");
}

#[test]
fn whoever_is_seen_by_every_layer_is_counted_once() {
    let node = Node::new();
    let outside = Sink::mail(node.outside(), &[25, 80], "outside.example");
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let machine = Guest::new(&node, Wiring::Tap, "tap9i0", 2);
    let mut tenants = tenant("alice", "users: [alice]");
    tenants += &container_tenant("boxed", &boxed);
    tenants += &tenant("machine", "interfaces: [tap9i0]");
    let agent = agent(&node, &tenants);

    // By every call there is, or by some of them where each takes long.
    let each = if machine::is_emulated() { 4 } else { 1 };
    let mut made = 0;
    for how in machine::ways_to_connect().into_iter().step_by(each) {
        made += 1;
        for (tenant, sender) in [("alice", node.sender(2001)), ("boxed", boxed.sender())] {
            let report = sender.attempt(mx(false)).how(how).start().go().finish();
            assert_eq!(report.connected, 1, "{tenant}, {how:?}: {report:?}");
            wait::until_true(
                &format!("{how:?} to count for {tenant}"),
                wait::SOON,
                || agent.used(tenant, CONNECTIONS) >= made,
            );
            assert_eq!(agent.used(tenant, CONNECTIONS), made, "{tenant}, {how:?}");
        }
    }
    // Of words in the first packet nobody knows whether the server takes them: they are estimated.
    let fast_open = 2;
    for tenant in ["alice", "boxed"] {
        counts(&agent, tenant, CONNECTIONS, made);
        assert!(agent.used(tenant, MESSAGES) <= fast_open, "{tenant}");
    }

    // By packets of their own making, with a message in each session.
    for (tenant, guest, before) in [("boxed", &boxed, made), ("machine", &machine, 0)] {
        let messages = agent.used(tenant, MESSAGES);
        for (v6, number) in [(false, 1), (true, 2)] {
            let report = guest.packets(v6).message().make();
            assert_eq!(report.ended, Ended::Served, "{tenant}: {report:?}");
            counts(&agent, tenant, CONNECTIONS, before + number);
            counts(&agent, tenant, MESSAGES, messages + number);
        }
    }
    drop(outside);
}

#[test]
fn a_first_packet_that_is_repeated_is_one_attempt() {
    let node = Node::new();
    let capture = Capture::start(node.outside());
    nft(
        &node.elsewhere(),
        "table inet silent {
            chain in { type filter hook input priority 0; tcp dport 25 drop; }
        }",
    );
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let machine = Guest::new(&node, Wiring::Tap, "tap9i0", 2);
    let mut tenants = tenant("alice", "users: [alice]");
    tenants += &container_tenant("boxed", &boxed);
    tenants += &tenant("machine", "interfaces: [tap9i0]");
    let agent = agent(&node, &tenants);

    let attempt = machine.packets(false).patience(UNANSWERED);
    let from_machine = attempt.start().go();
    let attempts = [node.sender(2001), boxed.sender()].map(|sender| {
        let under_way = sender.attempt(mx(false)).start().go();
        thread::spawn(move || under_way.finish_within(UNANSWERED))
    });
    for attempt in attempts {
        assert_eq!(attempt.join().expect("no panic"), None, "nobody answers");
    }
    let report: PacketReport = from_machine.report();
    assert_eq!(report.ended, Ended::Silence, "{report:?}");

    let arrived = capture.all();
    for (tenant, from) in [
        ("alice", NODE4.into()),
        ("boxed", boxed.kernel(false)),
        ("machine", machine.forger(false)),
    ] {
        let syns = arrived.clone().only(|seen| seen.from.ip() == from).syns(25);
        assert!(syns >= 4, "{tenant} repeats it: {syns}");
        counts(&agent, tenant, CONNECTIONS, 1);
    }
}

#[test]
fn a_repeated_first_packet_needs_no_mark_any_more() {
    let stage = Stage::new();
    let capture = Capture::start(stage.node.outside());
    nft(
        &stage.node.elsewhere(),
        "table inet silent {
            chain in { type filter hook input priority 0; meta nfproto ipv6 tcp dport 25 drop; }
        }",
    );
    let mut tenants = tenant("alice", "users: [alice]");
    tenants += "---
tenant: bob
direct_smtp: allow
match: {users: [bob]}
limits: [{unit: connections, max: 100000, window: 1h}]
";
    let agent = Agent::start(&stage.node, &Config::new("mode: enforce", &tenants));

    let attempt = stage.node.sender(2001).attempt(mx(true)).start().go();
    let attempt = thread::spawn(move || attempt.finish_within(UNANSWERED));
    // Whatever place hers had, somebody else has left a mark there before it is repeated for long.
    let many = 2 * u64::from(MARKS);
    assert_eq!(at_once(&stage, 2002, 2, many / 2), (many, 0));
    assert_eq!(agent.used("bob", 0), many);
    assert_eq!(attempt.join().expect("no panic"), None, "nobody answers");
    let syns = capture.all().only(|seen| seen.from.ip() == NODE6).syns(25);
    assert!(syns >= 4, "it is repeated: {syns}");
    counts(&agent, "alice", CONNECTIONS, 1);
}

#[test]
fn the_same_first_packet_after_progress_is_another_attempt() {
    let node = Node::new();
    let capture = Capture::start(node.outside());
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let agent = agent(&node, &container_tenant("boxed", &boxed));
    let hand = Hand::new(&node, &boxed);
    let send = |segment: Segment, attempts: u64| {
        let before = capture.all().reached(25);
        hand.send(segment);
        wait::until_true("it to arrive", wait::SOON, || {
            capture.all().reached(25) == before + 1
        });
        counts(&agent, "boxed", CONNECTIONS, attempts);
    };
    send(Segment::First(1_000), 1);
    send(Segment::First(1_000), 1);
    // What carries nothing does no harm, and is no progress.
    send(Segment::Next(1_001, b""), 1);
    send(Segment::First(1_000), 1);
    send(Segment::Next(1_001, b"EHLO again.example\r\n"), 1);
    send(Segment::First(1_000), 2);
    send(Segment::First(1_000), 2);
    // Another number is another attempt, progress or not.
    send(Segment::First(2_000), 3);
    send(Segment::First(1_000), 4);
}

#[test]
fn words_in_the_first_packet_are_counted() {
    let node = Node::new();
    let _outside = Sink::mail(node.outside(), &[25, 80], "outside.example");
    let capture = Capture::start(node.outside());
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let mut tenants = tenant("alice", "users: [alice]");
    tenants += &container_tenant("boxed", &boxed);
    let agent = agent(&node, &tenants);
    for (tenant, sender) in [("alice", node.sender(2001)), ("boxed", boxed.sender())] {
        let attempt = sender.attempt(mx(false)).how(How::FastOpenSend);
        // The first is told the secret that the second needs.
        assert_eq!(
            attempt.clone().start().go().finish().connected,
            1,
            "{tenant}"
        );
        let (mark, before) = (capture.mark(), agent.used(tenant, MESSAGES));
        assert_eq!(attempt.start().go().finish().connected, 1, "{tenant}");
        let first = capture.since(mark).only(|seen| seen.syn);
        assert!(first.bytes_to(25) > 0, "{tenant}: {first:?}");
        counts(&agent, tenant, CONNECTIONS, 2);
        counts(&agent, tenant, MESSAGES, before + 1);
    }
}

#[test]
fn whose_address_is_hidden_is_counted_once() {
    let node = Node::new();
    let outside = Sink::mail(node.outside(), &[25, 80], "outside.example");
    nft(
        &node.root(),
        "table ip hide {
            chain out { type nat hook postrouting priority 100;
                ip saddr 192.0.2.0/24 oifname eth0 masquerade; }
        }",
    );
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let machine = Guest::new(&node, Wiring::Tap, "tap9i0", 2);
    let mut tenants = container_tenant("boxed", &boxed);
    tenants += &tenant("machine", "interfaces: [tap9i0]");
    let agent = agent(&node, &tenants);
    for number in 1..=3 {
        let attempt = boxed.sender().attempt(mx(false)).say("hidden.example");
        let report = attempt.start().go().finish();
        assert_eq!(report.connected, 1, "{report:?}");
        counts(&agent, "boxed", CONNECTIONS, number);
        let report = machine.packets(false).message().make();
        assert_eq!(report.ended, Ended::Served, "{report:?}");
        counts(&agent, "machine", CONNECTIONS, number);
        counts(&agent, "machine", MESSAGES, number);
    }
    let visits = outside.visits();
    assert_eq!(visits.len(), 6, "{visits:?}");
    let hidden = |address: IpAddr| address == IpAddr::from(NODE4);
    assert!(
        visits.iter().all(|visit| hidden(visit.from.ip())),
        "{visits:?}"
    );
}

#[test]
fn what_a_helper_relays_is_counted_once() {
    let node = Node::new();
    let outside = Sink::mail(node.outside(), &[25], "outside.example");
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let cgroup = boxed.cgroup().path();
    let mut tenants = tenant("alice", &format!("users: [alice], cgroups: [{cgroup}]"));
    // So that there is a guest layer: nothing comes from here.
    tenants += &tenant("interface", "interfaces: [veth-box]");
    let agent = agent(&node, &tenants);

    // What goes to port 25 inside ends at the helper, which is outside.
    let listener = boxed
        .root()
        .namespace()
        .enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the container has loopback"));
    let port = listener.local_addr().expect("it is bound").port();
    nft(
        &boxed.root(),
        &format!(
            "table ip turn {{
                chain out {{ type nat hook output priority -100; tcp dport 25 redirect to :{port}; }}
            }}"
        ),
    );
    let program = node.directory().join("limiter-relay");
    programs::copy_sender("limiter-relay", &program);
    let mut command = node.user(2001).command(&program);
    command.arg(mx(false).to_string());
    let log = node.directory().join("relay.log");
    let _helper = Process::start_with(
        "the helper",
        &mut command,
        OwnedFd::from(listener).into(),
        &log,
    );

    for number in 1..=3 {
        let attempt = boxed.sender().attempt(mx(false)).say("relayed.example");
        let report = attempt.start().go().finish();
        assert_eq!(report.connected, 1, "{report:?}");
        let greeting = report.greeting.unwrap_or_default();
        assert!(greeting.contains("outside.example"), "{greeting}");
        counts(&agent, "alice", CONNECTIONS, number);
    }
    counts(&agent, "interface", CONNECTIONS, 0);
    let visits = outside.visits();
    assert_eq!(visits.len(), 3, "{visits:?}");
    assert!(
        visits
            .iter()
            .all(|visit| visit.from.ip() == IpAddr::from(NODE4))
    );
}

/// Segments of one connection, written by hand.
struct Hand {
    socket: PacketSocket,
    from: SocketAddr,
    macs: [[u8; 6]; 2],
}

/// A segment.
#[derive(Clone, Copy)]
enum Segment {
    /// The first of an attempt, with this number.
    First(u32),
    /// One with this number that acknowledges something, and carries this.
    Next(u32, &'static [u8]),
}

impl Hand {
    fn new(node: &Node, guest: &Guest) -> Self {
        let socket = guest
            .root()
            .namespace()
            .enter(|| PacketSocket::open(Some("eth0")).expect("root may send packets"));
        let from = SocketAddr::new(guest.forger(false), 20_025);
        let place = [node.root(), guest.root()];
        let macs = [mac(&place[0], guest.interface()), mac(&place[1], "eth0")];
        Self { socket, from, macs }
    }

    fn send(&self, segment: Segment) {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from.ip(), mx(false).ip()) else {
            unreachable!("IPv4 was asked for");
        };
        let [node, own] = self.macs;
        let ip = PacketBuilder::ethernet2(own, node).ipv4(from.octets(), to.octets(), 64);
        let (number, payload) = match segment {
            Segment::First(number) => (number, &b""[..]),
            Segment::Next(number, payload) => (number, payload),
        };
        let tcp = ip.tcp(self.from.port(), 25, number, 8_192);
        let tcp = match segment {
            Segment::First(_) => tcp.syn(),
            Segment::Next(..) => tcp.ack(1),
        };
        let mut frame = Vec::new();
        tcp.write(&mut frame, payload)
            .expect("a vector takes anything");
        self.socket.send(&frame).expect("the interface is up");
    }
}

/// The Ethernet address of an interface there.
fn mac(place: &Place, interface: &str) -> [u8; 6] {
    let mut command = place.command("ip");
    let out = process::run(command.args(["-j", "link", "show", interface]), "").success("ip");
    let links: serde_json::Value = serde_json::from_str(&out.stdout).expect("ip writes JSON");
    let text = links[0]["address"].as_str().expect("it has one");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("bytes in hexadecimal"))
        .collect();
    bytes.try_into().expect("six of them")
}
