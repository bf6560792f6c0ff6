//! Users, accounts, sub-uids and cgroups come and go, and the kernel knows within a second.

use std::time::{Duration, Instant};

use limiter_tests::{Agent, Attempt, Cgroup, Reached, find_tenant, wait};

use crate::stage::{Stage, expect};

/// How quickly the kernel has to know.
const AT_MOST: Duration = Duration::from_secs(1);

/// Waits until the attempt leads to `reached`, and fails if that takes more than a second, or if
/// it ever leads to something other than `before` meanwhile.
#[track_caller]
fn becomes(attempt: &Attempt, before: Reached, reached: Reached) {
    let start = Instant::now();
    let taken = wait::until("the kernel to know", wait::SOON, || {
        let asked = start.elapsed();
        let now = attempt.clone().make_unexplained();
        assert!(now == before || now == reached, "{now:?}");
        (now == reached).then_some(asked)
    });
    assert!(taken <= AT_MOST, "it took {taken:?}");
}

#[test]
fn users_that_appear_and_vanish() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "tenant: zoe\nmatch: {users: [zoe, yann]}\n",
    );
    let zoe = stage.by_uid(2_501);
    let yann = stage.by_uid(2_502);
    expect(&agent, zoe.clone(), "(default)", Reached::Outside);
    assert!(agent.log().contains("zoe"), "a warning: {}", agent.log());
    for _ in 0..2 {
        stage.node.etc().add_user("zoe", 2_501);
        becomes(&zoe, Reached::Outside, Reached::Refused);
        stage.node.etc().add_user("yann", 2_502);
        becomes(&yann, Reached::Outside, Reached::Refused);
        stage.node.etc().remove_user("zoe");
        becomes(&zoe, Reached::Refused, Reached::Outside);
        expect(&agent, yann.clone(), "zoe", Reached::Refused);
        stage.node.etc().remove_user("yann");
        becomes(&yann, Reached::Refused, Reached::Outside);
    }
    // The same user with another number.
    stage.node.etc().add_user("zoe", 2_501);
    becomes(&zoe, Reached::Outside, Reached::Refused);
    stage.node.etc().add_user("zoe", 2_503);
    becomes(&stage.by_uid(2_503), Reached::Outside, Reached::Refused);
    expect(&agent, zoe, "(default)", Reached::Outside);
    stage.node.etc().set_subuids("zoe", 500_000, 65_536);
    becomes(&stage.by_uid(512_345), Reached::Outside, Reached::Refused);
}

#[test]
fn accounts_that_appear_and_vanish() {
    let stage = Stage::new();
    let agent = stage.agent(
        "
mode: enforce
plans: {hosting: {direct_smtp: allow, limits: [{unit: connections, max: 3, window: 1h}]}}
accounts: {uids: 3000-3999, plan: hosting}
",
        "",
    );
    let erin = stage.by_uid(3_001);
    expect(&agent, erin.clone(), "(default)", Reached::Refused);
    stage.node.etc().add_user("erin", 3_001);
    becomes(&erin, Reached::Refused, Reached::Outside);
    expect(&agent, erin.clone(), "erin", Reached::Outside);
    let used = agent.used("erin", 0);
    assert_eq!(used, 2);
    // Another account is no reason to forget this one's count.
    stage.node.etc().add_user("frank", 3_002);
    becomes(&stage.by_uid(3_002), Reached::Refused, Reached::Outside);
    assert_eq!(agent.used("erin", 0), used);
    expect(&agent, erin.clone(), "erin", Reached::Outside);
    expect(&agent, erin, "erin", Reached::Refused);
    stage.node.etc().remove_user("frank");
    becomes(&stage.by_uid(3_002), Reached::Outside, Reached::Refused);
    wait::until_true("the tenant to be gone", wait::SOON, || {
        find_tenant(&agent.status(), "frank").is_none()
    });
}

/// A cgroup that is removed and made again is bound within a second, and whoever runs in it
/// meanwhile is nobody's: `before` says what that means.
fn recreated(stage: &Stage, agent: &Agent, name: &str, before: Reached, bound: Reached) {
    for _ in 0..4 {
        let cgroup: Cgroup = stage.node.cgroup().child(name);
        becomes(&stage.in_cgroup(&cgroup, 0), before, bound);
        expect(agent, stage.in_cgroup(&cgroup, 0), "box", bound);
        cgroup.remove();
    }
}

