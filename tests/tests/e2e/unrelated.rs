//! What is no mail: never dropped, never changed, whatever is attached and whoever is suspended.
//! What it pays is measured in `tests/tests/kernel/cost`.

use std::{net::IpAddr, path::Path};

use limiter_tests::{
    Agent, Capture, Config, Guest, NODE4, NODE6, Node, Place, Wiring, mixture, mx, process::run,
    programs, wait,
};

/// Bob is somebody else, to be suspended; alice's messages are counted, so that what she sends is
/// looked at by every layer.
const TENANTS: &str = "
tenant: alice
direct_smtp: allow
match: {users: [alice], interfaces: [\"veth*\"]}
limits: [{unit: messages, max: 100, window: 1h}]
---
tenant: bob
match: {users: [bob], addresses: [192.0.2.77]}
";
/// The same, with an incoming side too.
const BLOCKED: &str = "mode: enforce\nblocked: [198.51.100.0/25, \"2001:db8:bad::/48\"]";

/// Somebody who sends.
struct Sender<'a> {
    name: &'a str,
    place: Place,
    /// Addresses of its own, IPv4 and IPv6, if it may make packets by hand.
    own: Option<[IpAddr; 2]>,
    /// Where to.
    to: [IpAddr; 2],
    taker: &'a mixture::Taker,
    capture: &'a Capture,
}

/// Lets everybody send everything, and looks at it where it arrives.
fn send_all(senders: &[Sender], program: &Path, when: &str) {
    for sender in senders {
        for v6 in [false, true] {
            let family = if v6 { "IPv6" } else { "IPv4" };
            let who = format!("{when}, {}, {family}", sender.name);
            let to = sender.to[usize::from(v6)];
            let own = sender.own.map(|own| own[usize::from(v6)]);
            let mark = sender.capture.mark();
            let mut command = sender.place.command(program);
            command.args([to.to_string(), "mixture".to_owned()]);
            command.args(own.map(|own| own.to_string()));
            let _ = run(&mut command, "").success(&who);
            wait::until_true(&who, wait::SOON, || sender.taker.has_all());
            sender.taker.expect_one(&who);
            let Some(own) = own else { continue };
            let traffic = sender.capture.since(mark);
            let mut came: Vec<Vec<u8>> = traffic
                .frames()
                .iter()
                .filter(|seen| seen.from.ip() == own)
                .map(|seen| mixture::normal(&seen.bytes[14..]))
                .collect();
            for packet in mixture::packets(own, to) {
                let packet = mixture::normal(&packet);
                let at = came.iter().position(|one| *one == packet);
                let at = at.unwrap_or_else(|| panic!("{who}: lost or changed: {packet:02x?}"));
                came.swap_remove(at);
            }
        }
    }
}

#[test]
fn nothing_unrelated_is_dropped_or_changed() {
    let node = Node::new();
    let guest = Guest::new(&node, Wiring::Veth, "veth1", 1);
    let (outside, inside) = (
        mixture::Taker::listen(node.outside()),
        mixture::Taker::listen(node.inside()),
    );
    let (leaves, enters) = (
        Capture::start(node.outside()),
        Capture::start(node.inside()),
    );
    let program = node.directory().join("limiter-load");
    programs::copy_sender("limiter-load", &program);
    let (node_addresses, mx_addresses) = (
        [NODE4.into(), NODE6.into()],
        [mx(false).ip(), mx(true).ip()],
    );
    let outward = |name, place, own| Sender {
        name,
        place,
        own,
        to: mx_addresses,
        taker: &outside,
        capture: &leaves,
    };
    let guests = [guest.kernel(false), guest.kernel(true)];
    let senders = [
        outward("alice", node.user(2001), None),
        outward("nobody's", node.user(2004), None),
        outward("root", node.root(), Some(node_addresses)),
        outward("a container", guest.root(), Some(guests)),
        Sender {
            name: "the world",
            place: node.elsewhere(),
            own: Some(mx_addresses),
            to: node_addresses,
            taker: &inside,
            capture: &enters,
        },
    ];
    // What is expected is right.
    send_all(&senders, &program, "without");

    let config = Config::new(BLOCKED, TENANTS).attached_also("guests: [\"veth*\"]");
    let config_of_few = Config::new("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n")
        .attached_also("guests: [\"veth*\"]");
    let agent = Agent::start(&node, &config_of_few);
    send_all(&senders, &program, "usual");
    agent.write_main(&config.main);
    for (file, contents) in &config.tenants {
        agent.write_tenants(file, contents);
    }
    let _ = agent.reload().success("the reload");
    send_all(&senders, &program, "with every layer");
    let status = agent.status();
    for layer in ["connect", "socket", "guest", "uplink", "mailbox"] {
        let layers = status["layers"].as_array().expect("a list");
        let attached = layers
            .iter()
            .any(|one| one["layer"] == layer && one["attached"] == true);
        assert!(attached, "{layer}: {status:#}");
    }
    for sanction in ["block_smtp", "suspend_network", "null_route"] {
        let mut words = vec!["suspend", "bob", "--sanction", sanction];
        words.extend(["--reason", "phishing"]);
        agent.must(&words);
        // It does hold.
        let mut bobs = node.user(2002).command(&program);
        bobs.args([mx(false).ip().to_string(), "mixture".to_owned()]);
        let stopped = run(&mut bobs, "").code != 0;
        assert_eq!(stopped, sanction != "block_smtp", "{sanction}");
        if !stopped {
            wait::until_true("bob's", wait::SOON, || outside.has_all());
            outside.expect_one("bob");
        }
        send_all(&senders, &program, sanction);
    }
    for tenant in ["alice", "(default)", "(node)"] {
        for counter in ["denied", "would_deny", "redirected"] {
            assert_eq!(agent.counter(tenant, counter), 0, "{tenant} {counter}");
        }
    }
}
