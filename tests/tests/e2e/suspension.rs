//! Sanctions on live traffic: they take hold in under a second, end what is open, let nothing more
//! through, and touch neither what they do not forbid nor anybody else. All of it is read off the
//! wire outside.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use limiter_common::sanction::Sanction;
use limiter_tests::{
    Agent, Capture, Config, Guest, LOAD_PORT, LoadSink, NATTED, NODE4, NODE6, Node, Place, Running,
    Sink, Wiring, mx,
    packets::{Ended, PacketReport},
    process::run,
    talk::{By, Talk, Talking, talk},
    wait,
};

/// How soon a sanction has to hold.
const SOON: Duration = Duration::from_secs(1);

/// The ports of the server outside: SMTP, submission, mailbox, and none of these.
const PORTS: [u16; 5] = [25, 587, 993, 80, 2525];

/// A node with all kinds of tenants and neighbours, and a server outside.
struct Street<'n> {
    node: &'n Node,
    wire: Capture,
    _outside: Sink,
    /// A container whose cgroup is claimed.
    by_cgroup: Guest<'n>,
    /// A container whose interface is claimed.
    by_interface: Guest<'n>,
    /// A virtual machine, by each of its interfaces.
    machine: [Guest<'n>; 2],
    /// The neighbour's container, of which the neighbour claims the interface.
    neighbour: Guest<'n>,
}

/// Connect does not know whose a network namespace is that only its interface tells of.
const MAIN: &str = "
mode: enforce
default: {direct_smtp: allow, submission: allow}
";

/// Those who are sanctioned.
const TENANTS: [&str; 4] = ["alice", "bag", "box", "machine"];

impl<'n> Street<'n> {
    fn new(node: &'n Node) -> Self {
        Self {
            node,
            wire: Capture::start(node.outside()),
            _outside: Sink::multipath_mail(node.outside(), &PORTS, "outside.example"),
            by_cgroup: Guest::unprivileged(node, Wiring::Veth, "veth-bag", 1),
            by_interface: Guest::unprivileged(node, Wiring::Veth, "veth-box", 2),
            machine: [
                Guest::new(node, Wiring::Tap, "tap101i0", 3),
                Guest::new(node, Wiring::Tap, "tap101i1", 5),
            ],
            neighbour: Guest::unprivileged(node, Wiring::Veth, "veth-bob", 4),
        }
    }

    fn agent(&self, main: &str) -> Agent<'n> {
        let addresses = |guest: &Guest| {
            let all = [guest.kernel(false), guest.kernel(true)];
            all.map(|address| address.to_string()).join(", ")
        };
        let [first, second] = &self.machine;
        let machine = [first.forger(false), second.forger(true)];
        let tenants = format!(
            "
tenant: alice
direct_smtp: allow
submission: allow
match: {{users: [alice]}}
---
tenant: bag
direct_smtp: allow
submission: allow
match: {{cgroups: ['{bag}'], addresses: [{bag_addresses}]}}
---
tenant: box
direct_smtp: allow
submission: allow
match: {{interfaces: [veth-box], addresses: [{box_addresses}]}}
---
tenant: machine
direct_smtp: allow
submission: allow
match: {{interfaces: ['tap101i*'], addresses: [{}, {}]}}
---
tenant: bob
direct_smtp: allow
submission: allow
match: {{users: [bob], interfaces: [veth-bob]}}
",
            machine[0],
            machine[1],
            bag = self.by_cgroup.cgroup().path(),
            bag_addresses = addresses(&self.by_cgroup),
            box_addresses = addresses(&self.by_interface),
        );
        let config = Config::new(&format!("{MAIN}{main}"), &tenants)
            .attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]");
        Agent::start(self.node, &config)
    }

    /// Where a tenant's programs run, if its kernel is this machine's.
    fn place(&self, tenant: &str) -> Option<Place> {
        match tenant {
            "alice" => Some(self.node.user(2001)),
            "bag" => Some(self.by_cgroup.root()),
            "box" => Some(self.by_interface.root()),
            "bob" => Some(self.node.user(2002)),
            _ => None,
        }
    }

    /// Bytes of payload that came from there since.
    fn bytes_since(&self, mark: usize, from: SocketAddr) -> usize {
        let traffic = self.wire.since(mark).only(|seen| seen.from == from);
        traffic.frames().iter().map(|seen| seen.payload).sum()
    }

    /// Fails unless the session goes on: payload arrives outside.
    #[track_caller]
    fn goes_on(&self, session: &Talking) {
        let mark = self.wire.mark();
        let (from, to) = (session.from(), session.to());
        wait::until_true(&format!("payload from {from} to {to}"), SOON * 5, || {
            thread::sleep(Duration::from_millis(20));
            self.bytes_since(mark, from) > 0
        });
    }
}

