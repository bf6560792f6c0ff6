//! What the product reports: every field, and no flood.

use std::{
    io::{BufRead, BufReader},
    net::IpAddr,
    process::Stdio,
    time::Duration,
};

use limiter_tests::{Agent, NODE4, OUTSIDE_MX, Reached, mx, repeated, wait};
use serde_json::Value;

use crate::stage::{Stage, at_once, expect};

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
limits: [{unit: connections, max: 1, window: 1h}]
match: {users: [carol]}
";

#[test]
fn an_event_has_every_field() {
    let stage = Stage::new();
    let site = stage.node.cgroup().child("site");
    let agent = stage.agent("mode: enforce", TENANTS);
    let attempt = stage.in_cgroup(&site, 2001);
    let running = attempt.from(NODE4.into()).device("eth0").start();
    let pid = running.pid();
    let report = running.go().finish();
    assert_eq!(report.refused(), 1);

    let events = agent.all_events("alice");
    let [event] = events.as_slice() else {
        panic!("one attempt, one event: {events:#?}");
    };
    let keys: Vec<&str> = event
        .as_object()
        .expect("an event is an object")
        .keys()
        .map(String::as_str)
        .collect();
    let mut wanted = [
        "time",
        "node",
        "tenant",
        "verdict",
        "reason",
        "layer",
        "uid",
        "pid",
        "comm",
        "exe",
        "cwd",
        "cgroup",
        "interface",
        "source",
        "destination",
        "estimated",
        "limit",
        "repeated",
        "standing",
        "sanction",
        "until",
    ];
    wanted.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, wanted);
    let is = |key: &str, value: Value| assert_eq!(event[key], value, "{key} in {event:#}");
    is("node", "test-node".into());
    is("tenant", "alice".into());
    is("verdict", "denied".into());
    is("reason", "direct_smtp".into());
    is("layer", "connect".into());
    is("uid", 2001.into());
    is("pid", pid.into());
    is("comm", "limiter-sender".into());
    is("cgroup", site.path().into());
    is("interface", "eth0".into());
    is("limit", Value::Null);
    is("repeated", 1.into());
    is("standing", "good".into());
    is("sanction", Value::Null);
    is("until", Value::Null);
    assert_eq!(event["destination"]["address"], OUTSIDE_MX.to_string());
    assert_eq!(event["destination"]["port"], 25);
    assert_eq!(event["source"]["address"], NODE4.to_string());
    let time = event["time"].as_str().expect("a time is text");
    assert!(
        time.starts_with("20") && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
}

#[test]
fn the_program_is_named_while_it_lives() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    // It goes on for a while, so that it can be looked at.
    let flood = stage
        .node
        .sender(2001)
        .flood(mx(false), 40, Duration::from_millis(20));
    assert_eq!(flood.make().refused(), 40);
    let events = agent.all_events("alice");
    let exe = stage.node.sender_program();
    assert_eq!(events[0]["exe"], exe.display().to_string(), "{events:#?}");
    assert!(events[0]["cwd"].is_string(), "{events:#?}");
}

#[test]
fn each_verdict_has_its_reason() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Local);
    assert_eq!(at_once(&stage, 2003, 1, 2), (1, 1));
    let v6 = stage.node.sender(54_321).attempt(mx(true));
    expect(&agent, v6, "(default)", Reached::Refused);

    let event = |tenant: &str| agent.all_events(tenant).remove(0);
    let bob = event("bob");
    assert_eq!(bob["verdict"], "redirected");
    assert_eq!(bob["reason"], "direct_smtp");
    assert_eq!(
        bob["destination"]["address"],
        OUTSIDE_MX.to_string(),
        "where it was to go"
    );
    let carol = event("carol");
    assert_eq!(carol["verdict"], "denied");
    assert_eq!(carol["reason"], "limit");
    assert_eq!(carol["limit"]["owner"], "carol");
    assert_eq!(carol["limit"]["unit"], "connections");
    assert_eq!(carol["limit"]["max"], 1);
    assert_eq!(carol["limit"]["window"], 3_600);
    let nobody = event("(default)");
    assert_eq!(nobody["uid"], 54_321);
    let address: IpAddr = mx(true).ip();
    assert_eq!(nobody["destination"]["address"], address.to_string());
    // All of them together, and in words.
    let all = agent.events(&["--since", "1h"]);
    assert_eq!(repeated(&all), 3);
    let text = agent.must(&["events"]);
    assert!(text.contains("bob") && text.contains("carol"), "{text}");
    // No attempt that went out is a violation.
    assert!(
        all.iter().all(|event| event["verdict"] != "allowed"),
        "{all:#?}"
    );
}

