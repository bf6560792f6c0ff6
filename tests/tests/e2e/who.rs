//! Whose an attempt is: users, uids, ranges, sub-uids, cgroups, accounts, the MTA, and nobody.

use limiter_tests::{Container, Reached, mx};

use crate::stage::{Stage, expect};

#[test]
fn users_uids_and_ranges_narrower_before_wider() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: by-user
match: {users: [alice]}
---
tenant: by-uid
match: {uids: [2101]}
---
tenant: by-range
direct_smtp: allow
match: {uids: [2110-2119]}
---
tenant: narrower
match: {uids: [2114-2115]}
---
tenant: narrowest
direct_smtp: allow
match: {uids: [2115]}
",
    );
    let expect = |uid, tenant, reached| expect(&agent, stage.by_uid(uid), tenant, reached);
    expect(2001, "by-user", Reached::Refused);
    expect(2101, "by-uid", Reached::Refused);
    expect(2102, "(default)", Reached::Refused);
    expect(2109, "(default)", Reached::Refused);
    expect(2110, "by-range", Reached::Outside);
    expect(2113, "by-range", Reached::Outside);
    expect(2114, "narrower", Reached::Refused);
    expect(2115, "narrowest", Reached::Outside);
    expect(2119, "by-range", Reached::Outside);
    expect(2120, "(default)", Reached::Refused);
    assert_eq!(stage.outside.settled(), 4);
    assert_eq!(agent.counter("by-range", "allowed"), 3);
    assert_eq!(agent.counter("narrowest", "allowed"), 1);
    assert_eq!(agent.counter("by-user", "denied"), 1);
    assert_eq!(agent.counter("by-uid", "denied"), 1);
    assert_eq!(agent.counter("narrower", "denied"), 1);
    assert_eq!(agent.counter("(default)", "denied"), 3);
}

#[test]
fn explain_by_uid_and_by_cgroup_agrees_with_explain_by_process() {
    let stage = Stage::new();
    let site = stage.node.cgroup().child("site");
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: alice
match: {{users: [alice]}}
---
tenant: bob
direct_smtp: redirect
match: {{users: [bob]}}
---
tenant: site
direct_smtp: allow
match: {{cgroups: ['{}']}}
",
            site.path()
        ),
    );
    let to = mx(false).to_string();
    for (who, what, tenant, verdict) in [
        ("--uid", "2001", "alice", "denied"),
        ("--uid", "2002", "bob", "redirected"),
        ("--uid", "2003", "(default)", "denied"),
        ("--cgroup", &site.path(), "site", "allowed"),
    ] {
        let said = agent.explain(&[who, what, "--to", &to]);
        assert_eq!(said["tenant"], tenant, "{said:#}");
        assert_eq!(said["verdict"], verdict, "{said:#}");
    }
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Local);
    expect(&agent, stage.by_uid(2003), "(default)", Reached::Refused);
    let attempt = stage.in_cgroup(&site, 2001);
    expect(&agent, attempt, "site", Reached::Outside);
}

#[test]
fn sub_uids_are_their_users_and_roots_are_nobodys() {
    let stage = Stage::new();
    let etc = stage.node.etc();
    etc.set_subuids("bob", 200_000, 65_536);
    etc.set_subuids("alice", 300_000, 1_000);
    etc.set_subuids("root", 400_000, 65_536);
    let agent = stage.agent(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "
tenant: alice
match: {users: [alice]}
---
tenant: bob
match: {users: [bob]}
limits: [{unit: connections, max: 3, window: 1h}]
direct_smtp: allow
",
    );
    let expect = |uid, tenant, reached| expect(&agent, stage.by_uid(uid), tenant, reached);
    expect(2001, "alice", Reached::Refused);
    expect(300_000, "alice", Reached::Refused);
    expect(300_999, "alice", Reached::Refused);
    expect(301_000, "(default)", Reached::Outside);
    expect(400_000, "(default)", Reached::Outside);
    // Three identities, one budget.
    expect(2002, "bob", Reached::Outside);
    expect(200_000, "bob", Reached::Outside);
    expect(265_535, "bob", Reached::Outside);
    expect(265_535, "bob", Reached::Refused);
    expect(2002, "bob", Reached::Refused);
    expect(265_536, "(default)", Reached::Outside);
    assert_eq!(stage.outside.settled(), 6);
}

