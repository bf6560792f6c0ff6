//! Where to: which ports and addresses are limiter's business, and which are not.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use limiter_tests::{
    NATTED, NODE4, NODE6, OUTSIDE_LINK_LOCAL, OUTSIDE_MX, OUTSIDE_MX_EXEMPT, OUTSIDE_MX6,
    OUTSIDE_MX6_EXEMPT, Reached, mx, process::run,
};

use crate::stage::{Stage, expect};

#[test]
fn submission_to_others_can_be_blocked() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
submission: block
direct_smtp: allow
match: {users: [alice]}
---
tenant: bob
direct_smtp: redirect
match: {users: [bob]}
",
    );
    for v6 in [false, true] {
        for port in [465, 587] {
            let to = SocketAddr::new(mx(v6).ip(), port);
            let alice = stage.node.sender(2001).attempt(to);
            expect(&agent, alice, "alice", Reached::Refused);
            let bob = stage.node.sender(2002).attempt(to);
            expect(&agent, bob, "bob", Reached::Outside);
        }
    }
    assert_eq!(stage.by_uid(2001).make(&agent), Reached::Outside);
    assert_eq!(stage.outside.settled(), 5);
    assert_eq!(stage.outside.count_at(465), 2);
    let events = agent.all_events("alice");
    assert!(
        events.iter().all(|event| event["reason"] == "submission"),
        "{events:#?}"
    );
}

#[test]
fn other_ports_and_other_protocols_are_nobodys_business() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\nlimits: [{unit: connections, max: 0, window: 1h}]",
        "
tenant: alice
submission: block
match: {users: [alice]}
",
    );
    for port in [80, 143, 993, 2525] {
        for v6 in [false, true] {
            let to = SocketAddr::new(mx(v6).ip(), port);
            let attempt = stage.node.sender(2001).attempt(to);
            assert_eq!(attempt.make(&agent), Reached::Outside, "{to}");
        }
    }
    let mut udp = stage.node.user(2001).command("/usr/bin/python3");
    udp.args([
        "-c",
        "import socket, sys\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.connect((sys.argv[1], 25))\ns.send(b'x')",
        &OUTSIDE_MX.to_string(),
    ]);
    let _ = run(&mut udp, "").success("a datagram to port 25");
    assert_eq!(stage.outside.settled(), 8);
    for counter in ["allowed", "denied", "redirected", "would_deny"] {
        assert_eq!(agent.counter("alice", counter), 0, "{counter}");
    }
}

#[test]
fn the_groups_of_ports_can_be_changed() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\nports: {smtp: [25, 2525], submission: [80]}",
        "
tenant: alice
submission: block
match: {users: [alice]}
",
    );
    for (port, reached) in [
        (25, Reached::Refused),
        (2525, Reached::Refused),
        (80, Reached::Refused),
        (587, Reached::Outside),
    ] {
        let to = SocketAddr::new(mx(false).ip(), port);
        let attempt = stage.node.sender(2001).attempt(to);
        assert_eq!(attempt.make(&agent), reached, "{to}");
    }
    assert_eq!(stage.outside.settled(), 1);
}

