//! Policies change while traffic flows: all or nothing, nothing lost, nothing leaked.

use std::{fs, os::unix::fs::PermissionsExt, thread, time::Duration};

use limiter_tests::{Agent, Reached, Running, mx, wait};
use nix::sys::signal::Signal;

use crate::stage::{Stage, at_once, expect, repeat};

/// Carol with a limit, in a file of her own.
fn carol(max: u32, window: &str) -> String {
    format!(
        "
tenant: carol
direct_smtp: allow
limits: [{{unit: connections, max: {max}, window: {window}}}]
match: {{users: [carol]}}
"
    )
}

fn load_carol(agent: &Agent, max: u32, window: &str) {
    agent.write_tenants("carol.yaml", &carol(max, window));
    agent.must(&["reload"]);
}

#[test]
fn under_load_nothing_is_lost_and_nothing_leaks() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: alice\nmatch: {users: [alice]}");
    load_carol(&agent, 1_000_000, "1h");
    let flood = |uid, v6| {
        let sender = stage.node.sender(uid);
        let flood = sender.flood(mx(v6), 2_000, Duration::from_micros(300));
        flood.start()
    };
    let ready = [
        flood(2001, false),
        flood(2001, true),
        flood(2003, false),
        flood(2003, true),
    ];
    let under_way = ready.map(Running::go);
    let mut reloads = 0_u32;
    for round in 0..12_u32 {
        // Others come and go, and carol's own limit changes.
        let others: String = (0..round)
            .map(|n| format!("tenant: other-{n}\nmatch: {{uids: [{}]}}\n---\n", 5_000 + n))
            .collect();
        let reseller = "tenant: reseller\n";
        agent.write_tenants("others.yaml", &format!("{others}{reseller}"));
        load_carol(
            &agent,
            1_000_000 + round,
            if round % 2 == 0 { "1h" } else { "2h" },
        );
        reloads += 1;
    }
    let [alice, alice6, carol, carol6] = under_way.map(Running::finish);
    assert_eq!(reloads, 12);
    assert_eq!(
        (alice.refused(), alice6.refused()),
        (2_000, 2_000),
        "{alice:?} {alice6:?}"
    );
    assert_eq!(
        (carol.connected, carol6.connected),
        (2_000, 2_000),
        "{carol:?} {carol6:?}"
    );
    assert_eq!(stage.outside.settled(), 4_000);
    assert_eq!(agent.counter("alice", "denied"), 4_000);
    assert_eq!(agent.counter("carol", "allowed"), 4_000);
    assert_eq!(
        agent.used("carol", 0),
        4_000,
        "history is kept through every change"
    );
}

#[test]
fn a_changed_limit_keeps_its_history() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: other\n");
    load_carol(&agent, 5, "1h");
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    load_carol(&agent, 10, "1h");
    assert_eq!(agent.used("carol", 0), 4);
    assert_eq!(at_once(&stage, 2003, 1, 8), (6, 2));
    load_carol(&agent, 3, "1h");
    assert_eq!(agent.used("carol", 0), 10);
    repeat(&agent, &stage.by_uid(2003), 1, Reached::Refused);
    // Longer and shorter windows: nothing that was sent is forgotten too early.
    load_carol(&agent, 12, "2h");
    assert_eq!(agent.used("carol", 0), 10);
    assert_eq!(at_once(&stage, 2003, 1, 3), (2, 1));
    load_carol(&agent, 13, "30m");
    assert_eq!(at_once(&stage, 2003, 1, 3), (1, 2));
    assert_eq!(stage.outside.settled(), 13);
    assert_eq!(agent.counter("carol", "allowed"), 13);
}

#[test]
fn a_moved_tenant_keeps_its_history() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "tenant: reseller\nlimits: [{unit: connections, max: 6, window: 1h}]\n",
    );
    load_carol(&agent, 5, "1h");
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    // She moves below a reseller, to other identities, and into another file.
    fs::remove_file(agent.tenant_file("carol.yaml")).expect("it is there");
    agent.write_tenants(
        "moved.yaml",
        "
tenant: carol
parent: reseller
direct_smtp: allow
limits: [{unit: connections, max: 5, window: 1h}]
match: {users: [carol, dave]}
",
    );
    agent.must(&["reload"]);
    assert_eq!(agent.used("carol", 0), 4);
    expect(&agent, stage.by_uid(2004), "carol", Reached::Outside);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Refused);
    assert_eq!(agent.used("reseller", 0), 1, "it counts from now on");
}