#[test]
fn the_nearest_claimed_cgroup_wins_over_wider_ones_and_over_uids() {
    let stage = Stage::new();
    let top = stage.node.cgroup();
    let site = top.child("sites/shop");
    let deep = top.child("sites/shop/php/pool/worker");
    let inner = top.child("sites/shop/guest");
    let inner_deep = top.child("sites/shop/guest/a/b/c");
    let other = top.child("sites/blog");
    let path = top.path();
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: every-site
direct_smtp: redirect
match: {{cgroups: ['{path}/sites/*']}}
---
tenant: shop
direct_smtp: allow
match: {{cgroups: ['{path}/sites/shop']}}
---
tenant: guest
match: {{cgroups: ['{path}/sites/shop/gu?st']}}
---
tenant: alice
direct_smtp: allow
match: {{users: [alice]}}
"
        ),
    );
    for uid in [0, 2001, 2002, 54_321] {
        let expect = |cgroup, tenant, reached| {
            expect(&agent, stage.in_cgroup(cgroup, uid), tenant, reached);
        };
        expect(&site, "shop", Reached::Outside);
        expect(&deep, "shop", Reached::Outside);
        expect(&inner, "guest", Reached::Refused);
        expect(&inner_deep, "guest", Reached::Refused);
        expect(&other, "every-site", Reached::Local);
    }
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    expect(&agent, stage.by_uid(2002), "(default)", Reached::Refused);
    assert_eq!(stage.outside.settled(), 9);
    assert_eq!(stage.local.settled(), 4);
}

#[test]
fn every_account_in_range_is_a_tenant_of_its_own() {
    let stage = Stage::new();
    for (name, uid) in [("erin", 3001), ("frank", 3002), ("outsider", 4001)] {
        stage.node.etc().add_user(name, uid);
    }
    let agent = stage.agent(
        "
mode: enforce
plans: {hosting: {direct_smtp: allow, limits: [{unit: connections, max: 2, window: 1h}]}}
accounts: {uids: 2000-3999, plan: hosting}
",
        "
tenant: own-file
plan: hosting
direct_smtp: block
match: {users: [alice]}
",
    );
    let expect = |uid, tenant, reached| expect(&agent, stage.by_uid(uid), tenant, reached);
    // Each has its own budget.
    for (name, uid) in [("erin", 3001), ("frank", 3002), ("bob", 2002)] {
        expect(uid, name, Reached::Outside);
        expect(uid, name, Reached::Outside);
        expect(uid, name, Reached::Refused);
    }
    expect(2001, "own-file", Reached::Refused);
    expect(3500, "(default)", Reached::Refused);
    expect(4001, "(default)", Reached::Refused);
    assert_eq!(stage.outside.settled(), 6);
}

#[test]
fn only_the_mtas_user_on_the_node_itself_is_the_mta() {
    let stage = Stage::new();
    let node = &stage.node;
    let site = node.cgroup().child("site");
    let shop = Container::rootful(node, "shop");
    node.etc().add_user("Debian-exim", 925);
    let out = limiter_tests::process::run(node.root().command("id").args(["-u", "postfix"]), "");
    let postfix: u32 = out.stdout.trim().parse().expect("Postfix is installed");
    let agent = stage.agent(
        "mode: enforce\nlimits: [{unit: connections, max: 0, window: 1h}]",
        &format!(
            "
tenant: site
match: {{cgroups: ['{}']}}
---
tenant: alice
match: {{users: [alice]}}
",
            site.path()
        ),
    );
    for mta in [postfix, 925] {
        // On its own, and inside a tenant's cgroup.
        for attempt in [stage.by_uid(mta), stage.in_cgroup(&site, mta)] {
            let (reached, said) = attempt.judge(&agent);
            assert_eq!(reached, Reached::Outside, "{said:#}");
            assert_eq!(said["mta"], true, "{said:#}");
            assert_eq!(said["rule"], "mta", "{said:#}");
        }
        // The same number in a container is somebody else.
        let attempt = shop.sender(mta).attempt(mx(false));
        expect(&agent, attempt, "(default)", Reached::Refused);
    }
    // Neither root nor the MTA's cgroup make anybody the MTA.
    expect(&agent, stage.by_uid(0), "(default)", Reached::Refused);
    let mta = node.cgroup().child("mta");
    let attempt = stage.in_cgroup(&mta, 2001);
    expect(&agent, attempt, "alice", Reached::Refused);
    assert_eq!(stage.outside.settled(), 4);
}