#[test]
fn cgroups_that_are_removed_and_made_again() {
    let stage = Stage::new();
    let path = stage.node.cgroup().path();
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: box
direct_smtp: redirect
match: {{cgroups: ['{path}/boxes/one', '{path}/slices/*/box-[0-9]*.scope']}}
"
        ),
    );
    // Until it is bound it is nobody's, and nobody may: no gap.
    recreated(
        &stage,
        &agent,
        "boxes/one",
        Reached::Refused,
        Reached::Local,
    );
    recreated(
        &stage,
        &agent,
        "slices/a/box-17.scope",
        Reached::Refused,
        Reached::Local,
    );
    recreated(
        &stage,
        &agent,
        "slices/b/box-4.scope",
        Reached::Refused,
        Reached::Local,
    );
    assert_eq!(stage.outside.settled(), 0, "leaks");
    let unlike = stage.node.cgroup().child("slices/b/box.scope");
    expect(
        &agent,
        stage.in_cgroup(&unlike, 0),
        "(default)",
        Reached::Refused,
    );
}

#[test]
fn a_restarted_container_keeps_its_count() {
    let stage = Stage::new();
    let path = stage.node.cgroup().path();
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: box
direct_smtp: allow
limits: [{{unit: connections, max: 3, window: 1h}}]
match: {{cgroups: ['{path}/box']}}
"
        ),
    );
    for used in 1..=3 {
        let cgroup = stage.node.cgroup().child("box");
        becomes(
            &stage.in_cgroup(&cgroup, 0),
            Reached::Refused,
            Reached::Outside,
        );
        assert_eq!(agent.used("box", 0), used);
        cgroup.remove();
    }
    let cgroup = stage.node.cgroup().child("box");
    let to = limiter_tests::mx(false).to_string();
    wait::until_true("the cgroup to be bound", AT_MOST, || {
        let said = agent.explain(&["--cgroup", &cgroup.path(), "--to", &to]);
        said["tenant"] == "box"
    });
    expect(&agent, stage.in_cgroup(&cgroup, 0), "box", Reached::Refused);
    assert_eq!(stage.outside.settled(), 3);
}

#[test]
fn changes_while_no_agent_runs_are_caught_up_with() {
    let stage = Stage::new();
    let path = stage.node.cgroup().path();
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: box
direct_smtp: redirect
match: {{cgroups: ['{path}/box'], users: [zoe]}}
"
        ),
    );
    let cgroup = stage.node.cgroup().child("box");
    becomes(
        &stage.in_cgroup(&cgroup, 0),
        Reached::Refused,
        Reached::Local,
    );
    agent.kill_9();
    cgroup.remove();
    let cgroup = stage.node.cgroup().child("box");
    stage.node.etc().add_user("zoe", 2_501);
    let attempt = stage.in_cgroup(&cgroup, 0);
    assert_eq!(attempt.make_unexplained(), Reached::Refused, "not open");
    agent.run();
    // Ready means that everything is in place: no waiting.
    expect(&agent, stage.in_cgroup(&cgroup, 0), "box", Reached::Local);
    expect(&agent, stage.by_uid(2_501), "box", Reached::Local);
}

#[test]
fn a_tenant_that_contests_a_cgroup_takes_nothing_from_the_others() {
    let stage = Stage::new();
    let path = stage.node.cgroup().path();
    let tenants = format!(
        "
tenant: ann
direct_smtp: redirect
match: {{cgroups: ['{path}/p/ann-*']}}
---
tenant: web
match: {{cgroups: ['{path}/p/*-web']}}
---
tenant: zoe
direct_smtp: allow
match: {{users: [zoe]}}
"
    );
    let agent = stage.agent("mode: enforce", &tenants);
    let contested = stage.node.cgroup().child("p/ann-x-web");
    let start = Instant::now();
    while agent.status()["healthy"] == true {
        assert!(
            start.elapsed() < AT_MOST * 5,
            "nobody says that it is contested"
        );
    }
    // It is nobody's, and everybody else is followed as before.
    expect(
        &agent,
        stage.in_cgroup(&contested, 0),
        "(default)",
        Reached::Refused,
    );
    stage.node.etc().add_user("zoe", 2_501);
    becomes(&stage.by_uid(2_501), Reached::Refused, Reached::Outside);
    let ours = stage.node.cgroup().child("p/ann-2");
    becomes(&stage.in_cgroup(&ours, 0), Reached::Refused, Reached::Local);
    // A start goes as far as it can, a reload says no.
    agent.kill_9();
    agent.run();
    expect(&agent, stage.by_uid(2_501), "zoe", Reached::Outside);
    expect(
        &agent,
        stage.in_cgroup(&contested, 0),
        "(default)",
        Reached::Refused,
    );
    let status = agent.status();
    assert!(
        status["problems"].to_string().contains("ann-x-web"),
        "{status}"
    );
    assert_eq!(agent.reload().code, 2);
    contested.remove();
    assert_eq!(agent.reload().code, 0);
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status}");
}