#[test]
fn tenants_come_and_go() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "tenant: other\n",
    );
    expect(&agent, stage.by_uid(2001), "(default)", Reached::Outside);
    agent.write_tenants("alice.yaml", "tenant: alice\nmatch: {users: [alice]}\n");
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    agent.write_tenants(
        "alice.yaml",
        "tenant: alice\ndirect_smtp: redirect\nmatch: {users: [alice]}\n",
    );
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Local);
    assert_eq!(
        agent.counter("alice", "denied"),
        1,
        "changed, not made anew"
    );
    fs::remove_file(agent.tenant_file("alice.yaml")).expect("it is there");
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "(default)", Reached::Outside);
    let status = agent.status();
    assert!(
        limiter_tests::find_tenant(&status, "alice").is_none(),
        "{status:#}"
    );
    // A tenant of the same name later is a new one.
    agent.write_tenants("alice.yaml", "tenant: alice\nmatch: {users: [alice]}\n");
    agent.must(&["reload"]);
    assert_eq!(agent.counter("alice", "denied"), 0);
    assert_eq!(stage.outside.settled(), 2);
}

#[test]
fn a_bad_file_changes_nothing() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n");
    load_carol(&agent, 5, "1h");
    assert_eq!(at_once(&stage, 2003, 1, 2), (2, 0));
    // One good change and one bad: neither takes place.
    agent.write_tenants(
        "alice.yaml",
        "tenant: bob\ndirect_smtp: allow\nmatch: {users: [bob]}\n",
    );
    agent.write_tenants(
        "carol.yaml",
        "tenant: carol\nlimits:\n  - {unit: connections, max: -5, window: 1h}\n",
    );
    let out = agent.reload();
    assert_ne!(out.code, 0, "{out:?}");
    let said = format!("{}{}", out.stdout, out.stderr);
    let place = format!("{}:3:", agent.tenant_file("carol.yaml").display());
    assert!(said.contains(&place) && said.contains("-5"), "{said}");
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "(default)", Reached::Refused);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Outside);
    assert_eq!(agent.used("carol", 0), 3);
    assert_eq!(agent.cli(&["check"]).code, 2);
    // Put right, both take place.
    load_carol(&agent, 3, "1h");
    expect(&agent, stage.by_uid(2002), "bob", Reached::Outside);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Refused);
    assert_eq!(agent.cli(&["status"]).code, 0);
}

#[test]
fn sighup_reloads() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n");
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    agent.write_tenants(
        "tenants.yaml",
        "tenant: alice\ndirect_smtp: redirect\nmatch: {users: [alice]}\n",
    );
    agent.signal(Signal::SIGHUP);
    let to = mx(false).to_string();
    wait::until_true("the new policy", wait::SOON, || {
        agent.explain(&["--uid", "2001", "--to", &to])["verdict"] == "redirected"
    });
    expect(&agent, stage.by_uid(2001), "alice", Reached::Local);
    // A bad file: the agent lives, and keeps what it has.
    agent.write_tenants("tenants.yaml", "tenant: [\n");
    agent.signal(Signal::SIGHUP);
    wait::until_true("the complaint", wait::SOON, || {
        agent.log().contains("tenants.yaml:")
    });
    expect(&agent, stage.by_uid(2001), "alice", Reached::Local);
}

#[test]
fn files_that_others_may_write_are_refused() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n");
    let file = agent.tenant_file("tenants.yaml");
    let open = "tenant: alice\ndirect_smtp: allow\nmatch: {users: [alice]}\n";
    for (what, mode) in [(&file, 0o666), (&agent.main_file(), 0o646)] {
        agent.write_tenants("tenants.yaml", open);
        fs::set_permissions(what, fs::Permissions::from_mode(mode)).expect("it is ours");
        let out = agent.reload();
        assert_ne!(out.code, 0, "{out:?}");
        let said = format!("{}{}", out.stdout, out.stderr);
        assert!(said.contains(&what.display().to_string()), "{said}");
        assert_eq!(agent.cli(&["check"]).code, 2);
        expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
        fs::set_permissions(what, fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
}

#[test]
fn many_reloads_at_once_end_in_the_last_policy() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    agent.must(&["reload"]);
                }
            });
        }
    });
    agent.write_tenants(
        "tenants.yaml",
        "tenant: alice\ndirect_smtp: redirect\nmatch: {users: [alice]}\n",
    );
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Local);
}
