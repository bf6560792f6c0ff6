//! Whatever happens to the agent, enforcement goes on.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Reached, Running, mx};
use nix::sys::signal::Signal;

use crate::stage::{Stage, at_once, expect, repeat};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
---
tenant: carol
direct_smtp: allow
limits: [{unit: connections, max: 10, window: 1h}]
match: {users: [carol]}
";

/// Four processes of alice's, half of them IPv6, with 10,000 attempts between them.
fn ten_thousand(stage: &Stage) -> Vec<Running> {
    let flood = |v6| {
        let sender = stage.node.sender(2001);
        sender
            .flood(mx(v6), 2_500, Duration::from_millis(2))
            .start()
    };
    let ready = [flood(false), flood(true), flood(false), flood(true)];
    ready.into_iter().map(Running::go).collect()
}

fn all_refused(senders: Vec<Running>) {
    for sender in senders {
        let report = sender.finish();
        assert_eq!(report.refused(), 2_500, "{report:?}");
        assert_eq!(report.connected, 0, "{report:?}");
    }
}

#[test]
fn killed_during_ten_thousand_attempts_nothing_leaks() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let mut senders = ten_thousand(&stage);
    let mut under_way = || senders.iter_mut().any(|sender| !sender.ended());
    // Three times, unless this machine is so slow that they are done before that.
    let mut kills = 0;
    while kills < 3 && under_way() {
        thread::sleep(Duration::from_millis(150));
        agent.kill_9();
        thread::sleep(Duration::from_millis(150));
        assert!(
            kills > 0 || under_way(),
            "nothing was tried without an agent"
        );
        kills += 1;
        agent.run();
    }
    all_refused(senders);
    assert_eq!(stage.outside.settled(), 0, "leaks");
    assert_eq!(agent.counter("alice", "denied"), 10_000);
    // What happened while nobody listened is told afterwards, all of it.
    assert_eq!(limiter_tests::repeated(&agent.all_events("alice")), 10_000);
}

#[test]
fn after_a_restart_the_counts_go_on() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    agent.kill_9();
    // Also what is counted while nobody runs.
    assert_eq!(at_once(&stage, 2003, 1, 3), (3, 0));
    agent.run();
    assert_eq!(agent.used("carol", 0), 7);
    assert_eq!(at_once(&stage, 2003, 2, 5), (3, 7));
    agent.term();
    agent.run();
    repeat(&agent, &stage.by_uid(2003), 1, Reached::Refused);
    assert_eq!(agent.counter("carol", "allowed"), 10);
    assert_eq!(agent.counter("carol", "denied"), 8);
    assert_eq!(stage.outside.settled(), 10);
}

#[test]
fn a_dead_agent_enforces_everything() {
    let stage = Stage::new();
    let agent = stage.agent(
        "mode: enforce",
        &format!("{TENANTS}---\ntenant: bob\ndirect_smtp: redirect\nmatch: {{users: [bob]}}\n"),
    );
    agent.kill_9();
    // The commands work from what is pinned.
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Local);
    expect(&agent, stage.by_uid(54_321), "(default)", Reached::Refused);
    repeat(&agent, &stage.by_uid(2003), 10, Reached::Outside);
    repeat(&agent, &stage.by_uid(2003), 2, Reached::Refused);
    let status = agent.status();
    assert!(status["agent"].is_null(), "{status:#}");
    assert_eq!(agent.used("carol", 0), 10);
    assert_eq!(agent.counter("alice", "denied"), 1);
    assert_eq!(stage.outside.settled(), 10);
}

#[test]
fn a_stopped_agent_keeps_enforcing_and_says_so() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(agent.term(), 0);
    let log = agent.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("detach"), "it says how to end it: {log}");
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn a_frozen_agent_delays_nobody() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    agent.signal(Signal::SIGSTOP);
    let start = Instant::now();
    assert_eq!(at_once(&stage, 2001, 2, 500), (0, 1_000));
    assert_eq!(at_once(&stage, 2003, 2, 10), (10, 10));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    agent.signal(Signal::SIGCONT);
    assert_eq!(agent.counter("alice", "denied"), 1_000);
    assert_eq!(stage.outside.settled(), 10);
}

#[test]
fn with_bad_files_at_start_the_last_good_policy_holds() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    assert_eq!(agent.term(), 0);
    agent.write_tenants("tenants.yaml", "tenant: alice\ndirect_smtp: yes please\n");
    agent.run();
    unhealthy_but_enforcing(&stage, &agent);
    // Put right, it is healthy again.
    agent.write_tenants("tenants.yaml", TENANTS);
    agent.must(&["reload"]);
    assert_eq!(agent.cli(&["status"]).code, 0);
    assert_eq!(agent.used("carol", 0), 4);
}