#[test]
fn exempt_destinations() {
    let stage = Stage::new();
    let agent = stage.agent(
        &format!(
            "
mode: enforce
exempt:
  - {{to: {OUTSIDE_MX_EXEMPT}, ports: [25]}}
  - {{to: '{OUTSIDE_MX6_EXEMPT}/128', ports: [25, 587]}}
"
        ),
        "
tenant: alice
submission: block
limits: [{unit: connections, max: 0, window: 1h}]
match: {users: [alice]}
exempt: [{to: 203.0.113.4/31, ports: [587]}, {to: '2001:db8:113::4/126'}]
---
tenant: bob
direct_smtp: redirect
submission: block
match: {users: [bob]}
",
    );
    let open4: IpAddr = OUTSIDE_MX_EXEMPT.into();
    let open6: IpAddr = OUTSIDE_MX6_EXEMPT.into();
    let mx4: IpAddr = OUTSIDE_MX.into();
    let mx6: IpAddr = OUTSIDE_MX6.into();
    for (uid, to, port, reached) in [
        // Everybody's.
        (2001, open4, 25, Reached::Outside),
        (2002, open4, 25, Reached::Outside),
        (2001, open4, 587, Reached::Refused),
        (2002, open6, 25, Reached::Outside),
        (2001, open6, 587, Reached::Outside),
        (2001, open6, 465, Reached::Refused),
        // Alice's own.
        (2001, mx4, 587, Reached::Outside),
        (2001, mx4, 25, Reached::Refused),
        (2001, mx6, 25, Reached::Outside),
        (2001, mx6, 465, Reached::Outside),
        // Which are not bob's.
        (2002, mx4, 587, Reached::Refused),
        (2002, mx6, 25, Reached::Local),
        (2002, mx6, 465, Reached::Refused),
    ] {
        let to = SocketAddr::new(to, port);
        let attempt = stage.node.sender(uid).attempt(to);
        assert_eq!(attempt.make(&agent), reached, "{uid} to {to}");
    }
    let mapped = stage.node.sender(2001);
    let mapped = mapped.attempt(SocketAddr::new(open4, 25)).mapped();
    assert_eq!(mapped.make(&agent), Reached::Outside);
    assert_eq!(stage.outside.settled(), 8);
    assert_eq!(agent.used("alice", 0), 0, "what is exempt is not counted");
}

#[test]
fn loopback_and_the_nodes_own_addresses_are_not_direct_smtp() {
    let stage = Stage::new();
    let agent = stage.agent(
        &format!("mode: enforce\nmta: {{addresses: [{NATTED}]}}"),
        "
tenant: alice
submission: block
match: {users: [alice]}
---
tenant: bob
direct_smtp: redirect
match: {users: [bob]}
",
    );
    // What is nowhere in particular is here.
    let own = ["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::"]
        .map(|address| address.parse().expect("it is one"));
    let own = own.into_iter().chain([NODE4.into(), NODE6.into()]);
    let mut local = 0;
    for address in own {
        for (uid, port) in [(2001, 25), (2001, 587), (2002, 25)] {
            let attempt = stage
                .node
                .sender(uid)
                .attempt(SocketAddr::new(address, port));
            assert_eq!(attempt.make(&agent), Reached::Local, "{address}");
            local += 1;
        }
    }
    for address in ["127.0.0.1", &NODE4.to_string()] {
        let to = SocketAddr::new(address.parse().expect("it is one"), 25);
        let attempt = stage.node.sender(2001).attempt(to).mapped();
        assert_eq!(attempt.make(&agent), Reached::Local, "{address}");
        local += 1;
    }
    assert_eq!(stage.local.settled(), local);
    // An address that belongs to the node and sits on no interface.
    let natted = stage
        .node
        .sender(2001)
        .attempt(SocketAddr::new(NATTED.into(), 25));
    assert_eq!(natted.make(&agent), Reached::Outside);
    let other = stage
        .node
        .sender(2001)
        .attempt("198.51.100.8:25".parse().expect("it is one"));
    assert_eq!(other.make(&agent), Reached::Refused);
    assert_eq!(stage.outside.settled(), 1);
    for counter in ["allowed", "denied", "redirected"] {
        let wanted = u64::from(counter == "denied");
        assert_eq!(agent.counter("alice", counter), wanted, "{counter}");
    }
}

#[test]
fn a_neighbour_on_the_link_is_another_host() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
match: {users: [alice]}
---
tenant: bob
direct_smtp: redirect
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
",
    );
    let inside = stage.node.inside();
    let scope = inside.enter(|| nix::net::if_::if_nametoindex("eth0").expect("it is there"));
    let to = SocketAddr::V6(SocketAddrV6::new(OUTSIDE_LINK_LOCAL, 25, 0, scope));
    for (uid, reached) in [
        (2001, Reached::Refused),
        (2002, Reached::Local),
        (2003, Reached::Outside),
    ] {
        let attempt = stage.node.sender(uid).attempt(to);
        assert_eq!(attempt.make(&agent), reached, "{uid}");
    }
    assert_eq!(stage.outside.settled(), 1);
}
