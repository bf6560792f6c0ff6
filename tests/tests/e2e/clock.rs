//! The simulated clock: the agent and the kernel go by it together, and it ends with its test.

use std::{fs, time::Duration};

use limiter_tests::{Agent, Config, Reached};
use limiter_user::kernel::{maps::Maps, pins::Pins};
use serde_json::json;

use crate::stage::{Stage, at_once, expect, repeat};

const TENANTS: &str = "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 3, window: 1h}]
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
";

const MINUTE: Duration = Duration::from_secs(60);

fn configured(stage: &Stage) -> Agent<'_> {
    Agent::configured(&stage.node, &Config::new("mode: enforce", TENANTS)).simulated()
}

/// How far the programs' clock is ahead, ns, as it stands in the kernel.
fn ahead_ns(stage: &Stage, agent: &Agent) -> u64 {
    let directory = agent.pin_directory();
    stage.node.inside().enter(|| {
        let maps = Maps::open(&Pins::new(&directory)).expect("it is pinned");
        maps.settings.get(0).expect("it has one").clock_offset_ns
    })
}

#[test]
fn an_hour_passes_at_once() {
    let stage = Stage::new();
    let agent = configured(&stage);
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 5), (3, 2));
    agent.advance(59 * MINUTE);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    // An hour and a thirty-second of it.
    agent.advance(3 * MINUTE);
    assert_eq!(agent.used("alice", 0), 0);
    repeat(&agent, &stage.by_uid(2001), 3, Reached::Outside);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
    assert_eq!(stage.outside.settled(), 6);
    // With nobody there the programs go on by the same clock, and so do the commands.
    agent.kill_9();
    assert_eq!(agent.used("alice", 0), 3);
    repeat(&agent, &stage.by_uid(2001), 1, Reached::Refused);
}

#[test]
fn sanctions_end_by_it_with_and_without_an_agent() {
    let stage = Stage::new();
    let agent = configured(&stage);
    agent.run();
    for tenant in ["bob", "carol"] {
        agent.must(&["suspend", tenant, "--for", "1h", "--reason", "a test"]);
    }
    agent.must(&[
        "suspend",
        "carol",
        "--for",
        "3h",
        "--reason",
        "a longer one",
    ]);
    let (bob, carol) = (stage.by_uid(2002), stage.by_uid(2003));
    agent.advance(59 * MINUTE);
    expect(&agent, bob.clone(), "bob", Reached::Refused);
    agent.advance(2 * MINUTE);
    expect(&agent, bob, "bob", Reached::Outside);
    assert_eq!(agent.tenant("bob")["standing"], "good");
    expect(&agent, carol.clone(), "carol", Reached::Refused);
    agent.advance(120 * MINUTE);
    agent.kill_9();
    expect(&agent, carol, "carol", Reached::Outside);
    // The next life goes on by the same clock.
    agent.run();
    assert!(ahead_ns(&stage, &agent) >= 181 * 60_000_000_000);
    assert_eq!(agent.tenant("carol")["standing"], "good");
}

#[test]
fn it_never_survives_into_earnest() {
    let stage = Stage::new();
    let agent = configured(&stage);
    agent.run();
    assert!(agent.log().contains("THE CLOCK IS SIMULATED"));
    agent.advance(600 * MINUTE);
    assert_eq!(ahead_ns(&stage, &agent), 36_000_000_000_000);
    agent.kill_9();

    let agent = agent.in_earnest();
    agent.run();
    assert_eq!(ahead_ns(&stage, &agent), 0);
    assert!(
        agent
            .log()
            .contains("left the programs' clock 36000 s ahead")
    );
    let (status, body) = agent.set_clock(&json!({"advance": 3600}));
    assert_eq!(status, 404, "{body}");
    assert_eq!(ahead_ns(&stage, &agent), 0);
    agent.must(&["reload"]);
    assert_eq!(ahead_ns(&stage, &agent), 0);
    // Nobody reads of it.
    let help = agent.must(&["run", "--help"]);
    assert!(!help.contains("simulated"), "{help}");
    // A pretended boot alone is refused.
    let out = agent.cli(&["run", "--simulated-boot", "x"]);
    assert_eq!(out.code, 2, "{}", out.stderr);
    let audit = fs::read_to_string(agent.state_directory().join("audit.jsonl"));
    let audit = audit.expect("there is an audit log");
    assert!(audit.contains("\"clock\""), "{audit}");
}
