//! Sanctions as an operator sets them: in force when the command returns, for everybody below, in
//! observe mode too, ending on time with nobody there, and touching no neighbour.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Attempt, Config, Guest, Node, Reached, Sink, Wiring, mx, wait};
use serde_json::Value;

use crate::stage::{Stage, expect};

const TENANTS: &str = "
tenant: reseller
---
tenant: alice
parent: reseller
direct_smtp: allow
match: {users: [alice]}
---
tenant: bob
parent: reseller
direct_smtp: allow
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
";

/// An attempt of a user to reach a port of the server outside.
fn to_port(stage: &Stage, uid: u32, port: u16, v6: bool) -> Attempt<'_> {
    let to = SocketAddr::new(mx(v6).ip(), port);
    stage.node.sender(uid).attempt(to)
}

fn out(said: &str) -> Value {
    serde_json::from_str(said).expect("JSON")
}

fn audit(agent: &Agent) -> Vec<Value> {
    let text = fs::read_to_string(agent.state_directory().join("audit.jsonl"));
    let text = text.expect("there is an audit log");
    text.lines().map(out).collect()
}

#[test]
fn a_suspended_network_reaches_nothing_and_the_neighbour_everything() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let said = agent.must(&[
        "suspend",
        "alice",
        "--for",
        "24h",
        "--reason",
        "phishing site",
        "--json",
    ]);
    let said = out(&said);
    assert_eq!(said["sanction"], "suspend_network", "{said:#}");
    assert_eq!(said["tenants"], 1, "{said:#}");
    for v6 in [false, true] {
        for port in [25, 587, 993, 80, 2525] {
            let attempt = |uid| to_port(&stage, uid, port, v6);
            expect(&agent, attempt(2001), "alice", Reached::Refused);
            expect(&agent, attempt(2002), "bob", Reached::Outside);
            expect(&agent, attempt(2003), "carol", Reached::Outside);
        }
    }
    let to = SocketAddr::new(mx(false).ip(), 80).to_string();
    let explained = agent.explain(&["--uid", "2001", "--to", &to]);
    assert_eq!(explained["rule"], "sanction", "{explained:#}");
    assert_eq!(explained["reason"], "suspended", "{explained:#}");
    let because = explained["because"].as_str().expect("words");
    assert!(because.contains("suspend_network until 20"), "{because}");
    let events = agent.all_events("alice");
    assert!(
        events
            .iter()
            .all(|event| event["reason"] == "suspended" && event["layer"] == "connect"),
        "{events:#?}"
    );

    let alice = agent.tenant("alice");
    assert_eq!(alice["standing"], "suspended", "{alice:#}");
    assert_eq!(alice["sanction"], "suspend_network", "{alice:#}");
    assert_eq!(alice["until"], said["until"], "{alice:#}");
    assert_eq!(agent.tenant("bob")["standing"], "good");
    let text = agent.must(&["status", "alice"]);
    assert!(text.contains("sanction suspend_network until 20"), "{text}");

    let said = agent.must(&["reinstate", "alice", "--reason", "cleaned up", "--json"]);
    assert_eq!(out(&said)["lifted"][0], "suspend_network");
    for port in [25, 80] {
        expect(
            &agent,
            to_port(&stage, 2001, port, false),
            "alice",
            Reached::Outside,
        );
    }
    assert_eq!(agent.tenant("alice")["standing"], "good");

    let audit = audit(&agent);
    let actions: Vec<_> = audit.iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["suspend", "reinstate"]);
    assert_eq!(audit[0]["reason"], "phishing site");
    assert_eq!(audit[0]["by"]["uid"], 0);
    assert_eq!(audit[0]["arguments"]["for"], 86_400);
    assert_eq!(audit[1]["reason"], "cleaned up");
}

