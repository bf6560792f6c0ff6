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

/// Everybody who sends: name, place, own address of packets made by hand.
type Sender<'a> = (&'a str, Place, Option<[IpAddr; 2]>);

fn send_all(senders: &[Sender], program: &Path, taker: &mixture::Taker, node: &Node, when: &str) {
    let capture = Capture::start(node.outside());
    for (name, place, own) in senders {
        for v6 in [false, true] {
            let who = format!("{when}, {name}, {}", if v6 { "IPv6" } else { "IPv4" });
            let to = mx(v6).ip();
            let own = own.map(|own| own[usize::from(v6)]);
            let mark = capture.mark();
            let mut command = place.command(program);
            command.args([to.to_string(), "mixture".to_owned()]);
            command.args(own.map(|own| own.to_string()));
            let _ = run(&mut command, "").success(&who);
            wait::until_true(&who, wait::SOON, || taker.has_all());
            taker.expect_one(&who);
            let Some(own) = own else { continue };
            let traffic = capture.since(mark);
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
    let taker = mixture::Taker::listen(node.outside());
    let program = node.directory().join("limiter-load");
    programs::copy_sender("limiter-load", &program);
    let senders = [
        ("alice", node.user(2001), None),
        ("nobody's", node.user(2004), None),
        ("root", node.root(), Some([NODE4.into(), NODE6.into()])),
        (
            "a container",
            guest.root(),
            Some([guest.kernel(false), guest.kernel(true)]),
        ),
    ];
    // What is expected is right.
    send_all(&senders, &program, &taker, &node, "without");

    let config = Config::new(BLOCKED, TENANTS).attached_also("guests: [\"veth*\"]");
    let config_of_few = Config::new("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n")
        .attached_also("guests: [\"veth*\"]");
    let agent = Agent::start(&node, &config_of_few);
    send_all(&senders, &program, &taker, &node, "usual");
    agent.write_main(&config.main);
    for (file, contents) in &config.tenants {
        agent.write_tenants(file, contents);
    }
    let _ = agent.reload();
    send_all(&senders, &program, &taker, &node, "with every layer");
    for sanction in ["block_smtp", "suspend_network", "null_route"] {
        let mut words = vec!["suspend", "bob", "--sanction", sanction];
        words.extend(["--reason", "phishing"]);
        agent.must(&words);
        send_all(&senders, &program, &taker, &node, sanction);
    }
    for tenant in ["alice", "(default)", "(node)"] {
        for counter in ["denied", "would_deny", "redirected"] {
            assert_eq!(agent.counter(tenant, counter), 0, "{tenant} {counter}");
        }
    }
}
