//! Every verdict, in both families, by every way to connect.

use std::net::IpAddr;

use limiter_tests::{Container, NODE4, NODE6, Reached, machine, mx, orders::How};

use crate::stage::{Stage, expect, repeat};

#[test]
fn every_verdict_by_every_way_to_connect() {
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
---
tenant: dave
mode: observe
match: {users: [dave]}
",
    );
    for how in machine::ways_to_connect() {
        for (uid, tenant, reached) in [
            (2001, "alice", Reached::Refused),
            (2002, "bob", Reached::Local),
            (2003, "carol", Reached::Outside),
            (2004, "dave", Reached::Outside),
        ] {
            let sender = stage.node.sender(uid);
            for attempt in [
                sender.attempt(mx(false)),
                sender.attempt(mx(true)),
                sender.attempt(mx(false)).mapped(),
            ] {
                expect(&agent, attempt.how(how), tenant, reached);
            }
        }
    }
    // Three kinds of address.
    let each = machine::ways_to_connect().len() * 3;
    let _ = stage.outside.settled();
    assert_eq!(stage.outside.count_at(25), each * 2);
    assert_eq!(stage.local.settled(), each);
    for (tenant, counter) in [
        ("alice", "denied"),
        ("bob", "redirected"),
        ("carol", "allowed"),
        ("dave", "would_deny"),
    ] {
        let counted = agent.counter(tenant, counter);
        assert_eq!(
            counted,
            u64::try_from(each).expect("a few"),
            "{tenant} {counter}"
        );
    }
    assert_eq!(agent.counter("alice", "allowed"), 0);
    assert_eq!(agent.counter("carol", "denied"), 0);
}

#[test]
fn bound_sockets_are_judged_like_others_and_never_redirected() {
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
    for v6 in [false, true] {
        let own: IpAddr = if v6 { NODE6.into() } else { NODE4.into() };
        for uid in [2001, 2003] {
            let sender = stage.node.sender(uid);
            let wanted = if uid == 2001 {
                Reached::Refused
            } else {
                Reached::Outside
            };
            let bound = sender.attempt(mx(v6)).device("eth0");
            assert_eq!(bound.make(&agent), wanted);
            let bound = sender.attempt(mx(v6)).from(own);
            assert_eq!(bound.make(&agent), wanted);
        }
        // Redirected they would never arrive. `explain` knows nothing of a socket to come.
        let bob = stage.node.sender(2002);
        let bound = bob.attempt(mx(v6)).device("eth0");
        assert_eq!(bound.make_unexplained(), Reached::Refused);
        let bound = bob.attempt(mx(v6)).from(own);
        assert_eq!(bound.make_unexplained(), Reached::Refused);
    }
    let mapped = stage.by_uid(2002).mapped().from(NODE4.into());
    assert_eq!(mapped.make_unexplained(), Reached::Refused);
    assert_eq!(stage.outside.settled(), 4);
    assert_eq!(stage.local.settled(), 0);
}

#[test]
fn redirect_needs_a_listener_of_the_same_family() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\nmta: {listen: ['127.0.0.1:2525']}",
        "
tenant: bob
direct_smtp: redirect
match: {users: [bob]}
",
    );
    let bob = stage.node.sender(2002);
    expect(&agent, bob.attempt(mx(false)), "bob", Reached::Local);
    let mapped = bob.attempt(mx(false)).mapped();
    expect(&agent, mapped, "bob", Reached::Local);
    assert_eq!(stage.local.count_at(2525), 2, "where the MTA listens");
    expect(&agent, bob.attempt(mx(true)), "bob", Reached::Refused);
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn redirect_in_a_container_is_a_refusal() {
    let stage = Stage::new();
    let shop = Container::rootful(&stage.node, "shop");
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: shop
direct_smtp: redirect
match: {{cgroups: ['{}']}}
",
            shop.cgroup().path()
        ),
    );
    for v6 in [false, true] {
        let attempt = shop.sender(0).attempt(mx(v6));
        expect(&agent, attempt, "shop", Reached::Refused);
    }
    // The same tenant outside the container is redirected.
    let attempt = stage.in_cgroup(shop.cgroup(), 2001);
    expect(&agent, attempt, "shop", Reached::Local);
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn data_in_the_first_packet_is_no_way_round_and_counts_once() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
match: {users: [alice]}
---
tenant: carol
direct_smtp: allow
limits: [{unit: connections, max: 8, window: 1h}]
match: {users: [carol]}
",
    );
    for how in [How::FastOpenSend, How::FastOpenConnect] {
        // The first brings the cookie, the others use it.
        for _ in 0..4 {
            let carol = stage.by_uid(2003).how(how);
            assert_eq!(carol.make(&agent), Reached::Outside);
            let alice = stage.by_uid(2001).how(how);
            assert_eq!(alice.make(&agent), Reached::Refused);
        }
    }
    let with_data = stage.node.outside().enter(|| {
        let counters = std::fs::read_to_string("/proc/thread-self/net/netstat");
        netstat(&counters.expect("proc is mounted"), "TCPFastOpenPassive")
    });
    assert!(
        with_data >= 4,
        "the way that is tested was not taken: {with_data}"
    );
    assert_eq!(agent.used("carol", 0), 8);
    for how in machine::ways_to_connect() {
        let attempt = stage.by_uid(2003).how(how);
        assert_eq!(attempt.make(&agent), Reached::Refused, "{how:?}");
    }
    let _ = stage.outside.settled();
    assert_eq!(stage.outside.count_at(25), 8);
}

/// A counter of /proc/net/netstat: a line of names, and under it a line of values.
fn netstat(text: &str, name: &str) -> u64 {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    lines
        .chunks(2)
        .find_map(|pair| {
            let place = pair.first()?.iter().position(|word| *word == name)?;
            pair.get(1)?.get(place)?.parse().ok()
        })
        .expect("the kernel counts it")
}

#[test]
fn whoever_nobody_claims_is_blocked_unless_said_otherwise() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "");
    for uid in [0, 2001, 4_000_000_000] {
        for v6 in [false, true] {
            let attempt = stage.node.sender(uid).attempt(mx(v6));
            expect(&agent, attempt, "(default)", Reached::Refused);
        }
    }
    assert_eq!(stage.outside.settled(), 0);
    agent.write_main(
        "mode: enforce\ndefault: {direct_smtp: allow, limits: [{unit: connections, max: 2, window: 1h}]}",
    );
    agent.must(&["reload"]);
    repeat(&agent, &stage.by_uid(0), 2, Reached::Outside);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    agent.write_main("mode: enforce\ndefault: {direct_smtp: redirect}");
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "(default)", Reached::Local);
    assert_eq!(stage.outside.settled(), 2);
}