#[test]
fn a_resellers_sanction_is_its_customers_too() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let suspend = [
        "suspend",
        "reseller",
        "--sanction",
        "suspend_mail",
        "--reason",
        "unpaid",
    ];
    let said = agent.must(&suspend);
    assert!(
        said.contains("without end, and 2 tenants below it"),
        "{said}"
    );
    for (port, reached) in [
        (25, Reached::Refused),
        (993, Reached::Refused),
        (80, Reached::Outside),
    ] {
        expect(&agent, to_port(&stage, 2001, port, false), "alice", reached);
        expect(
            &agent,
            to_port(&stage, 2003, port, false),
            "carol",
            Reached::Outside,
        );
    }
    let text = agent.must(&["status", "alice"]);
    let words = "sanction suspend_mail without end, inherited from reseller";
    assert!(text.contains(words), "{text}");
    // A customer cannot be let out of it alone.
    let refused = agent.cli(&["reinstate", "alice", "--reason", "please"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stdout.contains("inherited from reseller"),
        "{refused:?}"
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);

    // Who becomes its customer inherits at once; who leaves is free.
    agent.write_tenants(
        "tenants.yaml",
        &TENANTS
            .replace("tenant: alice\nparent: reseller", "tenant: alice")
            .replace("tenant: carol", "tenant: carol\nparent: reseller"),
    );
    agent.must(&["reload"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Refused);
    agent.must(&["reinstate", "reseller", "--reason", "paid"]);
    expect(&agent, stage.by_uid(2003), "carol", Reached::Outside);
}

#[test]
fn it_ends_on_time_with_no_agent_and_is_known_without_one() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let start = Instant::now();
    let block = [
        "suspend",
        "alice",
        "--sanction",
        "block_smtp",
        "--for",
        "6s",
        "--reason",
        "spam",
    ];
    agent.must(&block);
    agent.must(&[
        "suspend",
        "carol",
        "--sanction",
        "null_route",
        "--reason",
        "botnet",
    ]);
    agent.kill_9();
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(
        &agent,
        to_port(&stage, 2001, 80, false),
        "alice",
        Reached::Outside,
    );
    expect(
        &agent,
        to_port(&stage, 2003, 80, false),
        "carol",
        Reached::Refused,
    );
    let alice = agent.tenant("alice");
    assert_eq!(alice["standing"], "blocked", "{alice:#}");
    assert!(alice["until"].is_string(), "{alice:#}");
    let carol = agent.tenant("carol");
    assert_eq!(carol["sanction"], "null_route", "{carol:#}");
    assert!(carol["until"].is_null(), "{carol:#}");
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "this machine is too slow"
    );
    thread::sleep(Duration::from_millis(7_100).saturating_sub(start.elapsed()));
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    assert_eq!(agent.tenant("alice")["standing"], "good");
    // Nobody can be sanctioned without an agent, and that is said.
    let refused = agent.cli(&["reinstate", "carol", "--reason", "why not"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    agent.run();
    expect(
        &agent,
        to_port(&stage, 2003, 80, false),
        "carol",
        Reached::Refused,
    );
    agent.must(&["reinstate", "carol", "--reason", "reinstalled"]);
    expect(
        &agent,
        to_port(&stage, 2003, 80, false),
        "carol",
        Reached::Outside,
    );
}

#[test]
fn it_holds_in_observe_mode_but_not_while_opened() {
    let stage = Stage::new();
    let agent = stage.agent("mode: observe", TENANTS);
    agent.must(&["suspend", "alice", "--reason", "malware"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Outside);
    agent.must(&["observe", "--for", "1h"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
    // Whoever suspends somebody now is told that it does not hold.
    let said = agent.must(&["suspend", "bob", "--reason", "malware"]);
    assert!(said.contains("not carried out yet: opened until"), "{said}");
    agent.must(&["observe", "--end"]);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
}

/// So often it was told that `tenant` would be refused, by one layer, and it stays so.
#[track_caller]
fn would_be_refused(agent: &Agent, tenant: &str, times: u64, layer: &str) {
    let what = format!("{times} attempts of {tenant} that would be refused");
    wait::until_true(&what, wait::SOON, || {
        agent.counter(tenant, "would_deny") >= times
    });
    wait::stays_true(&what, Duration::from_millis(500), || {
        agent.counter(tenant, "would_deny") == times
    });
    assert_eq!(agent.counter(tenant, "denied"), 0);
    let events = agent.all_events(tenant);
    assert!(
        events
            .iter()
            .all(|event| event["verdict"] == "would_deny" && event["layer"] == layer),
        "{events:#?}"
    );
    let sum: u64 = events.iter().filter_map(|it| it["repeated"].as_u64()).sum();
    assert_eq!(sum, times, "{events:#?}");
}

#[test]
fn while_opened_each_attempt_counts_once() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let ports = [25, 587, 993, 80];
    for sanction in ["suspend_network", "null_route"] {
        let tenant = if sanction == "null_route" {
            ("bob", 2002)
        } else {
            ("alice", 2001)
        };
        let (name, uid) = tenant;
        agent.must(&["suspend", name, "--sanction", sanction, "--reason", "spam"]);
        agent.must(&["observe", name, "--for", "1h"]);
        for v6 in [false, true] {
            for port in ports {
                expect(
                    &agent,
                    to_port(&stage, uid, port, v6),
                    name,
                    Reached::Outside,
                );
            }
        }
        would_be_refused(&agent, name, 8, "connect");
        agent.must(&["observe", name, "--end"]);
        expect(&agent, stage.by_uid(uid), name, Reached::Refused);
        assert_eq!(agent.counter(name, "would_deny"), 8);
        assert_eq!(agent.counter(name, "denied"), 1);
    }
}

#[test]
fn while_opened_each_attempt_of_a_container_counts_once() {
    let node = Node::new();
    let outside = Sink::mail(node.outside(), &[25], "outside.example");
    let boxed = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let tenants = format!(
        "
tenant: boxed
direct_smtp: allow
match: {{interfaces: [{}], cgroups: [{}]}}
",
        boxed.interface(),
        boxed.cgroup().path()
    );
    let config = Config::new("mode: enforce", &tenants)
        .attached_also("guests: [\"veth*\"], uplinks: [eth0]");
    let agent = Agent::start(&node, &config);
    let mail = ["suspend", "boxed", "--sanction", "suspend_mail"];
    agent.must(&[&mail[..], &["--reason", "spam"]].concat());
    agent.must(&["observe", "boxed", "--for", "1h"]);
    for _ in 0..3 {
        let attempt = boxed.sender().attempt(mx(false));
        assert_eq!(attempt.start().go().finish().connected, 1);
    }
    would_be_refused(&agent, "boxed", 3, "guest");
    // Nor do packets escape that no connect saw.
    let report = boxed.packets(false).message().make();
    assert_eq!(
        report.ended,
        limiter_tests::packets::Ended::Served,
        "{report:?}"
    );
    would_be_refused(&agent, "boxed", 4, "guest");
    drop(outside);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    for (code, wrong) in [
        (2, ["suspend", "alice"].as_slice()),
        (2, &["suspend", "alice", "--reason", " "]),
        (2, &["suspend", "alice", "--reason", "x", "--for", "0"]),
        (2, &["suspend", "alice", "--reason", "x", "--for", "4000d"]),
        (
            2,
            &["suspend", "alice", "--reason", "x", "--sanction", "warn"],
        ),
        (2, &["suspend", "(node)", "--reason", "x"]),
        (2, &["suspend", "(default)", "--reason", "x"]),
        (1, &["suspend", "mallory", "--reason", "x"]),
        (2, &["reinstate", "(node)", "--reason", "x"]),
        (1, &["reinstate", "mallory", "--reason", "x"]),
    ] {
        let refused = agent.cli(wrong);
        assert_eq!(refused.code, code, "{wrong:?}: {refused:?}");
        assert!(!refused.stderr.is_empty(), "{wrong:?}");
    }
    for user in [2001, 2002, 2003] {
        let (reached, _) = stage.by_uid(user).judge(&agent);
        assert_eq!(reached, Reached::Outside);
    }
    let tried = audit(&agent);
    assert!(tried.iter().all(|line| line["done"] == false), "{tried:#?}");
    let block = [
        "suspend",
        "(default)",
        "--sanction",
        "block_smtp",
        "--reason",
        "x",
    ];
    agent.must(&block);
    // Nobody's traffic, and nobody else's.
    let to = mx(false).to_string();
    assert_eq!(
        agent.explain(&["--uid", "54321", "--to", &to])["rule"],
        "sanction"
    );
    expect(&agent, stage.by_uid(2001), "alice", Reached::Outside);
}

#[test]
fn guests_and_addresses_are_explained() {
    let stage = Stage::new();
    let agent = stage.agent("mode: enforce", TENANTS);
    let to = mx(false).to_string();
    let guest = agent.explain(&["--interface", "eth0", "--to", &to]);
    assert_eq!(guest["layer"], "guest", "{guest:#}");
    assert_eq!(guest["tenant"], "(default)", "{guest:#}");
    assert_eq!(guest["rule"], "direct_smtp", "{guest:#}");
    let from = agent.explain(&["--from", "192.0.2.2", "--to", &to]);
    assert_eq!(from["layer"], "uplink", "{from:#}");
    assert_eq!(from["tenant"], "(default)", "{from:#}");
    let missing = agent.cli(&["explain", "--interface", "nosuch0", "--to", &to]);
    assert_eq!(missing.code, 1, "{missing:?}");
}
