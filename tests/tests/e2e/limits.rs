//! Limits: never more than `max` in any window, from however many senders, and back in time.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Container, OUTSIDE_MX_EXEMPT, Reached, mx, wait};

use crate::stage::{Stage, at_once, expect, repeat};

/// A window after which everything is free again: the window and a thirty-second of it, and a
/// little for a busy machine.
fn after(window: Duration) -> Duration {
    window + window / 32 + Duration::from_millis(100)
}

#[test]
fn three_hundred_connections_an_hour_from_eight_senders() {
    let stage = Stage::new();
    let window = Duration::from_secs(6);
    let agent = stage.agent(
        "
mode: enforce
plans: {policy-b: {direct_smtp: allow, limits: [{unit: connections, max: 300, window: 1h}]}}
",
        "
tenant: alice
plan: policy-b
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
limits: [{unit: connections, max: 300, window: 6s}]
match: {users: [bob]}
",
    );
    // 300 exactly, by eight at once; then nothing.
    assert_eq!(at_once(&stage, 2001, 8, 50), (300, 100));
    assert_eq!(stage.outside.settled(), 300);
    assert_eq!(agent.used("alice", 0), 300);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    assert_eq!(agent.counter("alice", "allowed"), 300);
    assert_eq!(agent.counter("alice", "denied"), 101);

    // In a shorter window: after it they flow again, all of them and no more.
    let start = Instant::now();
    assert_eq!(at_once(&stage, 2002, 8, 50), (300, 100));
    assert!(
        start.elapsed() < window,
        "this machine is too slow for the test"
    );
    let last = Instant::now();
    repeat(&agent, &stage.by_uid(2002), 1, Reached::Refused);
    thread::sleep(after(window).saturating_sub(last.elapsed()));
    assert_eq!(at_once(&stage, 2002, 8, 50), (300, 100));
    assert_eq!(stage.outside.settled(), 900);
    assert_eq!(agent.used("bob", 0), 300);
}

#[test]
fn no_window_ever_holds_more_than_the_limit() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 20, window: 1s}]
match: {users: [alice]}
",
    );
    // Four senders that never stop for four seconds.
    let each = 2_000;
    let flood = || {
        let sender = stage.node.sender(2001);
        sender
            .flood(mx(false), each, Duration::from_millis(2))
            .start()
    };
    let ready: Vec<_> = (0..4).map(|_| flood()).collect();
    let start = Instant::now();
    let under_way: Vec<_> = ready.into_iter().map(|sender| sender.go()).collect();
    let connected: u64 = under_way
        .into_iter()
        .map(|sender| sender.finish().connected)
        .sum();
    let seconds = start.elapsed().as_secs_f64();
    let reached = u64::try_from(stage.outside.settled()).expect("a count");
    assert_eq!(reached, connected);
    // Each window of a second holds 20, and comes back at most 1/32 late.
    let most = 20.0 * (seconds.floor() + 1.0);
    let least = 20.0 * (seconds / (1.0 + 1.0 / 32.0)).floor();
    let connected = f64::from(u32::try_from(connected).expect("a count"));
    assert!(
        (least..=most).contains(&connected),
        "{connected} in {seconds} s, not within {least} and {most}"
    );
    assert_eq!(agent.counter("alice", "allowed"), reached);
}

#[test]
fn several_windows_at_once() {
    let stage = Stage::new();
    let short = Duration::from_secs(3);
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
limits:
  - {unit: connections, max: 5, window: 3s}
  - {unit: connections, max: 8, window: 1h}
  - {unit: connections, max: 1000, window: 1d}
  - {unit: connections, max: 4000, window: 31d}
",
    );
    let alice = |count| at_once(&stage, 2001, 1, count);
    assert_eq!(alice(6), (5, 1));
    let last = Instant::now();
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    thread::sleep(after(short).saturating_sub(last.elapsed()));
    assert_eq!(alice(6), (3, 3));
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    assert_eq!(stage.outside.settled(), 8);
    // All or nothing: what one window refused counted in none.
    for limit in 1..4 {
        assert_eq!(agent.used("alice", limit), 8, "limit {limit}");
    }
    let windows: Vec<u64> = agent
        .all_events("alice")
        .iter()
        .map(|event| {
            event["limit"]["window"]
                .as_u64()
                .expect("a limit refused it")
        })
        .collect();
    assert_eq!(windows.first(), Some(&3), "{windows:?}");
    assert_eq!(windows.last(), Some(&3_600), "{windows:?}");
}

#[test]
fn pace_lets_one_through_at_a_time() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
pace: [{unit: connections, every: 2s, burst: 2}]
match: {users: [alice]}
",
    );
    assert_eq!(at_once(&stage, 2001, 4, 5), (2, 18));
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    // One comes back every two seconds, not two.
    let back = Duration::from_millis(2_100);
    thread::sleep(back);
    assert_eq!(at_once(&stage, 2001, 1, 3), (1, 2));
    assert_eq!(stage.outside.settled(), 3);
    let events = agent.all_events("alice");
    assert!(
        events.iter().all(|event| event["reason"] == "pace"),
        "{events:#?}"
    );
    assert!(
        events
            .iter()
            .all(|event| event["limit"]["every"] == 2 && event["limit"]["max"] == 2),
        "{events:#?}"
    );
}

