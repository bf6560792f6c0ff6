//! Ways round that are more than one attempt: sessions that hide from whoever reads them, and what
//! comes in pieces.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use limiter_tests::{
    Agent, Capture, Config, Guest, Node, OUTSIDE_MX, OUTSIDE_MX_EXEMPT, OUTSIDE_MX6,
    OUTSIDE_MX6_EXEMPT, PacketAttempt, Sink, Wiring, WrittenChecksums,
    disguise::Disguise,
    guest::flatten,
    offload::Offload,
    packets::{Ended, Link, PacketReport},
    process, wait,
};

/// How long whoever is stopped waits for an answer that does not come.
const SILENCE: Duration = Duration::from_millis(300);

/// A virtual machine that may send five messages an hour.
const MACHINE: &str = "
tenant: machine
direct_smtp: allow
limits: [{unit: messages, max: 5, window: 1h}, {unit: connections, max: 900, window: 1h}]
match: {interfaces: ['tap101i*']}
";

fn agent<'n>(node: &'n Node, main: &str, tenants: &str) -> Agent<'n> {
    let main = format!("mode: enforce\ndefault: {{direct_smtp: allow, submission: allow}}\n{main}");
    let config =
        Config::new(&main, tenants).attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]");
    Agent::start(node, &config)
}

/// How many messages the server took.
fn taken(report: &PacketReport) -> usize {
    report.heard.matches("250 taken").count()
}

/// Three messages by each: the limit of the virtual machine holds for both together.
#[track_caller]
fn is_counted(agent: &Agent, attempts: [PacketAttempt; 2]) {
    let [first, second] = attempts.map(|attempt| attempt.messages(3).make());
    assert_eq!(first.ended, Ended::Served, "{first:?}");
    assert_eq!(taken(&first), 3, "{first:?}");
    // Of the sixth message the server hears nothing any more.
    assert_eq!(second.ended, Ended::Reset, "{second:?}");
    assert_eq!(taken(&second), 2, "{second:?}");
    let used = |limit| agent.used("machine", limit);
    assert_eq!((used(0), used(1)), (5, 2), "messages and connections");
}

/// On a bridge nobody looks at the length in the IP header, and whoever cuts a large packet into
/// segments writes new ones.
#[test]
fn a_packet_that_calls_itself_empty_is_read_and_counted() {
    let node = Node::new();
    flatten(&node);
    let machine = Guest::new(&node, Wiring::FlatTap, "tap101i0", 1);
    let _mail = Sink::mail(node.outside(), &[25], "outside.example");
    let _written = WrittenChecksums::on(node.inside(), "eth0");
    let agent = agent(&node, "", MACHINE);
    let attempt = |v6| machine.packets(v6).offloading(Offload::Segments(4));
    is_counted(&agent, [attempt(false), attempt(true)]);
}

#[test]
fn a_packet_that_calls_itself_empty_is_cut_by_a_sanction() {
    let node = Node::new();
    flatten(&node);
    let machine = Guest::new(&node, Wiring::FlatTap, "tap101i0", 1);
    let _mail = Sink::mail(node.outside(), &[25], "outside.example");
    let _written = WrittenChecksums::on(node.inside(), "eth0");
    let wire = Capture::start(node.outside());
    let agent = agent(&node, "", MACHINE);
    for v6 in [false, true] {
        let attempt = machine
            .packets(v6)
            .offloading(Offload::Segments(4))
            .talking(Duration::from_secs(20));
        let talks = attempt.start().go();
        let bytes = |mark| {
            let traffic = wire.since(mark).only(|seen| seen.from == attempt.from());
            traffic.bytes_to(25)
        };
        wait::until_true("the session", wait::SOON, || bytes(0) > 100);
        let block = ["suspend", "machine", "--sanction", "block_smtp"];
        agent.must(&[&block[..], &["--reason", "spam"]].concat());
        let mark = wire.mark();
        let report: PacketReport = talks.report();
        assert_eq!(report.ended, Ended::Reset, "{report:?}");
        assert_eq!(bytes(mark), 0, "{report:?}");
        agent.must(&["reinstate", "machine", "--reason", "cleaned"]);
    }
}

/// The handshake by one interface, and all data by another of the same virtual machine.
#[test]
fn a_session_by_two_interfaces_is_one() {
    let node = Node::new();
    let machine = Guest::new(&node, Wiring::Tap, "tap101i0", 1);
    let second = Guest::new(&node, Wiring::Tap, "tap101i1", 2);
    let _mail = Sink::mail(node.outside(), &[25], "outside.example");
    // The node's side is found at the same Ethernet address by both.
    let mut ip = node.root().command("ip");
    let lines = [machine.interface(), second.interface()]
        .map(|name| format!("link set {name} address 02:00:5e:10:01:01\n"));
    let _ = process::run(ip.args(["-batch", "-"]), &lines.concat()).success("ip");
    let agent = agent(&node, "", MACHINE);
    let attempt = |v6| {
        machine.packets(v6).data_by(Link::Tap {
            name: second.interface().to_owned(),
        })
    };
    is_counted(&agent, [attempt(false), attempt(true)]);
}

/// The first fragments hide the flags that say what opens a connection; not one of them arrives.
#[test]
fn nothing_of_what_is_blocked_arrives_in_pieces() {
    let node = Node::new();
    let container = Guest::new(&node, Wiring::Veth, "veth1", 1);
    let machine = Guest::new(&node, Wiring::Tap, "tap2", 2);
    let _mail = Sink::mail(node.outside(), &[80], "outside.example");
    let wire = Capture::start(node.outside());
    let main = format!("blocked: [{OUTSIDE_MX}, \"{OUTSIDE_MX6}\"]");
    let _agent = agent(&node, &main, "");
    for v6 in [false, true] {
        let (bad, good): (IpAddr, IpAddr) = if v6 {
            (OUTSIDE_MX6.into(), OUTSIDE_MX6_EXEMPT.into())
        } else {
            (OUTSIDE_MX.into(), OUTSIDE_MX_EXEMPT.into())
        };
        // What lies behind a small first fragment could be written over it, and is not let through
        // to anybody.
        for (first, passes) in [(8, false), (16, false), (if v6 { 128 } else { 24 }, true)] {
            let pieces = Disguise::Fragments {
                first,
                reversed: false,
                overlap: 0,
            };
            for guest in [&container, &machine] {
                let attempt = |to| {
                    let attempt = guest.packets(v6).to(SocketAddr::new(to, 80));
                    let attempt = attempt.disguised(pieces.clone()).message();
                    (attempt.from(), attempt.patience(SILENCE).make())
                };
                let name = guest.interface();
                if passes {
                    let (_, report) = attempt(good);
                    assert_eq!(report.ended, Ended::Served, "{name} {first}: {report:?}");
                }
                let mark = wire.mark();
                let (from, report) = attempt(bad);
                assert_ne!(report.ended, Ended::Served, "{name} {first}: {report:?}");
                let arrived = wire.since(mark).only(|seen| {
                    // The node's own answers, and what finds the way.
                    seen.from.ip() == from.ip() && seen.protocol == TCP && seen.to.port() != 9
                });
                assert!(
                    arrived.frames().is_empty(),
                    "{name} {first}: {:?}",
                    arrived.frames()
                );
            }
        }
    }
}

const TCP: u8 = 6;