#[test]
fn with_bad_files_at_boot_the_last_good_policy_is_loaded() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    agent.term();
    // After a boot nothing is pinned any more.
    agent.must(&["detach"]);
    assert_eq!(agent.pins(), Vec::<std::path::PathBuf>::new());
    assert_eq!(stage.by_uid(2001).make_unexplained(), Reached::Outside);
    agent.write_tenants("tenants.yaml", "%%% not even YAML: [");
    agent.run();
    unhealthy_but_enforcing(&stage, &agent);
    assert_eq!(stage.outside.settled(), 1);
}

/// Alice is refused, and the status says that the files are bad, and where.
fn unhealthy_but_enforcing(stage: &Stage, agent: &Agent) {
    expect(agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(agent.cli(&["status"]).code, 1);
    let status = agent.status();
    assert_eq!(status["healthy"], false, "{status:#}");
    let problems = status["problems"].to_string();
    assert!(problems.contains("tenants.yaml"), "{problems}");
}

#[test]
fn with_bad_files_and_no_last_good_policy_it_does_not_start() {
    let stage = Stage::new();
    let agent = Agent::configured(&stage.node, &Config::new("mode: sometimes", ""));
    let log = agent
        .run_until_ready()
        .expect_err("there is nothing to load");
    assert!(
        log.contains("limiter.yaml:") && log.contains("sometimes"),
        "{log}"
    );
    assert_eq!(agent.cli(&["status"]).code, 2, "nor does anything else");
}

#[test]
fn detach_leaves_nothing() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert!(!agent.pins().is_empty());
    agent.term();
    agent.must(&["detach"]);
    assert_eq!(agent.pins(), Vec::<std::path::PathBuf>::new());
    let directory = agent.pin_directory();
    assert!(!stage.node.inside().enter(|| directory.exists()));
    assert_eq!(stage.by_uid(2001).make_unexplained(), Reached::Outside);
    assert_eq!(stage.outside.settled(), 1);
    // Again, where nothing is: that is no failure.
    agent.must(&["detach"]);
    // And from the start.
    agent.run();
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(agent.counter("alice", "denied"), 1, "counts begin anew");
}

#[test]
fn under_a_running_agent_detach_is_refused() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let out = agent.cli(&["detach"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains(&agent.pid().to_string()), "{out:?}");
    assert!(!agent.pins().is_empty());
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
}

#[test]
fn what_is_pinned_is_for_root_alone() {
    use std::os::unix::fs::MetadataExt;
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let pins = agent.pins();
    let directory = agent.pin_directory();
    stage.node.inside().enter(|| {
        let of = |path: &std::path::Path| {
            let data = fs::metadata(path).expect("it is there");
            (data.uid(), data.mode() & 0o777)
        };
        assert_eq!(of(&directory), (0, 0o700));
        for pin in &pins {
            let (uid, mode) = of(pin);
            assert_eq!((uid, mode & 0o077), (0, 0), "{pin:?}");
        }
    });
}

#[test]
fn only_one_agent_runs_at_a_time() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let out = agent.cli(&["run"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("run"), "{}", out.stderr);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(agent.cli(&["status"]).code, 0, "the first one is unharmed");
}

#[test]
fn what_somebody_takes_away_comes_back() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    let pins = agent.pin_directory();
    let removed = stage.node.inside().enter(|| fs::remove_dir_all(&pins));
    removed.expect("root can remove pins");
    let start = Instant::now();
    while agent.pins().is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nothing is pinned again"
        );
        thread::sleep(Duration::from_millis(50));
    }
    // The look after it sees all of it.
    thread::sleep(Duration::from_secs(1));
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status}");
    assert!(
        status["problems"].to_string().contains("somebody"),
        "{status}"
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    // And holds without the agent, with all it counted.
    agent.kill_9();
    assert_eq!(at_once(&stage, 2003, 1, 3), (3, 0));
    agent.run();
    assert_eq!(agent.used("carol", 0), 7);
}

#[test]
fn pins_have_one_agent_and_detach_waits_for_it() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let elsewhere = agent.home().join("other.sock");
    let other = elsewhere.to_str().expect("the path is UTF-8");
    for command in ["run", "detach"] {
        let output = agent.cli(&["--control", other, command]);
        let said = output.stderr;
        assert_eq!(output.code, 1, "{command}: {said}");
        assert!(said.contains("a running agent holds"), "{command}: {said}");
    }
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status}");
}
