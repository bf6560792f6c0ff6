//! Interfaces that come, go, and change while the agent runs: whatever matches is judged within a
//! second, and what cannot be is said by name.

use std::time::{Duration, Instant};

use limiter_tests::{
    Agent, Capture, Config, Guest, Namespace, Node, Place, Sink, Wiring, guest::add_bridge,
    packets::Ended, process, wait,
};
use serde_json::Value;

use crate::foreign::{self, EGRESS, INGRESS};

/// How quickly what appears has to be judged.
const AT_MOST: Duration = Duration::from_secs(1);

/// Everybody is refused, and there are guests.
fn agent<'n>(node: &'n Node, without: &[&str]) -> Agent<'n> {
    let config = Config::new("mode: enforce", "")
        .attached_also("guests: [\"veth*\", \"tap*\"]")
        .without(without);
    Agent::start(node, &config)
}

fn ip(place: &Place, line: &str) {
    let mut command = place.command("ip");
    let _ = process::run(command.args(line.split_whitespace()), "").success(line);
}

/// The layers at an interface, by what the agent says.
fn layers_at(agent: &Agent, name: &str) -> Vec<Value> {
    let status = agent.status();
    let layers = status["layers"].as_array().expect("a list").clone();
    let at = |layer: &Value| {
        let target = layer["target"].as_str().unwrap_or_default();
        target == name && layer["attached"] == true
    };
    layers.into_iter().filter(at).collect()
}

/// Asks the kernel itself whether anything is attached to a side of an interface.
fn tcx_at(node: &Node, name: &str, hook: u32) -> bool {
    node.inside().enter(|| {
        let index = nix::net::if_::if_nametoindex(name);
        index.is_ok_and(|index| !foreign::tcx_links(index, hook).is_empty())
    })
}

/// Each attempt takes another source port, until one is refused by a reset.
fn until_refused(guest: &Guest, v6: bool) {
    wait::until_true("the guest's mail to be refused", wait::SOON, || {
        let attempt = guest.packets(v6).patience(Duration::from_millis(300));
        attempt.make().ended == Ended::Refused
    });
}

#[test]
fn fifty_interfaces_are_judged_within_a_second_each() {
    let node = Node::new();
    let _outside = Sink::listen(node.outside(), &[25], "outside.example");
    let agent = agent(&node, &[]);
    let far = Namespace::network();
    let mut taken: Vec<Duration> = Vec::new();
    for number in 0..50_u32 {
        let (name, line) = if number % 2 == 0 {
            let name = format!("vethp{number}");
            let line = format!(
                "link add {name} type veth peer name far{number} netns {}",
                far.net_path().display()
            );
            (name, line)
        } else {
            let name = format!("tapp{number}");
            (name.clone(), format!("tuntap add dev {name} mode tap"))
        };
        let start = Instant::now();
        ip(&node.root(), &line);
        wait::until_true(&name, wait::SOON, || tcx_at(&node, &name, INGRESS));
        taken.push(start.elapsed());
    }
    taken.sort();
    // Of fifty the 99th percentile is the slowest.
    let slowest = taken[49];
    assert!(slowest < AT_MOST, "{taken:?}");
    assert_eq!(layers_at(&agent, "vethp48").len(), 1);
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status:#}");
    // Two of them, as guests see it.
    for (wiring, name, index) in [(Wiring::Veth, "vethq1", 1), (Wiring::Tap, "tapq2", 2)] {
        let start = Instant::now();
        let guest = Guest::new(&node, wiring, name, index);
        until_refused(&guest, false);
        assert!(start.elapsed() < AT_MOST * 3, "{:?}", start.elapsed());
        until_refused(&guest, true);
    }
    // All at once they go.
    for number in 0..50_u32 {
        let name = if number % 2 == 0 {
            format!("vethp{number}")
        } else {
            format!("tapp{number}")
        };
        ip(&node.root(), &format!("link delete {name}"));
    }
    wait::until_true("the agent to forget them", wait::SOON, || {
        layers_at(&agent, "vethp48").is_empty() && agent.status()["healthy"] == true
    });
    let pins = agent.pins();
    let left = pins
        .iter()
        .filter(|pin| pin.to_string_lossy().contains("/links/guest-"))
        .count();
    // The container went with its end of the pair; the machine's tap is there.
    assert_eq!(left, 1, "{pins:?}");
}

