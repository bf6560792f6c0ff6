//! Whoever logs in at the mailboxes too often is locked out for a while, at the uplink, by the
//! kernel alone; and nobody can lock out somebody else.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{
    Agent, Capture, Config, Dovecot, NODE4, NODE6, Node, OUTSIDE_MX, OUTSIDE_MX_EXEMPT, Place,
    Process, Sink,
    disguise::{Disguise, Extension},
    guest::outside_packets,
    machine,
    orders::Report,
    packet_socket::PacketSocket,
    process, programs, wait,
};
use serde_json::Value;

use crate::foreign;

const IMAP: u16 = 143;
const POP3: u16 = 110;

/// How long nothing has to come to be taken for nothing.
fn silence() -> Duration {
    machine::patience(Duration::from_millis(700))
}

/// The lock of the policies here.
fn lock_time() -> Duration {
    machine::patience(Duration::from_secs(4))
}

fn keys() -> String {
    let lock = lock_time().as_secs();
    format!("mode: enforce\nmailbox: {{per_client: {{max: 3, window: 1h, lock: {lock}s}}}}")
}

/// A node with mailboxes.
struct Mailboxes {
    node: Node,
    _web: Sink,
    /// Whatever greets at the mailboxes' ports, where a real server would take too long.
    _stand_in: Option<Process>,
    dovecot: Option<Dovecot>,
}

impl Mailboxes {
    fn new() -> Self {
        let node = Node::new();
        let real = !machine::is_emulated();
        if !real {
            machine::left_out("a login at a real server: only connections to its ports");
        }
        let dovecot = || {
            let cgroup = node.cgroup().child("dovecot");
            Dovecot::start(&node.root(), cgroup, node.directory())
        };
        let stand_in = || {
            let program = node.directory().join("limiter-greeter");
            programs::copy_sender("limiter-greeter", &program);
            let mut command = node.root().command(&program);
            command.args([IMAP, POP3].map(|port| port.to_string()));
            let log = node.directory().join("greeter.log");
            let greeter = Process::start("the greeter", &mut command, &log);
            wait::until_true("the greeter to listen", wait::SOON, || {
                greeter.log().contains("listening")
            });
            greeter
        };
        Self {
            _web: Sink::listen(node.inside(), &[80], "node.example"),
            dovecot: real.then(dovecot),
            _stand_in: (!real).then(stand_in),
            node,
        }
    }

    /// A connection from one of the outside's addresses: what came of it, or nothing if there was
    /// silence.
    fn from(&self, from: IpAddr, port: u16) -> Option<Report> {
        let to = to(from, port);
        let attempt = self.node.sender_at(self.node.elsewhere()).attempt(to);
        attempt.from(from).start().go().finish_within(silence())
    }

    #[track_caller]
    fn is_served(&self, from: IpAddr, port: u16) {
        let report = self.from(from, port);
        let report = report.unwrap_or_else(|| panic!("{from} hears nothing from port {port}"));
        let greeting = report.greeting.unwrap_or_default();
        assert!(greeting.contains("node.example"), "{from}: {greeting:?}");
    }

    #[track_caller]
    fn is_locked(&self, from: IpAddr, port: u16) {
        let report = self.from(from, port);
        assert!(report.is_none(), "{from} at port {port}: {report:?}");
    }

    /// Makes the client one too many connections.
    #[track_caller]
    fn lock(&self, from: IpAddr) -> Instant {
        for _ in 0..3 {
            self.is_served(from, IMAP);
        }
        let locked = Instant::now();
        // Whether the greeting of the one too many is heard is a matter of microseconds.
        let _ = self.from(from, POP3);
        locked
    }
}

fn to(from: IpAddr, port: u16) -> SocketAddr {
    match from {
        IpAddr::V4(_) => (NODE4, port).into(),
        IpAddr::V6(_) => (NODE6, port).into(),
    }
}

/// Runs `ip` there.
fn ip(place: &Place, line: &str) -> String {
    let mut command = place.command("ip");
    let out = process::run(command.args(line.split_whitespace()), "");
    out.success(line).stdout
}

/// How XDP is attached to the uplink: 1 by the driver, 2 above it.
fn xdp_mode(node: &Node) -> Option<u64> {
    let said = ip(&node.root(), "-json link show dev eth0");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    said[0]["xdp"]["mode"].as_u64()
}

