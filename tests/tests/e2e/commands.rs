//! The product's commands, by their output and their exit codes.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use limiter_tests::{Agent, Config, Reached, mx, process::run, programs};

use crate::stage::{Stage, at_once, expect};

const TENANTS: &str = "
tenant: reseller
limits: [{unit: connections, max: 100, window: 1d}]
---
tenant: alice
parent: reseller
match: {users: [alice]}
---
tenant: carol
direct_smtp: allow
limits: [{unit: connections, max: 5, window: 1h}]
pace: [{unit: connections, every: 1s, burst: 1000}]
match: {users: [carol]}
";

#[test]
fn status_tells_everything_of_a_node() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2001, 1, 3), (0, 3));
    assert_eq!(at_once(&stage, 2003, 1, 7), (5, 2));
    assert_eq!(agent.cli(&["status"]).code, 0);
    let status = agent.status();
    assert_eq!(status["node"], "test-node", "{status:#}");
    assert_eq!(status["mode"], "enforce", "{status:#}");
    assert_eq!(status["healthy"], true, "{status:#}");
    let layers = status["layers"].as_array().expect("a list");
    let connect = layers
        .iter()
        .find(|layer| layer["layer"] == "connect")
        .expect("the connect layer");
    assert_eq!(connect["attached"], true, "{status:#}");

    let alice = agent.tenant("alice");
    assert_eq!(alice["parent"], "reseller", "{alice:#}");
    assert_eq!(alice["standing"], "good", "{alice:#}");
    assert!(
        alice["sanction"].is_null() && alice["until"].is_null(),
        "{alice:#}"
    );
    assert_eq!(alice["denied"], 3, "{alice:#}");
    let carol = agent.tenant("carol");
    assert_eq!(carol["allowed"], 5, "{carol:#}");
    assert_eq!(carol["denied"], 2, "{carol:#}");
    let hourly = &carol["usage"][0];
    assert_eq!(hourly["unit"], "connections", "{carol:#}");
    assert_eq!(hourly["max"], 5, "{carol:#}");
    assert_eq!(hourly["window"], 3_600, "{carol:#}");
    assert_eq!(hourly["used"], 5, "{carol:#}");

    let one = agent.must(&["status", "carol"]);
    assert!(one.contains("carol") && !one.contains("alice"), "{one}");
    assert_ne!(agent.cli(&["status", "nobody-of-this-name"]).code, 0);
}

#[test]
fn check_shows_what_would_be_loaded_or_every_fault() {
    let stage = Stage::new();
    let agent = Agent::configured(&stage.node, &Config::new("mode: enforce", TENANTS));
    let said = agent.must(&["check"]);
    assert!(said.contains('3'), "how many tenants: {said}");

    agent.write_main("mode: sometimes\nunknown_key: 1\nports: {smtp: [0]}");
    agent.write_tenants(
        "tenants.yaml",
        "tenant: alice\nmatch: {users: [alice], uids: [2001-1999]}\nlimits: [{unit: bytes, max: 99999999999, window: 0s}]\n",
    );
    let out = agent.cli(&["check"]);
    assert_eq!(out.code, 2, "{out:?}");
    let said = format!("{}{}", out.stdout, out.stderr);
    for wanted in [
        "limiter.yaml:9:", // mode
        "sometimes",
        "limiter.yaml:10:", // unknown_key
        "unknown_key",
        "limiter.yaml:11:", // ports
        "tenants.yaml:2:",
        "2001-1999",
        "tenants.yaml:3:",
        "bytes",
        "99999999999",
        "0s",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is missing in:\n{said}");
    }
    // It loads nothing.
    assert_eq!(agent.pins(), Vec::<std::path::PathBuf>::new());
    assert_eq!(stage.by_uid(2001).make_unexplained(), Reached::Outside);
}