#[test]
fn what_is_refused_redirected_or_exempt_is_not_counted() {
    let stage = Stage::new();
    let agent = stage.agent(
        &format!("mode: enforce\nexempt: [{{to: {OUTSIDE_MX_EXEMPT}, ports: [25]}}]"),
        "
tenant: alice
direct_smtp: allow
submission: block
limits: [{unit: connections, max: 2, window: 1h, ports: [smtp, submission]}]
match: {users: [alice]}
---
tenant: bob
direct_smtp: redirect
limits: [{unit: connections, max: 1, window: 1h}]
match: {users: [bob]}
",
    );
    let alice = stage.node.sender(2001);
    let exempt = SocketAddr::new(OUTSIDE_MX_EXEMPT.into(), 25);
    repeat(&agent, &alice.attempt(exempt), 3, Reached::Outside);
    let submission = SocketAddr::new(mx(false).ip(), 587);
    repeat(&agent, &alice.attempt(submission), 3, Reached::Refused);
    let own = SocketAddr::new("127.0.0.1".parse().expect("it is one"), 25);
    repeat(&agent, &alice.attempt(own), 3, Reached::Local);
    assert_eq!(agent.used("alice", 0), 0);
    repeat(&agent, &alice.attempt(mx(false)), 2, Reached::Outside);
    repeat(&agent, &alice.attempt(mx(true)), 3, Reached::Refused);
    assert_eq!(agent.used("alice", 0), 2);
    repeat(&agent, &stage.by_uid(2002), 3, Reached::Local);
    assert_eq!(agent.used("bob", 0), 0);
}

#[test]
fn limits_can_concern_other_groups_of_ports() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
limits:
  - {unit: connections, max: 2, window: 1h, ports: [submission]}
  - {unit: connections, max: 5, window: 1h, ports: [smtp, submission]}
",
    );
    let alice = stage.node.sender(2001);
    let submission = SocketAddr::new(mx(false).ip(), 587);
    let submissions = SocketAddr::new(mx(true).ip(), 465);
    repeat(&agent, &alice.attempt(submission), 1, Reached::Outside);
    repeat(&agent, &alice.attempt(submissions), 1, Reached::Outside);
    repeat(&agent, &alice.attempt(submission), 1, Reached::Refused);
    repeat(&agent, &alice.attempt(mx(false)), 3, Reached::Outside);
    repeat(&agent, &alice.attempt(mx(false)), 1, Reached::Refused);
    assert_eq!(agent.used("alice", 0), 2);
    assert_eq!(agent.used("alice", 1), 5);
    assert_eq!(stage.outside.settled(), 5);
}

#[test]
fn a_limit_of_nothing_lets_nothing_through() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 0, window: 1s}]
match: {users: [alice]}
",
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(at_once(&stage, 2001, 2, 100), (0, 200));
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn a_tenants_identities_share_one_budget() {
    let stage = Stage::new();
    stage.node.etc().set_subuids("alice", 200_000, 65_536);
    let site = stage.node.cgroup().child("site");
    let shop = Container::rootful(&stage.node, "shop");
    let agent = stage.agent(
        "mode: enforce",
        &format!(
            "
tenant: alice
direct_smtp: allow
limits: [{{unit: connections, max: 6, window: 1h}}]
match:
  users: [alice]
  uids: [2100-2199]
  cgroups: ['{}', '{}']
",
            site.path(),
            shop.cgroup().path(),
        ),
    );
    let v6 = stage.node.sender(2150).attempt(mx(true));
    for attempt in [
        stage.by_uid(2001),
        v6,
        stage.by_uid(200_123),
        stage.in_cgroup(&site, 0),
        shop.sender(0).attempt(mx(false)),
        stage.by_uid(2001).mapped(),
    ] {
        expect(&agent, attempt, "alice", Reached::Outside);
    }
    assert_eq!(agent.used("alice", 0), 6);
    for attempt in [
        stage.by_uid(2001),
        stage.by_uid(200_123),
        stage.in_cgroup(&site, 0),
        shop.sender(0).attempt(mx(true)),
    ] {
        expect(&agent, attempt, "alice", Reached::Refused);
    }
    assert_eq!(stage.outside.settled(), 6);
}

#[test]
fn capacity_comes_back_at_most_a_thirty_second_late() {
    let stage = Stage::new();
    let window = Duration::from_secs(4);
    let agent = stage.agent(
        "mode: enforce",
        "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 1, window: 4s}]
match: {users: [alice]}
",
    );
    let before = Instant::now();
    assert_eq!(at_once(&stage, 2001, 1, 1), (1, 0));
    let done = Instant::now();
    // Not earlier than the window, counted from the moment the process was let go.
    let back = wait::until("the capacity to come back", after(window) * 2, || {
        let (connected, _) = at_once(&stage, 2001, 1, 1);
        (connected == 1).then(Instant::now)
    });
    assert!(back - before >= window, "back after {:?}", back - before);
    let late = after(window) + Duration::from_millis(200);
    assert!(back - done <= late, "back only after {:?}", back - done);
    assert_eq!(agent.used("alice", 0), 1);
}