/// A virtual machine's session, and where it comes from.
struct MachineTalk {
    running: Running,
    from: SocketAddr,
}

fn machine_talk(street: &Street, v6: bool) -> MachineTalk {
    let attempt = street.machine[usize::from(v6)]
        .packets(v6)
        .talking(Duration::from_secs(30))
        .patience(Duration::from_secs(5));
    let running = attempt.start().go();
    wait::until_true("the virtual machine to be served", wait::SOON, || {
        street.wire.all().holds(attempt.name().as_bytes())
    });
    MachineTalk {
        running,
        from: attempt.from(),
    }
}

/// Whether a sanction forbids what goes to a port.
fn forbids(sanction: Sanction, port: u16) -> bool {
    match sanction {
        Sanction::BlockSmtp => [25, 587].contains(&port),
        Sanction::SuspendMail => [25, 587, 993].contains(&port),
        Sanction::SuspendNetwork | Sanction::NullRoute => true,
    }
}

fn open(place: &Place) -> Vec<Talking> {
    let mut all = Vec::new();
    for (port, v6, by) in [
        (25, false, By::Tcp),
        (25, true, By::Tcp),
        (25, false, By::Mptcp),
        (587, true, By::Mptcp),
        (993, true, By::Tcp),
        (80, false, By::Tcp),
    ] {
        let to = SocketAddr::new(mx(v6).ip(), port);
        all.push(talk(place, to, by, Talk::Mail));
    }
    all
}

#[track_caller]
fn suspend(agent: &Agent, tenant: &str, sanction: Sanction, more: &[&str]) -> Duration {
    let start = Instant::now();
    let mut arguments = vec!["suspend", tenant, "--sanction", sanction.as_str()];
    arguments.extend(["--reason", "spam"]);
    arguments.extend(more);
    let _ = agent.must(&arguments);
    start.elapsed()
}

/// Everybody in turn, with everything open: what is forbidden ends, everything else goes on.
fn takes_hold(sanction: Sanction) {
    let node = Node::new();
    let street = Street::new(&node);
    let agent = street.agent("");
    let beside = [
        talk(&node.user(2002), mx(false), By::Tcp, Talk::Mail),
        talk(&street.neighbour.root(), mx(true), By::Tcp, Talk::Mail),
        talk(&street.neighbour.root(), mx(false), By::Mptcp, Talk::Mail),
    ];
    for tenant in TENANTS {
        let mut sessions = street.place(tenant).map_or_else(Vec::new, |p| open(&p));
        let machines = match tenant {
            "machine" => vec![machine_talk(&street, false), machine_talk(&street, true)],
            _ => Vec::new(),
        };
        for session in &sessions {
            street.goes_on(session);
        }
        // Of a container that only its interface tells of, an idle session learns of it when it
        // speaks again.
        if let Some(place) = street.place(tenant).filter(|_| tenant != "box") {
            sessions.push(talk(&place, mx(false), By::Tcp, Talk::Idle));
            sessions.push(talk(&place, mx(true), By::Mptcp, Talk::Idle));
        }
        let start = Instant::now();
        let taken = suspend(&agent, tenant, sanction, &[]);
        let mark = street.wire.mark();
        assert!(taken < SOON, "{tenant}: {taken:?}");
        for session in &mut sessions {
            let what = format!(
                "{tenant}: {:?} from {} to {} under {sanction:?}",
                session.by(),
                session.from(),
                session.to()
            );
            if !forbids(sanction, session.to().port()) {
                street.goes_on(session);
                continue;
            }
            let end = session.ended(SOON.saturating_sub(start.elapsed()));
            // Whose a container is that only its interface tells of, the node does not see in its
            // sockets: its subflow is reset, and what it goes on writing goes nowhere.
            let hidden = tenant == "box" && session.by() == By::Mptcp;
            assert!(
                end.is_some() || hidden,
                "{what} still lives after {:?}",
                start.elapsed()
            );
            if let Some(end) = end {
                // A disconnected MPTCP socket reads as if the peer had closed it.
                assert!(end.is_cut() || session.by() == By::Mptcp, "{what}: {end:?}");
            }
        }
        // Whatever was under way has come by then: also what is sent again.
        thread::sleep(Duration::from_millis(600));
        for session in &sessions {
            if forbids(sanction, session.to().port()) {
                let late = street.bytes_since(mark, session.from());
                assert_eq!(late, 0, "{tenant}: {:?} to {}", session.by(), session.to());
            }
        }
        for machine in machines {
            assert_eq!(street.bytes_since(mark, machine.from), 0, "{tenant}");
            let report: PacketReport = machine.running.report();
            if sanction != Sanction::NullRoute {
                assert_eq!(report.ended, Ended::Reset, "{report:?}");
                let last = Duration::from_nanos(report.last_ns);
                assert!(last < SOON, "{report:?}");
            }
        }
        for session in &beside {
            street.goes_on(session);
        }
        agent.must(&["reinstate", tenant, "--reason", "cleaned"]);
        if let Some(place) = street.place(tenant) {
            for v6 in [false, true] {
                street.goes_on(&talk(&place, mx(v6), By::Tcp, Talk::Mail));
            }
        } else {
            let report = street.machine[0].packets(false).message().make();
            assert_eq!(report.ended, Ended::Served, "{report:?}");
        }
        for session in &beside {
            street.goes_on(session);
        }
    }
}

