//! Limits of more than an hour hold across a reboot.

use std::{fs, path::PathBuf, time::Duration};

use limiter_tests::{Agent, Config, Reached, wait};
use serde_json::Value;

use crate::stage::{Stage, at_once, repeat};

const TENANTS: &str = "
tenant: reseller
limits: [{unit: connections, max: 6, window: 2d}]
---
tenant: alice
parent: reseller
direct_smtp: allow
limits: [{unit: connections, max: 5, window: 24h}]
match: {users: [alice]}
---
tenant: bob
parent: reseller
direct_smtp: allow
limits: [{unit: connections, max: 5, window: 1h}]
match: {users: [bob]}
";

const HOUR: Duration = Duration::from_secs(3_600);

fn simulated(stage: &Stage) -> Agent<'_> {
    Agent::configured(&stage.node, &Config::new("mode: enforce", TENANTS)).simulated()
}

fn kept(agent: &Agent) -> PathBuf {
    agent.state_directory().join("counts.snapshot")
}

/// What the windows of a tenant have counted, as it was kept last; `None` if nothing was.
fn kept_of(agent: &Agent, tenant: &str) -> Option<u64> {
    let text = fs::read_to_string(kept(agent)).ok()?;
    let (_, body) = text.split_once('\n')?;
    let snapshot: Value = serde_json::from_str(body).expect("it is written whole");
    let tenants = snapshot["tenants"].as_array()?;
    let counts = &tenants.iter().find(|it| it[0] == tenant)?[2];
    let units = |count: &Value| -> Option<u64> {
        let admitted = count["w"].as_array()?;
        Some(admitted.iter().filter_map(|it| it[1].as_u64()).sum())
    };
    counts.as_array()?.iter().filter_map(units).max()
}

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

#[test]
fn a_day_goes_on_where_the_reboot_cut_it() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.clock().trust(false);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 3), (3, 0));
    agent.term();
    // Nobody knows for how long it was down: not at all.
    agent.reboot(25 * HOUR);
    agent.run();
    assert_eq!(agent.used("alice", 0), 3);
    assert_eq!(agent.used("reseller", 0), 3);
    repeat(&agent, &stage.by_uid(2001), 2, Reached::Outside);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    // One more of the reseller's six.
    assert_eq!(at_once(&stage, 2002, 1, 3), (1, 2));
    assert_eq!(stage.outside.settled(), 6);
    // The agent may come and go: nothing is counted twice.
    agent.kill_9();
    agent.run();
    assert_eq!(agent.used("alice", 0), 5);
    // The three of before are a day old first.
    agent.advance(24 * HOUR + 2 * HOUR);
    assert_eq!(agent.used("alice", 0), 0);
    assert_eq!(agent.used("reseller", 0), 6);
    agent.advance(24 * HOUR);
    assert_eq!(at_once(&stage, 2001, 1, 7), (5, 2));
}

#[test]
fn downtime_counts_where_the_wall_clock_is_right() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.clock().trust(true);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 3), (3, 0));
    agent.advance(20 * HOUR);
    assert_eq!(at_once(&stage, 2001, 1, 1), (1, 0));
    agent.term();
    agent.reboot(6 * HOUR);
    agent.run();
    // 26 hours ago three of them, six hours ago the fourth.
    assert_eq!(agent.used("alice", 0), 1);
    assert_eq!(agent.used("reseller", 0), 4);
    assert_eq!(at_once(&stage, 2001, 1, 4), (2, 2), "six of the reseller's");
}

#[test]
fn without_a_clean_end_what_was_kept_last_holds() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 3), (3, 0));
    // Within a minute.
    agent.advance(Duration::from_secs(60));
    wait::until("the counts to be kept", wait::SOON, || {
        // The agent also keeps them soon after it started: perhaps with one of the three.
        (kept_of(&agent, "alice")? == 3).then_some(())
    });
    agent.reboot(HOUR);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 4), (2, 2));
}

#[test]
fn broken_counts_are_said_aloud_and_everything_is_enforced() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 3), (3, 0));
    agent.term();
    let whole = fs::read(kept(&agent)).expect("they are kept");
    fs::write(kept(&agent), &whole[..whole.len() / 2]).expect("it is ours");
    agent.reboot(HOUR);
    agent.run();
    let status = agent.status();
    assert_eq!(status["healthy"], false);
    assert!(problems(&status).contains("is not whole"), "{status:#}");
    assert!(agent.log().contains("is lost, they begin from zero"));
    let aside = fs::read(kept(&agent).with_extension("broken"));
    assert_eq!(aside.expect("for whoever looks"), &whole[..whole.len() / 2]);
    assert_eq!(at_once(&stage, 2001, 1, 7), (5, 2));
    // From here on all is well again.
    agent.term();
    agent.reboot(HOUR);
    agent.run();
    assert_eq!(agent.used("alice", 0), 5);
    assert!(!problems(&agent.status()).contains("is lost"));
}

#[test]
fn where_nothing_can_be_kept_it_is_said() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    // Not even root writes a file where a directory is.
    let in_the_way = kept(&agent).with_extension("new");
    fs::create_dir_all(&in_the_way).expect("it is ours");
    agent.run();
    let said = |agent: &Agent| problems(&agent.status()).contains("cannot keep what long windows");
    wait::until("the agent to say it", wait::SOON, || {
        said(&agent).then_some(())
    });
    assert_eq!(at_once(&stage, 2001, 1, 7), (5, 2));
    assert!(!kept(&agent).exists());
    fs::remove_dir(&in_the_way).expect("it is ours");
    agent.advance(Duration::from_secs(60));
    wait::until("the counts to be kept", wait::SOON, || {
        (!said(&agent)).then_some(())
    });
    assert!(fs::read(kept(&agent)).is_ok());
}