/// How many entries a pinned map has.
fn entries(agent: &Agent, node: &Node, map: &str) -> usize {
    let pins = agent.pins();
    let pin = pins
        .iter()
        .find(|pin| pin.ends_with(Path::new("maps").join(map)))
        .unwrap_or_else(|| panic!("no {map} in {pins:?}"));
    let mut command = node.root().command("bpftool");
    command.args(["-j", "map", "dump", "pinned"]).arg(pin);
    let out = process::run(&mut command, "").success("bpftool");
    let said: Value = serde_json::from_str(&out.stdout).expect("JSON");
    said.as_array().expect("a list of entries").len()
}

fn of_mailbox(agent: &Agent) -> Vec<Value> {
    let mut events = agent.events(&[]);
    events.retain(|event| event["reason"] == "mailbox_limit");
    events
}

/// A whole session by somebody else's library: what a login is.
fn log_in(place: &Place, from: IpAddr) -> String {
    let session = format!(
        "import imaplib, socket
class From(imaplib.IMAP4):
    def _create_socket(self, timeout=None):
        return socket.create_connection((self.host, self.port), 5, ('{from}', 0))
box = From('{NODE4}', {IMAP})
box.login('somebody', 'secret')
print(box.select('INBOX'))
box.logout()
"
    );
    let mut command = place.command("python3");
    let out = process::run(command.args(["-c", &session]), "");
    out.success("a login").stdout
}

fn locked_out_and_in_again(mode: u64, prepare: impl FnOnce(&Node)) {
    let house = Mailboxes::new();
    prepare(&house.node);
    let agent = Agent::start(&house.node, &Config::new(&keys(), ""));
    assert_eq!(xdp_mode(&house.node), Some(mode));
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status:#}");
    let (client, other) = (IpAddr::from(OUTSIDE_MX), IpAddr::from(OUTSIDE_MX_EXEMPT));
    if house.dovecot.is_some() {
        let said = log_in(&house.node.elsewhere(), other);
        assert!(said.contains("OK"), "{said}");
    }
    // What ends the lock is the kernel's clock alone.
    let denied_before = agent.counter("(node)", "denied");
    let locked = house.lock(client);
    // On record before the agent dies.
    wait::until_true("the lock to be told", wait::SOON, || {
        !of_mailbox(&agent).is_empty()
    });
    agent.kill_9();
    house.is_locked(client, IMAP);
    house.is_locked(client, POP3);
    house.is_served(client, 80);
    house.is_served(other, IMAP);
    house.is_served(other, POP3);
    assert!(locked.elapsed() < lock_time(), "too slow to show anything");
    let ended = wait::until("the lock to end", Duration::from_secs(10), || {
        let asked = Instant::now();
        house.from(client, IMAP).map(|_| asked)
    });
    // The attempt that got through may have waited for its second SYN.
    let lasted = ended.duration_since(locked);
    assert!(
        lasted + silence() + Duration::from_millis(200) >= lock_time(),
        "it lasted {lasted:?}"
    );
    assert!(
        lasted <= lock_time() + machine::patience(Duration::from_secs(2)),
        "{lasted:?}"
    );
    // The hour is not over: that was one too many again.
    house.is_locked(client, IMAP);
    agent.run();
    let denied = agent.counter("(node)", "denied") - denied_before;
    let events = wait::until("the events", wait::SOON, || {
        let events = of_mailbox(&agent);
        (limiter_tests::repeated(&events) >= denied).then_some(events)
    });
    assert!(denied >= 5, "{denied}: {events:#?}");
    for event in &events {
        assert_eq!(event["layer"], "mailbox", "{event:#}");
        assert_eq!(event["tenant"], "(node)", "{event:#}");
        assert_eq!(event["verdict"], "denied", "{event:#}");
    }
    assert!(
        events
            .iter()
            .any(|event| event["source"]["address"] == client.to_string()),
        "{events:#?}"
    );
    house.is_served(other, 80);
    agent.term();
    agent.must(&["detach"]);
    assert_eq!(xdp_mode(&house.node), None);
    house.is_served(client, IMAP);
}

#[test]
fn too_many_logins_lock_the_client_out_in_the_driver() {
    locked_out_and_in_again(1, |_| {});
}

#[test]
fn too_many_logins_lock_the_client_out_above_a_driver_that_cannot() {
    // The driver takes no program where a frame may be longer than a page.
    locked_out_and_in_again(2, |node| {
        ip(&node.elsewhere(), "link set out0 mtu 9000");
    });
}

