//! Sockets that are not the caller's own: both have to be allowed, and the caller pays.

use limiter_tests::{
    Reached, machine,
    orders::{How, SocketOf},
};

use crate::stage::{Stage, expect};

const TENANTS: &str = "
tenant: closed
match: {users: [alice]}
---
tenant: open
direct_smtp: allow
limits: [{unit: connections, max: 1000, window: 1h}]
match: {users: [bob]}
---
tenant: other
direct_smtp: allow
limits: [{unit: connections, max: 1000, window: 1h}]
match: {users: [carol]}
";

#[test]
fn a_passed_socket_needs_leave_for_both() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let passed = |caller, maker| {
        stage.by_uid(caller).socket(SocketOf::Other {
            uid: maker,
            cgroup: None,
        })
    };
    // `explain` is asked about the caller, and cannot know whose socket it will use.
    assert_eq!(passed(2002, 2001).make_unexplained(), Reached::Refused);
    assert_eq!(passed(2001, 2002).make_unexplained(), Reached::Refused);
    assert_eq!(passed(2002, 54_321).make_unexplained(), Reached::Refused);
    assert_eq!(passed(2002, 0).make_unexplained(), Reached::Refused);
    assert_eq!(stage.outside.settled(), 0);
    for how in [How::Plain, How::NonBlocking, How::IoUring] {
        let attempt = passed(2002, 2003).how(how);
        assert_eq!(attempt.make(&agent), Reached::Outside, "{how:?}");
    }
    assert_eq!(stage.outside.settled(), 3);
    assert_eq!(agent.used("open", 0), 3, "the caller pays");
    assert_eq!(agent.used("other", 0), 0, "and only the caller");
}

#[test]
fn the_mta_is_no_cloak_for_a_tenants_socket() {
    let stage = Stage::new();
    // Somebody who can become the MTA's user: root of a container in the node's user namespace.
    stage.node.etc().add_user("mailer", 777);
    let agent = stage.agent("mode: enforce\nmta: {users: [mailer]}", TENANTS);
    let by_mta = |maker| {
        stage.by_uid(777).socket(SocketOf::Other {
            uid: maker,
            cgroup: None,
        })
    };
    expect(&agent, stage.by_uid(2001), "closed", Reached::Refused);
    assert_eq!(by_mta(2001).make_unexplained(), Reached::Refused);
    assert_eq!(stage.outside.settled(), 0);
    // It sends for itself, also by a socket that its master made as root.
    assert_eq!(stage.by_uid(777).make(&agent), Reached::Outside);
    assert_eq!(by_mta(0).make_unexplained(), Reached::Outside);
}

#[test]
fn a_socket_from_a_closed_cgroup_stays_closed() {
    let stage = Stage::new();
    let shop = stage.node.cgroup().child("shop");
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "{TENANTS}
---
tenant: shop
match: {{cgroups: ['{}']}}
",
            shop.path()
        ),
    );
    let cgroup = Some(shop.directory().to_path_buf());
    for how in machine::ways_to_connect() {
        let passed = stage.by_uid(2002).how(how).socket(SocketOf::Other {
            uid: 2002,
            cgroup: cgroup.clone(),
        });
        assert_eq!(passed.make_unexplained(), Reached::Refused, "{how:?}");
        // The process itself has left the cgroup since.
        let kept = stage.by_uid(2002).how(how).socket(SocketOf::Before {
            uid: 2002,
            cgroup: cgroup.clone(),
        });
        assert_eq!(kept.make_unexplained(), Reached::Refused, "{how:?}");
    }
    let _ = stage.outside.settled();
    assert_eq!(stage.outside.count_at(25), 0);
    assert_eq!(stage.by_uid(2002).make(&agent), Reached::Outside);
}

#[test]
fn privileges_dropped_after_socket_do_not_help() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce\ndefault: {direct_smtp: allow}", TENANTS);
    // Root may here, and made the socket; alice may not, and uses it.
    for uid in [0, 54_321] {
        let attempt = stage
            .by_uid(2001)
            .socket(SocketOf::Before { uid, cgroup: None });
        assert_eq!(attempt.make(&agent), Reached::Refused);
    }
    // The other way round: alice made it, somebody else uses it.
    for caller in [0, 2002] {
        let attempt = stage.by_uid(caller).socket(SocketOf::Before {
            uid: 2001,
            cgroup: None,
        });
        assert_eq!(attempt.make_unexplained(), Reached::Refused);
    }
    assert_eq!(stage.outside.settled(), 0);
    assert_eq!(
        agent.counter("closed", "denied"),
        3,
        "alice's, and root's with her socket"
    );
    let attempt = stage.by_uid(2002).socket(SocketOf::Before {
        uid: 0,
        cgroup: None,
    });
    assert_eq!(attempt.make(&agent), Reached::Outside);
}

#[test]
fn mptcp_sockets_are_no_way_round() {
    let stage = Stage::new();
    let _agent = stage.agent("mode: enforce", TENANTS);
    for (caller, maker) in [(2001, 2002), (2002, 2001)] {
        let attempt = stage.by_uid(caller).how(How::Mptcp);
        let attempt = attempt.socket(SocketOf::Other {
            uid: maker,
            cgroup: None,
        });
        let reached = attempt.make_unexplained();
        assert_eq!(
            reached,
            Reached::Refused,
            "{caller} with a socket of {maker}"
        );
    }
    assert_eq!(stage.outside.settled(), 0);
}
