//! Trees: a limit above a tenant counts the sum below it, and a full branch leaves its neighbours
//! alone.

use limiter_tests::{Reached, mx};

use crate::stage::{Stage, at_once, expect, repeat};

#[test]
fn children_are_bounded_by_reseller_and_node() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\nlimits: [{unit: connections, max: 12, window: 1h}]",
        "
tenant: reseller
limits: [{unit: connections, max: 8, window: 1h}]
---
tenant: alice
parent: reseller
direct_smtp: allow
limits: [{unit: connections, max: 5, window: 1h}]
match: {users: [alice]}
---
tenant: bob
parent: reseller
direct_smtp: allow
limits: [{unit: connections, max: 100, window: 1h}]
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
---
tenant: dave
direct_smtp: redirect
match: {users: [dave]}
",
    );
    let limit_owner = |tenant: &str| {
        let events = agent.all_events(tenant);
        let last = events.last().expect("it was refused");
        last["limit"]["owner"]
            .as_str()
            .expect("by a limit")
            .to_owned()
    };
    // Her own limit.
    repeat(&agent, &stage.by_uid(2001), 5, Reached::Outside);
    repeat(&agent, &stage.by_uid(2001), 2, Reached::Refused);
    assert_eq!(limit_owner("alice"), "alice");
    // The reseller's: 5 and 3. What was refused counts for nobody.
    repeat(&agent, &stage.by_uid(2002), 3, Reached::Outside);
    repeat(&agent, &stage.by_uid(2002), 2, Reached::Refused);
    assert_eq!(limit_owner("bob"), "reseller");
    assert_eq!(agent.used("reseller", 0), 8);
    assert_eq!(agent.used("bob", 0), 3);
    // The neighbour is not affected, until the node is full.
    repeat(&agent, &stage.by_uid(2003), 4, Reached::Outside);
    repeat(&agent, &stage.by_uid(2003), 1, Reached::Refused);
    assert_eq!(limit_owner("carol"), "(node)");
    assert_eq!(agent.used("(node)", 0), 12);
    assert_eq!(agent.used("reseller", 0), 8);
    // Redirected mail is the MTA's, and the MTA is not in the node's limits.
    expect(&agent, stage.by_uid(2004), "dave", Reached::Local);
    let out =
        limiter_tests::process::run(stage.node.root().command("id").args(["-u", "postfix"]), "");
    let postfix = out.stdout.trim().parse().expect("Postfix is installed");
    repeat(&agent, &stage.by_uid(postfix), 3, Reached::Outside);
    assert_eq!(agent.used("(node)", 0), 12);
    assert_eq!(stage.outside.settled(), 15);
}

#[test]
fn a_tree_holds_exactly_under_parallel_senders() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\nlimits: [{unit: connections, max: 500, window: 1h}]",
        "
tenant: top
limits: [{unit: connections, max: 300, window: 1h}]
---
tenant: middle
parent: top
limits: [{unit: connections, max: 200, window: 1h}]
---
tenant: low
parent: middle
---
tenant: alice
parent: low
direct_smtp: allow
match: {users: [alice]}
---
tenant: bob
parent: low
direct_smtp: allow
match: {users: [bob]}
---
tenant: carol
parent: top
direct_smtp: allow
match: {users: [carol]}
---
tenant: dave
direct_smtp: allow
match: {users: [dave]}
",
    );
    // Alice and bob share 200, carol shares 300 with them, dave 500 with all.
    let total: u64 = std::thread::scope(|scope| {
        let stage = &stage;
        let senders =
            [2001, 2002, 2003, 2004].map(|uid| scope.spawn(move || at_once(stage, uid, 2, 300).0));
        senders
            .into_iter()
            .map(|sender| sender.join().expect("it connects or not"))
            .sum()
    });
    let allowed = |tenant| agent.counter(tenant, "allowed");
    let (alice, bob, carol, dave) = (
        allowed("alice"),
        allowed("bob"),
        allowed("carol"),
        allowed("dave"),
    );
    assert_eq!(alice + bob + carol + dave, total);
    assert_eq!(total, 500);
    assert_eq!(agent.used("(node)", 0), 500);
    assert_eq!(agent.used("top", 0), alice + bob + carol);
    assert_eq!(agent.used("middle", 0), alice + bob);
    assert!(alice + bob <= 200, "{alice} and {bob}");
    assert!(alice + bob + carol <= 300, "{alice}, {bob} and {carol}");
    assert_eq!(stage.outside.settled(), 500);
}

#[test]
fn only_limits_and_nothing_else_come_from_above() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: reseller
direct_smtp: allow
mode: observe
exempt: [{to: 0.0.0.0/0}]
match: {users: [bob]}
---
tenant: alice
parent: reseller
match: {users: [alice]}
",
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "reseller", Reached::Outside);
    let attempt = stage.node.sender(2001).attempt(mx(true));
    expect(&agent, attempt, "alice", Reached::Refused);
    assert_eq!(stage.outside.settled(), 1);
}

#[test]
fn an_exhausted_neighbour_is_no_neighbours_problem() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 10, window: 1h}]
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
limits: [{unit: connections, max: 10, window: 1h}]
match: {users: [bob]}
",
    );
    assert_eq!(at_once(&stage, 2001, 4, 250), (10, 990));
    assert_eq!(agent.used("bob", 0), 0);
    assert_eq!(at_once(&stage, 2002, 1, 10), (10, 0));
    assert_eq!(agent.counter("bob", "denied"), 0);
    assert_eq!(stage.outside.settled(), 20);
}
