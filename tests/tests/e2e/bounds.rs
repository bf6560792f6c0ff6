//! How far an agent reaches: two side by side, at the root of the tree, and not beyond its own.

use limiter_tests::{Agent, Config, Reached, mx};

use crate::stage::{Stage, expect, repeat};

#[test]
fn two_agents_do_not_disturb_each_other() {
    let stage = Stage::new();
    let (left, right) = (
        stage.node.cgroup().child("left"),
        stage.node.cgroup().child("right"),
    );
    let one = Agent::start(
        &stage.node,
        &Config::new("mode: enforce", "tenant: alice\nmatch: {users: [alice]}\n")
            .named("one")
            .attached_to(&left.path()),
    );
    let two = Agent::start(
        &stage.node,
        &Config::new(
            "mode: enforce",
            "tenant: alice\ndirect_smtp: allow\nlimits: [{unit: connections, max: 4, window: 1h}]\nmatch: {users: [alice]}\n",
        )
        .named("two")
        .attached_to(&right.path()),
    );
    let on_left = || stage.in_cgroup(&left, 2001);
    let on_right = || stage.in_cgroup(&right, 2001);
    expect(&one, on_left(), "alice", Reached::Refused);
    expect(&two, on_right(), "alice", Reached::Outside);
    // Out of both their reach.
    assert_eq!(stage.by_uid(2001).make_unexplained(), Reached::Outside);
    assert_eq!(one.counter("alice", "denied"), 1);
    assert_eq!(two.counter("alice", "allowed"), 1);
    assert_eq!(two.counter("alice", "denied"), 0);

    one.write_tenants(
        "tenants.yaml",
        "tenant: alice\ndirect_smtp: redirect\nmatch: {users: [alice]}\n",
    );
    one.must(&["reload"]);
    one.kill_9();
    expect(&one, on_left(), "alice", Reached::Local);
    expect(&two, on_right(), "alice", Reached::Outside);
    one.must(&["detach"]);
    assert_eq!(on_left().make_unexplained(), Reached::Outside);
    assert!(!two.pins().is_empty());
    repeat(&two, &on_right(), 2, Reached::Outside);
    repeat(&two, &on_right(), 1, Reached::Refused);
    assert_eq!(two.used("alice", 0), 4);
    one.run();
    expect(&one, on_left(), "alice", Reached::Local);
    two.kill_9();
    two.run();
    repeat(&two, &on_right(), 1, Reached::Refused);
}

#[test]
fn two_agents_in_one_tree_must_both_agree() {
    let stage = Stage::new();
    let inner = stage.node.cgroup().child("inner");
    let outer = stage.agent(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "tenant: alice\nmatch: {users: [alice]}\n",
    );
    let config = Config::new(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "tenant: bob\nmatch: {users: [bob]}\n",
    );
    let nested = Agent::start(
        &stage.node,
        &config.named("nested").attached_to(&inner.path()),
    );
    for uid in [2001, 2002] {
        let reached = stage.in_cgroup(&inner, uid).make_unexplained();
        assert_eq!(reached, Reached::Refused, "{uid}");
    }
    expect(
        &nested,
        stage.in_cgroup(&inner, 2003),
        "(default)",
        Reached::Outside,
    );
    expect(&outer, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&outer, stage.by_uid(2002), "(default)", Reached::Outside);
    assert_eq!(stage.outside.settled(), 2);
}

#[test]
fn attached_at_the_root_of_the_tree() {
    let stage = Stage::new();
    let site = stage.node.cgroup().child("site");
    // The whole machine is in reach: only who is named here may notice.
    let config = Config::new(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        &format!(
            "
tenant: site
match: {{cgroups: ['{}']}}
---
tenant: alice
direct_smtp: redirect
match: {{users: [alice]}}
",
            site.path()
        ),
    );
    let agent = Agent::start(&stage.node, &config.attached_to("/"));
    for v6 in [false, true] {
        let user = stage.node.user(2002).in_cgroup(&site);
        let attempt = stage.node.sender_at(user).attempt(mx(v6));
        expect(&agent, attempt, "site", Reached::Refused);
        let attempt = stage.node.sender(2001).attempt(mx(v6));
        expect(&agent, attempt, "alice", Reached::Local);
    }
    expect(&agent, stage.by_uid(2002), "(default)", Reached::Outside);
    // A process at the root of the tree has no cgroup but its uid.
    let rootless = stage.by_uid(2001).at_tree_root();
    expect(&agent, rootless, "alice", Reached::Local);
    assert_eq!(stage.outside.settled(), 1);
    agent.term();
    agent.must(&["detach"]);
    assert_eq!(
        stage.in_cgroup(&site, 2002).make_unexplained(),
        Reached::Outside
    );
}
