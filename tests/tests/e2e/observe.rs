//! Observe mode: everything is counted and reported, nothing is refused.

use std::{
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Reached, mx, wait};

use crate::stage::{Stage, at_once, expect, repeat};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
---
tenant: bob
direct_smtp: redirect
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
limits: [{unit: connections, max: 2, window: 1h}]
match: {users: [carol]}
";

#[test]
fn the_default_is_to_observe() {
    let stage = Stage::new();
    let agent = stage.agent("", TENANTS);
    for v6 in [false, true] {
        let attempt = |uid| stage.node.sender(uid).attempt(mx(v6));
        expect(&agent, attempt(2001), "alice", Reached::Outside);
        expect(&agent, attempt(2002), "bob", Reached::Outside);
        expect(&agent, attempt(54_321), "(default)", Reached::Outside);
    }
    repeat(&agent, &stage.by_uid(2003), 4, Reached::Outside);
    assert_eq!(stage.outside.settled(), 10);
    assert_eq!(stage.local.settled(), 0);
    for (tenant, would_deny, allowed) in [
        ("alice", 2, 0),
        ("bob", 2, 0),
        ("(default)", 2, 0),
        ("carol", 2, 2),
    ] {
        let status = agent.tenant(tenant);
        assert_eq!(status["would_deny"], would_deny, "{status:#}");
        assert_eq!(status["allowed"], allowed, "{status:#}");
        assert_eq!(status["denied"], 0, "{status:#}");
        assert_eq!(status["redirected"], 0, "{status:#}");
        assert_eq!(status["mode"], "observe", "{status:#}");
        let events = agent.all_events(tenant);
        assert!(!events.is_empty());
        assert!(
            events.iter().all(|event| event["verdict"] == "would_deny"),
            "{events:#?}"
        );
    }
    let said = agent.explain(&["--uid", "2001", "--to", &mx(false).to_string()]);
    assert_eq!(said["verdict"], "would_deny", "{said:#}");
}

#[test]
fn a_tenants_mode_is_its_own() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: observe",
        "
tenant: alice
mode: enforce
match: {users: [alice]}
---
tenant: bob
match: {users: [bob]}
",
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Outside);
    agent.write_main("mode: enforce");
    agent.write_tenants(
        "tenants.yaml",
        "
tenant: alice
mode: observe
match: {users: [alice]}
---
tenant: bob
match: {users: [bob]}
",
    );
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    assert_eq!(stage.outside.settled(), 2);
}

#[test]
fn a_tenant_can_be_opened_for_a_while() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    let start = Instant::now();
    agent.must(&["observe", "alice", "--for", "4s"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    // Nobody else.
    expect(&agent, stage.by_uid(2002), "bob", Reached::Local);
    expect(&agent, stage.by_uid(54_321), "(default)", Reached::Refused);
    let status = agent.tenant("alice");
    assert!(status["observe_until"].is_string(), "{status:#}");
    assert_eq!(status["would_deny"], 1, "{status:#}");
    thread::sleep(Duration::from_millis(4_100).saturating_sub(start.elapsed()));
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(stage.outside.settled(), 1);
    assert!(agent.tenant("alice")["observe_until"].is_null());
}

#[test]
fn the_node_can_be_opened_for_a_while_and_closes_without_an_agent() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let start = Instant::now();
    agent.must(&["observe", "--for", "5s"]);
    agent.kill_9();
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Outside);
    expect(&agent, stage.by_uid(54_321), "(default)", Reached::Outside);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "this machine is too slow"
    );
    thread::sleep(Duration::from_millis(5_100).saturating_sub(start.elapsed()));
    // Nobody is there to close it.
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Local);
    expect(&agent, stage.by_uid(54_321), "(default)", Reached::Refused);
    assert_eq!(stage.outside.settled(), 3);
}

#[test]
fn being_opened_survives_a_restart_and_a_reload_but_not_its_end() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let start = Instant::now();
    agent.must(&["observe", "alice", "--for", "6s"]);
    agent.must(&["reload"]);
    agent.kill_9();
    agent.run();
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "this machine is too slow"
    );
    wait::until_true("the gate to close", Duration::from_secs(8), || {
        at_once(&stage, 2001, 1, 1) == (0, 1)
    });
    let open = start.elapsed();
    assert!(
        open >= Duration::from_secs(6),
        "closed after {open:?} already"
    );
    assert!(open < Duration::from_secs(7), "closed only after {open:?}");
}
