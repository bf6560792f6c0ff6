//! Blocked prefixes: nobody on the node reaches them, and nobody there reaches the node.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use limiter_tests::{
    Agent, Capture, Config, Guest, NODE4, NODE6, OUTSIDE_MX, OUTSIDE_MX_EXEMPT, OUTSIDE_MX6,
    OUTSIDE_MX6_EXEMPT, Place, Reached, Sink, Wiring, machine, packets::Ended, process, wait,
};
use serde_json::Value;

use crate::stage::{Stage, expect};

/// How long nothing has to come to be taken for nothing.
const SILENCE: Duration = Duration::from_millis(700);
const TENANTS: &str = "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
---
tenant: box
direct_smtp: allow
match: {interfaces: [\"veth*\", \"tap*\"]}
";

fn config(blocked: &str) -> Config {
    Config::new(&keys(blocked), TENANTS).attached_also("guests: [\"veth*\", \"tap*\"]")
}

/// The node's own MTA is not above it.
fn keys(blocked: &str) -> String {
    format!(
        "mode: enforce\ndefault: {{direct_smtp: allow, submission: allow}}\nmta: {{users: [bob]}}\nblocked: [{blocked}]"
    )
}

/// A prefix of one of the outside's addresses.
fn blocked(v6: bool) -> (&'static str, IpAddr, IpAddr) {
    if v6 {
        (
            "2001:db8:113::5/128",
            OUTSIDE_MX6.into(),
            OUTSIDE_MX6_EXEMPT.into(),
        )
    } else {
        (
            "203.0.113.4/31",
            OUTSIDE_MX.into(),
            OUTSIDE_MX_EXEMPT.into(),
        )
    }
}

/// What a program sends by UDP, each in its own way; what the kernel says.
fn udp(place: &Place, to: SocketAddr, connected: bool) -> String {
    let family = if to.is_ipv6() { "AF_INET6" } else { "AF_INET" };
    let (address, port) = (to.ip(), to.port());
    let send = if connected {
        format!("s.connect(('{address}', {port})); s.send(b'x')")
    } else {
        format!("s.sendto(b'x', ('{address}', {port}))")
    };
    let script = format!(
        "import socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
try:
    {send}
    print('sent')
except OSError as error:
    print(error.errno)
"
    );
    let mut command = place.command("python3");
    let out = process::run(command.args(["-c", &script]), "").success("a datagram");
    out.stdout.trim().to_owned()
}

/// A connection to the node from one of the outside's addresses: whether it was answered.
fn comes_in(stage: &Stage, from: IpAddr) -> bool {
    let to = if from.is_ipv6() {
        SocketAddr::new(NODE6.into(), 80)
    } else {
        SocketAddr::new(NODE4.into(), 80)
    };
    let attempt = stage.node.sender_at(stage.node.elsewhere()).attempt(to);
    let report = attempt
        .from(from)
        .start()
        .go()
        .finish_within(machine::patience(SILENCE));
    report.is_some_and(|report| report.connected == 1)
}

fn told(agent: &Agent, layer: &str) -> Vec<Value> {
    wait::until(layer, wait::SOON, || {
        let mut events = agent.events(&[]);
        events.retain(|event| event["reason"] == "blocked_address" && event["layer"] == layer);
        (!events.is_empty()).then_some(events)
    })
}

#[test]
fn what_is_blocked_is_out_of_reach_both_ways() {
    let stage = Stage::new();
    let container = Guest::new(&stage.node, Wiring::Veth, "veth1", 1);
    let machine = Guest::new(&stage.node, Wiring::Tap, "tap2", 2);
    let agent = Agent::start(
        &stage.node,
        &config(&format!(
            "\"{}\", \"{}\"",
            blocked(false).0,
            blocked(true).0
        )),
    );
    let ports: &[u16] = if machine::is_emulated() {
        &[25]
    } else {
        &[25, 80, 587, 2525]
    };
    for v6 in [false, true] {
        let (_, bad, good) = blocked(v6);
        for &port in ports {
            for (uid, tenant) in [(2001, "alice"), (2004, "(default)")] {
                let attempt = |to| stage.node.sender(uid).attempt(SocketAddr::new(to, port));
                expect(&agent, attempt(bad), tenant, Reached::Refused);
                if port != 587 || uid == 2004 {
                    expect(&agent, attempt(good), tenant, Reached::Outside);
                }
            }
            // The MTA, too.
            let mta = |to| stage.node.sender(2002).attempt(SocketAddr::new(to, port));
            assert_eq!(mta(bad).make(&agent), Reached::Refused);
            assert_eq!(mta(good).make(&agent), Reached::Outside);
            // A container's program hears of it from its own kernel.
            let by_guest = |to| {
                let attempt = container.sender().attempt(SocketAddr::new(to, port));
                let report = attempt
                    .start()
                    .go()
                    .finish_within(machine::patience(SILENCE));
                report.expect("an answer")
            };
            let report = by_guest(bad);
            assert_eq!(report.errno(), Some(libc::EPERM), "{port} {report:?}");
            assert_eq!(by_guest(good).connected, 1, "{port}");
            // Packets of one's own making are answered with a reset.
            let forged = container.packets(v6).to(SocketAddr::new(bad, port)).make();
            assert_eq!(forged.ended, Ended::Refused, "{port} {forged:?}");
            let report = machine.packets(v6).to(SocketAddr::new(bad, port)).make();
            assert_eq!(report.ended, Ended::Refused, "{port} {report:?}");
        }
        assert!(!comes_in(&stage, bad), "{bad} comes in");
        assert!(comes_in(&stage, good), "{good} does not come in");
    }
    let events = told(&agent, "connect");
    assert!(events.iter().all(|event| event["verdict"] == "denied"));
    assert!(!told(&agent, "guest").is_empty());
    let incoming = told(&agent, "uplink");
    assert!(
        incoming.iter().any(|event| {
            event["source"]["address"] == OUTSIDE_MX.to_string() && event["tenant"] == "(node)"
        }),
        "{incoming:#?}"
    );
}

#[test]
fn datagrams_do_not_go_there_either() {
    let stage = Stage::new();
    let container = Guest::new(&stage.node, Wiring::Veth, "veth1", 1);
    let agent = Agent::start(
        &stage.node,
        &config(&format!(
            "\"{}\", \"{}\"",
            blocked(false).0,
            blocked(true).0
        )),
    );
    let capture = Capture::start(stage.node.outside());
    for v6 in [false, true] {
        let (_, bad, good) = blocked(v6);
        for place in [
            stage.node.user(2001),
            stage.node.user(2002),
            container.root(),
        ] {
            for connected in [false, true] {
                let said = udp(&place, SocketAddr::new(bad, 53), connected);
                if connected && place.uid() != 0 {
                    assert_eq!(said, libc::EPERM.to_string(), "{bad}");
                }
                assert_eq!(udp(&place, SocketAddr::new(good, 5353), connected), "sent");
            }
        }
    }
    assert_eq!(capture.reached(53), 0, "datagrams to what is blocked");
    wait::until_true("the others", wait::SOON, || capture.reached(5353) == 12);
    assert!(!told(&agent, "uplink").is_empty());
}

#[test]
fn a_hundred_thousand_prefixes_come_from_a_file_and_go_by_a_reload() {
    let stage = Stage::new();
    let agent = Agent::configured(&stage.node, &config("bad.txt"));
    let file = agent.home().join("bad.txt");
    // None of them touches another: they are not merged.
    let mut list = String::from("# what others say is bad\n");
    for number in 0..100_000_u32 {
        let (a, b) = (number >> 8, number & 0xff);
        writeln!(list, "2001:db8:f{:03x}:{:x}00::/56", a, b).expect("a string takes anything");
    }
    let write = |with: &str| fs::write(&file, format!("{list}{with}\n")).expect("ours");
    write("");
    agent.run();
    let (_, bad, good) = blocked(false);
    let attempt = |to| stage.node.sender(2001).attempt(SocketAddr::new(to, 25));
    expect(&agent, attempt(bad), "alice", Reached::Outside);
    // What is established when the prefix comes goes on: a block is for beginnings.
    let _mail = Sink::mail(stage.node.outside(), &[2526], "outside.example");
    let talk = stage.node.sender(2001).attempt(SocketAddr::new(bad, 2526));
    let open = talk.say("mail.example").hold().start().go_and_hold();
    for _ in 0..2 {
        write("203.0.113.5");
        agent.must(&["reload"]);
        expect(&agent, attempt(bad), "alice", Reached::Refused);
        expect(&agent, attempt(good), "alice", Reached::Outside);
        assert!(!comes_in(&stage, bad));
        write("");
        agent.must(&["reload"]);
        expect(&agent, attempt(bad), "alice", Reached::Outside);
        assert!(comes_in(&stage, bad));
    }
    write("203.0.113.5");
    agent.must(&["reload"]);
    let report = open.go().finish_within(Duration::from_secs(3));
    let report = report.expect("it goes on");
    assert_eq!(report.connected, 1, "{report:?}");
    // Without an agent it holds as well.
    agent.kill_9();
    expect(&agent, attempt(bad), "alice", Reached::Refused);
    agent.run();
    // A file that is broken changes nothing.
    write("203.0.113.5\nnonsense/99");
    assert_eq!(agent.reload().code, 2);
    expect(&agent, attempt(bad), "alice", Reached::Refused);
    expect(&agent, attempt(good), "alice", Reached::Outside);
}

#[test]
fn observed_it_only_tells() {
    let stage = Stage::new();
    let mut config = config("203.0.113.5, \"2001:db8:113::5\"");
    config.main = config.main.replace("enforce", "observe");
    let agent = Agent::start(&stage.node, &config);
    for v6 in [false, true] {
        let (_, bad, _) = blocked(v6);
        let attempt = stage.node.sender(2001).attempt(SocketAddr::new(bad, 80));
        assert_eq!(attempt.make_unexplained(), Reached::Outside);
        assert!(comes_in(&stage, bad));
    }
    for layer in ["connect", "uplink"] {
        for event in told(&agent, layer) {
            assert_eq!(event["verdict"], "would_deny", "{event:#}");
        }
    }
}