/// A try to send something from there: the error's name, or `ok`; for UDP without an answer.
fn try_from(place: &Place, udp: bool, to: SocketAddr) -> String {
    let mut command = place.command("/usr/bin/python3");
    command
        .args(["-c", TRY, &to.ip().to_string(), &to.port().to_string()])
        .arg(if udp { "udp" } else { "tcp" });
    let out = run(&mut command, "").success("the try");
    out.stdout.trim().to_owned()
}

const TRY: &str = r#"
import errno, socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(3)
try:
    if kind == "udp":
        s.sendto(b"anything", (host, port))
    else:
        s.connect((host, port))
    print("ok")
except OSError as error:
    print(errno.errorcode.get(error.errno, str(error)))
"#;

/// Whether somebody outside gets an answer to a ping.
fn answers(street: &Street, address: IpAddr) -> bool {
    let mut ping = street.node.elsewhere().command("/usr/bin/python3");
    ping.args(["-c", PING, &address.to_string()]);
    run(&mut ping, "").success("the ping").stdout.trim() == "True"
}

const PING: &str = r#"
import socket, struct, sys, time
host = sys.argv[1]
v6 = ":" in host
family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
s = socket.socket(family, socket.SOCK_RAW, protocol)
s.settimeout(0.2)
echo, reply, at = (128, 129, 0) if v6 else (8, 0, 20)
# Of IPv6 the kernel makes the checksum.
head = struct.pack("!BBHHH", echo, 0, 0 if v6 else 0xffff - (echo << 8) - 0x77, 0x77, 0)
heard = False
for _ in range(3):
    s.sendto(head, (host, 0))
    end = time.monotonic() + 0.3
    while not heard and time.monotonic() < end:
        try:
            data, who = s.recvfrom(2000)
        except TimeoutError:
            continue
        heard = who[0] == host and data[at] == reply
print(heard)
"#;

#[test]
fn under_suspend_network_only_management_is_reachable() {
    let node = Node::new();
    let street = Street::new(&node);
    let agent = street.agent(&format!("management: [{NATTED}/32]\n"));
    let management = |port| SocketAddr::new(NATTED.into(), port);
    for tenant in ["alice", "bag", "box"] {
        let place = street.place(tenant).expect("it has one");
        let udp = SocketAddr::new(mx(false).ip(), 4_242);
        let web = |v6| SocketAddr::new(mx(v6).ip(), 80);
        assert_eq!(try_from(&place, true, udp), "ok", "{tenant}");
        assert_eq!(try_from(&place, false, web(true)), "ok", "{tenant}");
        suspend(&agent, tenant, Sanction::SuspendNetwork, &[]);
        let mark = street.wire.mark();
        for v6 in [false, true] {
            for port in [25, 80, 587, 993, 2525] {
                let to = SocketAddr::new(mx(v6).ip(), port);
                let said = try_from(&place, false, to);
                assert!(
                    ["EPERM", "ECONNREFUSED", "ECONNRESET"].contains(&said.as_str()),
                    "{tenant} to {to}: {said}"
                );
            }
            for port in [53, 443, 4_242] {
                let to = SocketAddr::new(mx(v6).ip(), port);
                let said = try_from(&place, true, to);
                // What comes out of a network of its own can only be dropped.
                let fits = said == "EPERM" || (said == "ok" && tenant == "box");
                assert!(fits, "{tenant} to {to}/udp: {said}");
            }
        }
        let traffic = street.wire.since(mark);
        let out = traffic.only(|seen| [6, 17].contains(&seen.protocol) && !seen.reset);
        assert!(out.frames().is_empty(), "{tenant}: {:?}", out.frames());
        assert_eq!(try_from(&place, false, management(80)), "ok", "{tenant}");
        assert_eq!(try_from(&place, true, management(4_242)), "ok", "{tenant}");
        agent.must(&["reinstate", tenant, "--reason", "cleaned"]);
        assert_eq!(try_from(&place, true, udp), "ok", "{tenant}");
        assert_eq!(try_from(&place, false, web(false)), "ok", "{tenant}");
    }
}