#[test]
fn commands_without_an_agent() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    assert_eq!(at_once(&stage, 2003, 1, 4), (4, 0));
    agent.term();
    let status = agent.status();
    assert!(status["agent"].is_null(), "{status:#}");
    assert_eq!(agent.used("carol", 0), 4);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Outside);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Refused);
    agent.must(&["check"]);
    agent.must(&["doctor"]);
    // These have nobody to talk to, and say so.
    for command in [["reload"].as_slice(), &["observe", "--for", "1m"]] {
        let out = agent.cli(command);
        assert_eq!(out.code, 1, "{command:?}: {out:?}");
        let place = agent.control_socket().display().to_string();
        assert!(out.stderr.contains(&place), "{command:?}: {out:?}");
    }
    agent.must(&["detach"]);
    assert_eq!(agent.cli(&["status"]).code, 1, "nothing is attached");
}

#[test]
fn wrong_usage_is_2() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let to = mx(false).to_string();
    for wrong in [
        ["frobnicate"].as_slice(),
        &["status", "--frobnicate"],
        &["explain", "--to", &to],
        &["explain", "--uid", "2001"],
        &["explain", "--uid", "minus one", "--to", &to],
        &["explain", "--uid", "2001", "--to", "nowhere"],
        &["observe", "alice", "--for", "soon"],
    ] {
        let out = agent.cli(wrong);
        assert_eq!(out.code, 2, "{wrong:?}: {out:?}");
        assert!(!out.stderr.is_empty(), "{wrong:?}");
    }
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
}

#[test]
fn the_control_socket_is_for_root_and_the_group_limiter() {
    let stage = Stage::new();
    stage.node.etc().add_user("limiter", 1_999);
    let agent = stage.agent("mode: enforce", TENANTS);
    let socket = fs::metadata(agent.control_socket()).expect("it is there");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o777, 0o660);
    assert_eq!((socket.uid(), socket.gid()), (0, 1_999));
    let limiter = agent.home().join("limiter");
    programs::copy(&programs::limiter(), &limiter, 0o755);
    let status = |uid| {
        let mut command = stage.node.user(uid).command(&limiter);
        command.arg("--control").arg(agent.control_socket());
        command.arg("--config").arg(agent.main_file());
        run(command.args(["reload"]), "")
    };
    // Alice is neither; whose group is limiter's may.
    let out = status(2001);
    assert_ne!(out.code, 0, "{out:?}");
    let out = status(1_999);
    assert_eq!(out.code, 0, "{out:?}");
}

#[test]
fn the_control_socket_speaks_http() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let mut curl = stage.node.root().command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--unix-socket"]);
    curl.arg(agent.control_socket())
        .arg("http://limiter/v1/status");
    let out = run(&mut curl, "").success("curl");
    let status: serde_json::Value = serde_json::from_str(&out.stdout).expect("it is JSON");
    assert_eq!(status["node"], "test-node", "{status:#}");
}

#[test]
fn doctor_says_what_the_kernel_offers() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let text = agent.must(&["doctor"]);
    assert!(text.contains("connect"), "{text}");
    let json = agent.must(&["doctor", "--json"]);
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json);
    assert!(parsed.is_ok(), "{json}");
}

#[test]
fn human_actions_are_on_record() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    agent.must(&[
        "observe",
        "alice",
        "--for",
        "1s",
        "--reason",
        "the newsletter",
    ]);
    let file = agent.state_directory().join("audit.jsonl");
    let text = fs::read_to_string(file).expect("there is a record");
    let last = text.lines().last().expect("with a line an action");
    let last: serde_json::Value = serde_json::from_str(last).expect("a line is JSON");
    assert_eq!(last["action"], "observe", "{last:#}");
    assert_eq!(last["arguments"]["tenant"], "alice", "{last:#}");
    assert_eq!(last["by"]["uid"], 0, "{last:#}");
    assert_eq!(last["reason"], "the newsletter", "{last:#}");
    assert!(last["time"].is_string(), "{last:#}");
}