#[test]
fn a_customers_many_ipv6_addresses_are_one_client() {
    let house = Mailboxes::new();
    let outside = house.node.elsewhere();
    for address in [
        "2001:db8:aaaa:1::1",
        "2001:db8:aaaa:1:2:3:4:5",
        "2001:db8:aaaa:2::1",
    ] {
        ip(
            &outside,
            &format!("address add {address}/64 dev out0 nodad"),
        );
    }
    let agent = Agent::start(&house.node, &Config::new(&keys(), ""));
    let [one, same, other] = [
        "2001:db8:aaaa:1::1",
        "2001:db8:aaaa:1:2:3:4:5",
        "2001:db8:aaaa:2::1",
    ]
    .map(|address| address.parse::<IpAddr>().expect("an address"));
    for from in [one, same, one] {
        house.is_served(from, IMAP);
    }
    let _ = house.from(same, IMAP);
    house.is_locked(one, IMAP);
    house.is_locked(same, POP3);
    house.is_served(other, IMAP);
    house.is_served(one, 80);
    let events = wait::until("the events", wait::SOON, || {
        let events = of_mailbox(&agent);
        (!events.is_empty()).then_some(events)
    });
    assert_eq!(events[0]["source"]["address"], same.to_string());
}

#[test]
fn the_node_itself_is_never_locked_out() {
    let house = Mailboxes::new();
    let agent = Agent::start(&house.node, &Config::new(&keys(), ""));
    let loopback = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        "::1".parse().expect("one"),
    ];
    for to in loopback.into_iter().chain([NODE4.into(), NODE6.into()]) {
        for _ in 0..5 {
            let attempt = house.node.sender_at(house.node.root());
            let report = attempt.attempt((to, IMAP).into()).start().go().finish();
            assert_eq!(report.connected, 1, "{to}: {report:?}");
        }
    }
    assert_eq!(entries(&agent, &house.node, "CLIENTS"), 0);
    assert_eq!(entries(&agent, &house.node, "LOCKED"), 0);
    assert_eq!(of_mailbox(&agent), Vec::<Value>::new());
    house.is_served(OUTSIDE_MX.into(), IMAP);
}

#[test]
fn observed_it_only_tells() {
    let house = Mailboxes::new();
    let keys = keys().replace("enforce", "observe");
    let agent = Agent::start(&house.node, &Config::new(&keys, ""));
    for _ in 0..8 {
        house.is_served(OUTSIDE_MX.into(), IMAP);
    }
    assert_eq!(agent.counter("(node)", "would_deny"), 5);
    assert_eq!(agent.counter("(node)", "denied"), 0);
    let events = wait::until("the events", wait::SOON, || {
        let events = of_mailbox(&agent);
        (limiter_tests::repeated(&events) >= 5).then_some(events)
    });
    for event in &events {
        assert_eq!(event["verdict"], "would_deny", "{event:#}");
        assert_eq!(event["layer"], "mailbox", "{event:#}");
    }
    assert_eq!(entries(&agent, &house.node, "LOCKED"), 0);
}

/// The checksum of the internet.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).expect("it was folded");
    (!sum).to_be_bytes()
}

/// A SYN from anybody to the mailboxes, as a frame.
fn forged_syn(node_mac: [u8; 6], from: Ipv4Addr, port: u16, number: u32) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 40];
    header.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    header.extend(from.octets());
    header.extend(NODE4.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(port.to_be_bytes());
    tcp.extend(IMAP.to_be_bytes());
    tcp.extend(number.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&header[12..], &[0, 6, 0, 20], &tcp]);
    tcp[16..18].copy_from_slice(&sum);
    let mut frame = node_mac.to_vec();
    frame.extend([2, 0, 0x5e, 0x10, 0, 0x77, 8, 0]);
    frame.extend(header);
    frame.extend(tcp);
    frame
}

/// How many forged SYNs come.
const FORGED: u32 = 1_000_000;