#[test]
fn a_flood_of_refusals_is_summed_up() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let start = std::time::Instant::now();
    assert_eq!(at_once(&stage, 2001, 2, 25_000), (0, 50_000));
    let seconds = start.elapsed().as_secs();
    // Not one more than was refused, not one less, and few lines for it.
    let events = agent.all_events("alice");
    assert_eq!(agent.counter("alice", "denied"), 50_000);
    assert_eq!(repeated(&events), 50_000);
    let most = usize::try_from(seconds).expect("a few") + 3;
    assert!(
        events.len() <= most,
        "{} events in {seconds} s",
        events.len()
    );
    assert_eq!(events[0]["repeated"], 1, "the first is told at once");
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn the_rest_of_a_flood_is_told_when_it_is_over() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    // All within the first second: one is told, and then nobody comes any more.
    assert_eq!(at_once(&stage, 2001, 1, 50), (0, 50));
    wait::until_true("the summary", Duration::from_secs(4), || {
        repeated(&agent.events(&["--tenant", "alice"])) == 50
    });
}

#[test]
fn events_can_be_followed() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let mut command = agent.command();
    command.args(["events", "--follow", "--json", "--tenant", "bob"]);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the product can be started");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            // Nobody listens once the test is over.
            let _ = send.send(line);
        }
    });
    let next = || -> Value {
        let line = receive.recv_timeout(wait::SOON).expect("an event in time");
        serde_json::from_str(&line).expect("a line is an event")
    };
    // Until it listens: the first one that arrives proves it.
    let first = wait::until("the first event", wait::SOON, || {
        assert_eq!(at_once(&stage, 2001, 1, 1), (0, 1));
        assert_eq!(stage.by_uid(2002).make_unexplained(), Reached::Local);
        receive.recv_timeout(Duration::from_millis(1_100)).ok()
    });
    let first: Value = serde_json::from_str(&first).expect("a line is an event");
    assert_eq!(first["tenant"], "bob", "{first:#}");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(stage.by_uid(2002).make_unexplained(), Reached::Local);
    let second = next();
    assert_eq!(second["tenant"], "bob", "{second:#}");
    assert_eq!(second["verdict"], "redirected", "{second:#}");
    assert_eq!(second["standing"], "good", "{second:#}");
    // As it is when it comes, and not as it was at the beginning.
    block(&agent, "bob");
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(stage.by_uid(2002).make_unexplained(), Reached::Refused);
    let third = next();
    assert_eq!(third["standing"], "blocked", "{third:#}");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
}

fn block(agent: &Agent, tenant: &str) {
    let words = ["--sanction", "block_smtp", "--for", "3h"];
    let mut all = vec!["suspend", tenant, "--reason", "phishing site"];
    all.extend(words);
    agent.must(&all);
}

#[test]
fn events_say_how_their_tenants_stand() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2001, 1, 2), (0, 2));
    assert_eq!(stage.by_uid(2002).make_unexplained(), Reached::Local);
    let events = agent.all_events("alice");
    assert!(events.iter().all(|event| event["standing"] == "good"));
    let text = agent.must(&["events"]);
    assert!(!text.contains("standing"), "nothing to tell: {text}");

    block(&agent, "alice");
    let told = |agent: &Agent| {
        let text = agent.must(&["events"]);
        let alice = "\nalice: enforce, standing blocked\n  sanction block_smtp until ";
        assert_eq!(text.matches("standing").count(), 1, "{text}");
        assert!(text.contains(alice), "{text}");
        assert!(text.contains("  why      phishing site"), "{text}");
        assert!(text.contains("  lifted   by "), "{text}");
        assert!(!agent.must(&["events", "--tenant", "bob"]).contains("alice"));
        for event in agent.events(&["--tenant", "alice"]) {
            assert_eq!(event["standing"], "blocked", "{event:#}");
            assert_eq!(event["sanction"], "block_smtp", "{event:#}");
            assert!(event["until"].is_string(), "{event:#}");
        }
    };
    told(&agent);
    // The same without an agent, by what the kernel enforces and the record book says.
    agent.kill_9();
    told(&agent);
}

#[test]
fn a_sender_cannot_write_into_the_report() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    // A program with a name that would move a terminal's cursor, and break a line.
    let script = "import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b'\\x1b[2J\\nevil')
try: socket.create_connection((sys.argv[1], 25), 5)
except PermissionError: sys.exit(7)";
    let mut python = stage.node.user(2001).command("/usr/bin/python3");
    python.args(["-c", script, &OUTSIDE_MX.to_string()]);
    assert_eq!(limiter_tests::process::run(&mut python, "").code, 7);
    let events = agent.all_events("alice");
    assert_eq!(events[0]["comm"], "\u{1b}[2J\nevil", "as it is, in JSON");
    let text = agent.must(&["events"]);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("evil")),
        "{text:?}"
    );
}

#[test]
fn events_survive_a_restart() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2001, 1, 5), (0, 5));
    let before = agent.all_events("alice");
    agent.kill_9();
    agent.run();
    assert_eq!(at_once(&stage, 2001, 1, 5), (0, 5));
    let after = agent.all_events("alice");
    assert_eq!(repeated(&after), 10);
    assert_eq!(after[..before.len()], before[..]);
}