#[test]
fn the_mtas_users_can_be_named() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce\nmta: {users: [dave]}", "");
    let (reached, said) = stage.by_uid(2004).judge(&agent);
    assert_eq!(reached, Reached::Outside, "{said:#}");
    assert_eq!(said["mta"], true, "{said:#}");
    let out =
        limiter_tests::process::run(stage.node.root().command("id").args(["-u", "postfix"]), "");
    let postfix: u32 = out.stdout.trim().parse().expect("Postfix is installed");
    let attempt = stage.by_uid(postfix);
    expect(&agent, attempt, "(default)", Reached::Refused);
}

#[test]
fn a_containers_uids_are_not_the_hosts() {
    let stage = Stage::new();
    stage.node.etc().set_subuids("alice", 100_000, 65_536);
    let shop = Container::rootful(&stage.node, "shop");
    let site = Container::unprivileged(&stage.node, "site");
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
",
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    expect(&agent, stage.by_uid(102_001), "alice", Reached::Outside);
    // Inside, 2001 is whoever; and so is 2001 on the inside of a user namespace, 102001 outside.
    for v6 in [false, true] {
        for container in [&shop, &site] {
            let attempt = container.sender(2001).attempt(mx(v6));
            expect(&agent, attempt, "(default)", Reached::Refused);
            let attempt = container.sender(0).attempt(mx(v6));
            expect(&agent, attempt, "(default)", Reached::Refused);
        }
    }
    assert_eq!(stage.outside.settled(), 2);
}

#[test]
fn a_container_is_its_cgroup() {
    let stage = Stage::new();
    let site = Container::unprivileged(&stage.node, "site");
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: site
direct_smtp: allow
limits: [{{unit: connections, max: 4, window: 1h}}]
match: {{cgroups: ['{}']}}
",
            site.cgroup().path()
        ),
    );
    for uid in [0, 2001] {
        for v6 in [false, true] {
            let attempt = site.sender(uid).attempt(mx(v6));
            expect(&agent, attempt, "site", Reached::Outside);
        }
    }
    let attempt = site.sender(0).attempt(mx(false));
    expect(&agent, attempt, "site", Reached::Refused);
    assert_eq!(stage.outside.settled(), 4);
    assert_eq!(agent.counter("site", "allowed"), 4);
    assert_eq!(agent.counter("site", "denied"), 1);
}

#[test]
fn a_user_namespace_of_ones_own_changes_nothing() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce\ndefault: {direct_smtp: allow}",
        "tenant: alice\nmatch: {users: [alice]}\n",
    );
    // Root inside, alice to everybody else; and the network is the node's still.
    let orders = stage.node.sender(0).attempt(mx(false));
    let report = stage.node.directory().join("report");
    std::fs::write(&report, "").expect("the directory is ours");
    std::os::unix::fs::chown(&report, Some(2001), Some(2001)).expect("root may give files away");
    let mut unshare = stage.node.user(2001).command("unshare");
    unshare.args(["--user", "--map-root-user", "--"]);
    unshare.arg(stage.node.sender_program());
    unshare.arg(orders.for_others(&report));
    let _ = limiter_tests::process::run(&mut unshare, "").success("unshare");
    let report = std::fs::read_to_string(report).expect("it was written");
    let report: limiter_tests::orders::Report = serde_json::from_str(&report).expect("a report");
    assert_eq!(report.refused(), 1, "{report:?}");
    assert_eq!(agent.counter("alice", "denied"), 1);
    assert_eq!(stage.outside.settled(), 0);
}