#[test]
fn renamed_moved_away_and_back() {
    let node = Node::new();
    let _outside = Sink::listen(node.outside(), &[25], "outside.example");
    let agent = agent(&node, &[]);
    let (root, other) = (node.root(), Namespace::network());
    let there = Place::new(&other, node.cgroup());
    let is_at = |name: &str, yes: bool| {
        wait::until_true(name, AT_MOST, || tcx_at(&node, name, INGRESS) == yes);
    };
    ip(&root, "link add other0 type veth peer name other1");
    is_at("other0", false);
    ip(&root, "link set other0 name vethr0");
    is_at("vethr0", true);
    ip(&root, "link set vethr0 name plain0");
    is_at("plain0", false);
    ip(&root, "link set plain0 name vethr0");
    is_at("vethr0", true);
    ip(
        &root,
        &format!("link set vethr0 netns {}", other.net_path().display()),
    );
    wait::until_true("it is forgotten", wait::SOON, || {
        layers_at(&agent, "vethr0").is_empty() && agent.status()["healthy"] == true
    });
    let node_net = node.inside().net_path();
    ip(
        &there,
        &format!("link set vethr0 netns {}", node_net.display()),
    );
    is_at("vethr0", true);
    ip(&root, "link delete vethr0");
    wait::until_true("it is forgotten", wait::SOON, || {
        layers_at(&agent, "vethr0").is_empty() && agent.status()["healthy"] == true
    });
}

#[test]
fn ports_of_a_bridge_and_a_new_way_out() {
    let node = Node::new();
    let _outside = Sink::listen(node.outside(), &[25], "outside.example");
    let agent = agent(&node, &[]);
    add_bridge(&node);
    let guest = Guest::new(&node, Wiring::Bridge, "vethb1", 1);
    let machine = Guest::new(&node, Wiring::BridgeTap, "tapb2", 2);
    until_refused(&guest, false);
    until_refused(&machine, true);
    assert!(!tcx_at(&node, "br1", INGRESS));
    // The world is reached by another interface from now on.
    let capture = Capture::start(node.outside());
    let out = node.outside().net_path();
    let root = node.root();
    ip(
        &root,
        &format!(
            "link add eth1 type veth peer name out1 netns {}",
            out.display()
        ),
    );
    ip(&root, "link set eth1 up");
    ip(&node.elsewhere(), "link set out1 up");
    ip(&root, "address add 198.51.100.2/24 dev eth1");
    ip(&node.elsewhere(), "address add 198.51.100.1/24 dev out1");
    assert!(layers_at(&agent, "eth1").is_empty());
    let start = Instant::now();
    ip(&root, "route replace default via 198.51.100.1 dev eth1");
    wait::until_true("the new way out", AT_MOST, || tcx_at(&node, "eth1", EGRESS));
    assert!(start.elapsed() < AT_MOST, "{:?}", start.elapsed());
    assert_eq!(layers_at(&agent, "eth1").len(), 1, "{:#}", agent.status());
    assert_eq!(capture.reached(25), 0);
}

#[test]
fn what_matches_and_cannot_be_attached_is_named() {
    let node = Node::new();
    let agent = agent(&node, &["guest"]);
    assert_eq!(agent.status()["healthy"], true);
    ip(&node.root(), "link add vethz9 type veth peer name far9");
    wait::until_true("the status to say so", wait::SOON, || {
        let status = agent.status();
        status["healthy"] == false
            && status["problems"].as_array().is_some_and(|problems| {
                problems.iter().any(|problem| {
                    problem["severity"] == "error" && problem.to_string().contains("vethz9")
                })
            })
    });
    let out = agent.cli(&["status"]);
    assert_eq!(out.code, 1, "{}", out.stdout);
    assert!(out.stdout.contains("vethz9"), "{}", out.stdout);
    ip(&node.root(), "link delete vethz9");
    wait::until_true("the status to be well", wait::SOON, || {
        agent.status()["healthy"] == true
    });
}