#[test]
fn a_million_forged_syns_lock_nobody_out_and_take_no_memory() {
    let house = Mailboxes::new();
    let agent = Agent::start(&house.node, &Config::new(&keys(), ""));
    let keys = keys().replace("lock: 4s", "lock: 10m");
    agent.write_main(&keys);
    agent.must(&["reload"]);
    let (locked, free) = (IpAddr::from(OUTSIDE_MX), IpAddr::from(OUTSIDE_MX_EXEMPT));
    house.is_served(free, IMAP);
    let _ = house.lock(locked);
    house.is_locked(locked, IMAP);
    let count = || {
        (
            entries(&agent, &house.node, "CLIENTS"),
            entries(&agent, &house.node, "LOCKED"),
        )
    };
    let before = count();
    assert_eq!(before, (2, 1));
    let said = ip(&house.node.root(), "-json link show dev eth0");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let mac: Vec<u8> = said[0]["address"]
        .as_str()
        .expect("it has one")
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect();
    let mac: [u8; 6] = mac.try_into().expect("six bytes");
    house.node.outside().enter(|| {
        let socket = PacketSocket::open(Some("out0")).expect("root may send frames");
        for number in 0..FORGED {
            let from = match number % 10 {
                // In the name of somebody who is served, and of somebody who is not.
                0 => OUTSIDE_MX_EXEMPT,
                1 => OUTSIDE_MX,
                _ => Ipv4Addr::from_bits((198 << 24 | 18 << 16) + (number & 0x1_ffff)),
            };
            let port = u16::try_from(1024 + number % 60_000).expect("a port");
            let frame = forged_syn(mac, from, port, number.wrapping_mul(0x9e37_79b9));
            while socket.send(&frame).is_err() {
                thread::yield_now();
            }
            // In the midst of it nothing has changed.
            if number == FORGED / 2 {
                assert_eq!(count(), before);
            }
        }
    });
    assert_eq!(count(), before);
    house.is_locked(locked, IMAP);
    house.is_served(free, POP3);
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status:#}");
}

/// What a locked client still can make of a packet to the mailboxes, and the node understands.
fn odd_packets(v6: bool) -> Vec<Vec<Disguise>> {
    let pieces = |first| Disguise::Fragments {
        first,
        reversed: false,
        overlap: 0,
    };
    let tag = Disguise::Vlan {
        protocol: 0x8100,
        vlan: 0,
    };
    if v6 {
        let extensions = |all| vec![Disguise::Extensions(all)];
        let destination = Extension::Destination(1);
        return vec![
            extensions(vec![destination]),
            extensions(vec![Extension::HopByHop(1), Extension::Atomic]),
            // More than anybody walks through who has little time.
            extensions(vec![destination; 20]),
            vec![
                Disguise::Extensions(vec![destination]),
                Disguise::Fragments {
                    first: 32,
                    reversed: true,
                    overlap: 0,
                },
            ],
            vec![tag],
        ];
    }
    vec![
        vec![Disguise::Nops(1)],
        vec![Disguise::Nops(10)],
        vec![pieces(8)],
        vec![pieces(24)],
        vec![Disguise::Nops(3), pieces(8)],
        vec![tag],
    ]
}

fn odd_packets_do_not_get_in(prepare: impl FnOnce(&Node) -> Option<OwnedFd>, how: &str) {
    let house = Mailboxes::new();
    let answers = Capture::start(house.node.outside());
    let _before = prepare(&house.node);
    // What greets there is no mail server of the kind that is asked, so that nobody is served.
    let attempt = |v6, disguises: &[Disguise], patience| {
        let attempt = outside_packets(&house.node, v6, IMAP).patience(patience);
        let attempt = disguises.iter().fold(attempt, |attempt, disguise| {
            attempt.disguised(disguise.clone())
        });
        (attempt.from(), attempt.make().connected)
    };
    let connects = |v6, disguises: &[Disguise]| attempt(v6, disguises, silence()).1;
    house.is_served(OUTSIDE_MX.into(), IMAP);
    for v6 in [false, true] {
        for disguises in odd_packets(v6) {
            assert!(connects(v6, &disguises), "{disguises:?} shows nothing");
        }
    }
    let keys = keys().replace("4s", "10m");
    let agent = Agent::start(&house.node, &Config::new(&keys, ""));
    let layers = agent.status()["layers"].to_string();
    assert!(layers.contains(how), "{layers}");
    for v6 in [false, true] {
        for _ in 0..3 {
            assert!(connects(v6, &[]));
        }
        let _ = connects(v6, &[]);
        for disguises in odd_packets(v6) {
            let mark = answers.mark();
            let (from, connected) = attempt(v6, &disguises, silence() / 2);
            let answered = answers.since(mark).only(|seen| seen.to == from);
            assert!(
                !connected && answered.frames().is_empty(),
                "{disguises:?} gets in: {:?}",
                answered.frames()
            );
        }
    }
}

#[test]
fn odd_packets_do_not_get_in_by_the_driver() {
    odd_packets_do_not_get_in(|_| None, "native XDP");
}

/// Somebody else's program has the place where they would be stopped first.
#[test]
fn odd_packets_do_not_get_in_behind_the_driver() {
    let theirs = |node: &Node| {
        node.inside().enter(|| {
            const XDP_PASS: i32 = 2;
            let passes = foreign::program(foreign::XDP, XDP_PASS);
            Some(foreign::attach_xdp(&passes, foreign::index("eth0")))
        })
    };
    odd_packets_do_not_get_in(theirs, "TCX");
}