#[test]
fn a_null_route_drops_both_ways_and_nothing_else() {
    let node = Node::new();
    let street = Street::new(&node);
    let agent = street.agent("");
    let _inside = Sink::listen(street.by_interface.namespace(), &[80], "box.example");
    for v6 in [false, true] {
        let (own, other) = (street.by_interface.kernel(v6), street.neighbour.kernel(v6));
        let web = SocketAddr::new(own, 80);
        let elsewhere = node.elsewhere();
        assert!(answers(&street, own), "{own}");
        assert_eq!(try_from(&elsewhere, false, web), "ok");
        suspend(&agent, "box", Sanction::NullRoute, &[]);
        let inside = Capture::start(street.by_interface.namespace());
        let mark = street.wire.mark();
        assert!(!answers(&street, own), "{own}");
        assert_ne!(try_from(&elsewhere, false, web), "ok");
        let arrived = inside.all().only(|seen| seen.to.ip() == own);
        assert!(arrived.frames().is_empty(), "{:?}", arrived.frames());
        let left = street.wire.since(mark).only(|seen| seen.from.ip() == own);
        assert!(left.frames().is_empty(), "{:?}", left.frames());
        assert!(answers(&street, other), "{other}");
        let node_itself = if v6 { NODE6.into() } else { NODE4.into() };
        assert!(answers(&street, node_itself), "the node itself");
        agent.must(&["reinstate", "box", "--reason", "cleaned"]);
        assert!(answers(&street, own), "{own}");
        assert_eq!(try_from(&elsewhere, false, web), "ok");
    }
}

#[test]
fn it_ends_on_time_for_everybody_with_no_agent() {
    let node = Node::new();
    let street = Street::new(&node);
    let agent = street.agent("");
    let start = Instant::now();
    for tenant in ["alice", "bag", "box", "machine"] {
        suspend(&agent, tenant, Sanction::SuspendNetwork, &["--for", "12s"]);
    }
    let last = Instant::now();
    agent.kill_9();
    let web = SocketAddr::new(mx(false).ip(), 80);
    for tenant in ["alice", "bag", "box"] {
        let place = street.place(tenant).expect("it has one");
        assert_ne!(try_from(&place, false, web), "ok", "{tenant}");
    }
    let report: PacketReport = street.machine[0].packets(false).message().make();
    assert_eq!(report.ended, Ended::Refused, "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(11), "too slow");
    thread::sleep(Duration::from_millis(13_500).saturating_sub(last.elapsed()));
    for tenant in ["alice", "bag", "box"] {
        let place = street.place(tenant).expect("it has one");
        assert_eq!(try_from(&place, false, web), "ok", "{tenant}");
        street.goes_on(&talk(&place, mx(true), By::Tcp, Talk::Mail));
    }
    let report: PacketReport = street.machine[0].packets(false).message().make();
    assert_eq!(report.ended, Ended::Served, "{report:?}");
}

/// A neighbour's bulk transfer, on a machine where others work too: the best tenth of a second of
/// several rounds, with and without somebody suspended.
#[test]
fn a_neighbours_transfer_goes_on_as_fast() {
    let node = Node::new();
    let outside = LoadSink::listen(node.outside());
    let street = Street::new(&node);
    let agent = street.agent("");
    let to = SocketAddr::new(mx(false).ip(), LOAD_PORT);
    for place in [node.user(2002), street.neighbour.root()] {
        let mut bulk = talk(&place, to, By::Tcp, Talk::Bulk);
        let (mut before, mut under) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            before.extend(bulk.tenths(6));
            suspend(&agent, "alice", Sanction::SuspendNetwork, &[]);
            under.extend(bulk.tenths(6));
            agent.must(&["reinstate", "alice", "--reason", "cleaned"]);
        }
        let (before, under) = (upper_half(&mut before), upper_half(&mut under));
        // More than four fifths.
        assert!(under * 5 > before * 4, "{under} of {before} bytes");
    }
    drop(outside);
}

/// The sum of the faster half.
fn upper_half(tenths: &mut [u64]) -> u64 {
    tenths.sort_unstable();
    tenths[tenths.len() / 2..].iter().sum()
}

#[test]
fn block_smtp_takes_hold_of_live_sessions() {
    takes_hold(Sanction::BlockSmtp);
}

#[test]
fn suspend_mail_takes_hold_of_live_sessions() {
    takes_hold(Sanction::SuspendMail);
}

#[test]
fn suspend_network_takes_hold_of_live_sessions() {
    takes_hold(Sanction::SuspendNetwork);
}

#[test]
fn null_route_takes_hold_of_live_sessions() {
    takes_hold(Sanction::NullRoute);
}
