//! Cases as people see and decide them: what an operator adds to a record is in force in the kernel
//! when the command returns, and is told the same by an agent, by the next one, and by none.

use std::{net::SocketAddr, path::Path, time::Duration};

use limiter_tests::{Agent, Attempt, Reached, mx, wait};
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
direct_smtp: allow
match: {users: [bob]}
---
tenant: watched
mode: observe
direct_smtp: allow
match: {users: [carol]}
";

/// A node on which one of the shipped policies binds everybody.
fn bound<'n>(stage: &'n Stage, policy: &str) -> Agent<'n> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let file = file.join(policy).canonicalize().expect("it is shipped");
    let main = format!("mode: enforce\npolicies: ['{}']", file.display());
    stage.agent(&main, TENANTS)
}

/// An attempt to submit mail to the server outside: what no plan of the shipped policies forbids.
fn by<'s>(stage: &'s Stage, uid: u32) -> Attempt<'s> {
    let to = SocketAddr::new(mx(false).ip(), 587);
    stage.node.sender(uid).attempt(to)
}

fn json(agent: &Agent, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    let said = agent.must(&all);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{all:?}: {error}\n{said}"))
}

fn severe(agent: &Agent) -> Value {
    json(
        agent,
        &[
            "offence",
            "add",
            "alice",
            "--severity",
            "severe",
            "--reason",
            "an <b>open relay</b>",
        ],
    )
}

/// What all who look are told while alice's case is open.
fn tells_of_the_case(stage: &Stage, agent: &Agent) {
    expect(agent, by(stage, 2001), "alice", Reached::Refused);
    expect(agent, by(stage, 2002), "bob", Reached::Outside);
    let cases = json(agent, &["case", "list"]);
    assert_eq!(cases.as_array().map(Vec::len), Some(1), "{cases:#}");
    assert_eq!(cases[0]["case"], "hostup/1", "{cases:#}");
    assert_eq!(cases[0]["state"], "open", "{cases:#}");
    assert_eq!(cases[0]["sanction"], "suspend_network", "{cases:#}");
    let case = json(agent, &["case", "show", "alice", "hostup/1"]);
    assert_eq!(case["severity"], "severe", "{case:#}");
    assert_eq!(case["holds"][0]["state"], "in_force", "{case:#}");
    let heard = &case["heard"][0];
    assert_eq!(heard["kind"], "offence", "{case:#}");
    assert_eq!(heard["reason"], "an <b>open relay</b>", "{case:#}");
    assert!(
        heard["by"].as_str().is_some_and(|by| by.contains("uid 0")),
        "{case:#}"
    );
    let alice = agent.tenant("alice");
    assert_eq!(alice["standing"], "suspended", "{alice:#}");
    assert_eq!(alice["sanction"], "suspend_network", "{alice:#}");
    let reason = alice["reason"].as_str().expect("a reason");
    assert!(reason.contains("hostup/1"), "{reason}");
    let lift = alice["lift"].as_str().expect("a rule");
    assert!(lift.contains("limiter reinstate alice"), "{lift}");
    let next: Vec<_> = alice["next"].as_array().into_iter().flatten().collect();
    assert!(
        next.iter()
            .any(|step| step["severity"] == "critical" && step["sanction"] == "null_route"),
        "{alice:#}"
    );
    let text = agent.must(&["case", "show", "alice", "hostup/1"]);
    for words in ["lifted by a review", "what follows:", "told:", "charges:"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn an_offence_takes_hold_is_told_and_is_closed_by_a_review() {
    let stage = Stage::new();
    let agent = bound(&stage, "hostup.yaml");
    expect(&agent, by(&stage, 2001), "alice", Reached::Outside);
    assert_eq!(json(&agent, &["case", "list"]), serde_json::json!([]));

    let added = severe(&agent);
    assert_eq!(added["opened"][0], "hostup/1", "{added:#}");
    assert_eq!(added["applied"][0], "suspend_network", "{added:#}");
    assert_eq!(added["owed"], serde_json::json!([]), "{added:#}");
    tells_of_the_case(&stage, &agent);
    agent.must(&[
        "case",
        "note",
        "alice",
        "hostup/1",
        "called twice, no answer",
    ]);
    // With nobody there, and with the next one.
    agent.kill_9();
    tells_of_the_case(&stage, &agent);
    let report = agent.must(&["report", "alice"]);
    assert!(report.contains("called twice, no answer"), "{report}");
    agent.run();
    tells_of_the_case(&stage, &agent);

    // Words that this policy does not lift by.
    for word in ["acknowledge", "contact"] {
        let said = json(&agent, &[word, "alice", "--reason", "by telephone"]);
        assert_eq!(said["lifted"], serde_json::json!([]), "{said:#}");
    }
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
    agent.must(&["reinstate", "alice", "--reason", "relay closed"]);
    expect(&agent, by(&stage, 2001), "alice", Reached::Outside);
    assert_eq!(json(&agent, &["case", "list"]), serde_json::json!([]));
    let cases = json(&agent, &["case", "list", "--all"]);
    assert_eq!(cases[0]["state"], "closed", "{cases:#}");
    assert_eq!(agent.tenant("alice")["standing"], "good");
    // A repeat would be the end, and that is said.
    let next = agent.tenant("alice")["next"].clone();
    assert_eq!(next[0]["sanction"], "terminate", "{next:#}");

    reported(&agent);
    agent.kill_9();
    reported(&agent);
    audited(&agent);

    // It was wrong after all: it counts no more, and that is kept.
    agent.run();
    let acquit = &[
        "case",
        "close",
        "alice",
        "hostup/1",
        "--acquit",
        "--reason",
        "our own scan",
    ];
    let said = agent.must(acquit);
    assert!(
        said.contains("case hostup/1 was wrong: it counts no more"),
        "{said}"
    );
    let case = json(&agent, &["case", "show", "alice", "hostup/1"]);
    assert_eq!(case["state"], "void", "{case:#}");
    let next = agent.tenant("alice")["next"].clone();
    assert!(!next.to_string().contains("terminate"), "{next:#}");
    assert_eq!(agent.cli(acquit).code, 1, "it is void already");
}

/// The report in all its forms.
fn reported(agent: &Agent) {
    let report = json(agent, &["report", "alice", "--since", "1h"]);
    assert_eq!(report["parent"], "reseller", "{report:#}");
    assert_eq!(report["cases"][0]["case"], "hostup/1", "{report:#}");
    assert_eq!(report["sanctions"][0]["sanction"], "suspend_network");
    assert!(report["sanctions"][0]["lifted"].is_string(), "{report:#}");
    assert!(report["counters"]["denied"].as_u64() > Some(0));
    assert!(report["charges"][0]["cause"].is_string(), "{report:#}");
    let words: Vec<_> = report["heard"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|heard| heard["kind"] == "word")
        .filter_map(|heard| heard["reason"].as_str())
        .collect();
    assert_eq!(words, ["by telephone", "by telephone", "relay closed"]);
    let text = agent.must(&["report", "alice"]);
    assert!(
        text.contains("EVIDENCE REPORT: alice on test-node"),
        "{text}"
    );
    assert!(text.contains("REMARKS"), "{text}");
    let html = agent.must(&["report", "alice", "--format", "html"]);
    assert!(html.contains("&lt;b&gt;open relay&lt;/b&gt;"), "{html}");
    assert!(!html.contains("<b>") && !html.contains("<script"), "{html}");
    assert!(!html.contains("http://") && !html.contains("https://"));
}

fn audited(agent: &Agent) {
    let text = std::fs::read_to_string(agent.state_directory().join("audit.jsonl"));
    let text = text.expect("there is an audit log");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let actions: Vec<_> = lines.iter().map(|line| &line["action"]).collect();
    assert_eq!(
        actions,
        [
            "offence add",
            "case note",
            "acknowledge",
            "contact",
            "reinstate"
        ]
    );
    for line in &lines {
        assert_eq!(line["by"]["uid"], 0, "{line}");
        assert!(line["reason"].is_string() && line["done"] == true, "{line}");
    }
}

#[test]
fn a_proposal_waits_at_the_top_until_somebody_decides() {
    let stage = Stage::new();
    let agent = bound(&stage, "hostup.yaml");
    let added = json(
        &agent,
        &[
            "offence",
            "add",
            "alice",
            "--severity",
            "critical",
            "--reason",
            "botnet",
        ],
    );
    assert_eq!(added["applied"][0], "suspend_network", "{added:#}");
    let text = agent.must(&["status"]);
    assert!(text.starts_with("?? null_route of alice waits"), "{text}");
    let status = agent.status();
    let proposal = &status["proposals"][0];
    assert_eq!(proposal["case"], "hostup/1", "{status:#}");
    assert!(proposal["deadline"].is_string(), "{status:#}");
    assert_eq!(agent.tenant("alice")["deadline"], proposal["deadline"]);
    // What makes no sense is refused.
    let decide = |what, case, more: &[&str]| {
        let mut all = vec!["case", what, "alice", case, "--reason", "seen"];
        all.extend(more);
        agent.cli(&all)
    };
    let wrong = decide("confirm", "hostup/1", &["--sanction", "warn"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("--sanction null_route"), "{wrong:?}");
    assert_eq!(decide("confirm", "hostup/7", &[]).code, 1);
    // A review ends no proposal, and says so.
    let open = decide("close", "hostup/1", &[]);
    assert_eq!(open.code, 1, "{open:?}");
    let confirmed = decide("confirm", "hostup/1", &["--json"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let confirmed: Value = serde_json::from_str(&confirmed.stdout).expect("JSON");
    let applied = confirmed["applied"].to_string();
    assert!(applied.contains("null_route"), "{confirmed:#}");
    // It was the last step but one: the next waits for somebody again.
    let status = agent.status();
    assert_eq!(status["proposals"][0]["sanction"], "terminate");
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
    // An operator's own sanction would end with the case, so that is asked for.
    agent.must(&[
        "suspend",
        "alice",
        "--sanction",
        "block_smtp",
        "--reason",
        "unpaid",
    ]);
    let more = decide("close", "hostup/1", &["--acquit"]);
    assert_eq!(more.code, 1, "{more:?}");
    assert!(more.stderr.contains("block_smtp"), "{more:?}");
    let closed = decide("close", "hostup/1", &["--acquit", "--others"]);
    assert_eq!(closed.code, 0, "{closed:?}");
    expect(&agent, by(&stage, 2001), "alice", Reached::Outside);
    let cases = json(&agent, &["case", "list", "--all"]);
    assert_eq!(cases[0]["state"], "void", "{cases:#}");
    assert_eq!(agent.status()["proposals"], serde_json::json!([]));
}

#[test]
fn a_warning_a_listing_and_what_is_only_observed() {
    let stage = Stage::new();
    let agent = bound(&stage, "hostup.yaml");
    let add = |tenant, more: &[&str]| {
        let mut all = vec!["offence", "add", tenant, "--reason", "seen", "--json"];
        all.extend(more);
        agent.cli(&all)
    };
    assert_eq!(add("bob", &["--severity", "minor"]).code, 0);
    let bob = agent.tenant("bob");
    assert_eq!(bob["standing"], "warned", "{bob:#}");
    assert_eq!(bob["sanction"], "warn", "{bob:#}");
    assert!(bob["until"].is_string(), "{bob:#}");
    expect(&agent, by(&stage, 2002), "bob", Reached::Outside);
    let to = mx(false).to_string();
    let explained = agent.explain(&["--uid", "2002", "--to", &to]);
    assert_eq!(explained["standing"], "warned", "{explained:#}");
    assert_eq!(explained["holds"][0]["case"], "hostup/1", "{explained:#}");

    let listing = ["--listing", "spamhaus", "--address", "192.0.2.2", "--force"];
    let foreign = add("alice", &["--listing", "spamhaus", "--address", "8.8.8.8"]);
    assert_eq!(foreign.code, 1, "{foreign:?}");
    assert!(foreign.stderr.contains("--force"), "{foreign:?}");
    assert_eq!(add("alice", &listing).code, 0);
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
    let again = add("alice", &listing);
    assert!(again.stdout.contains("\"duplicate\":true"), "{again:?}");

    assert_eq!(add("watched", &["--severity", "severe"]).code, 0);
    expect(&agent, by(&stage, 2003), "watched", Reached::Outside);
    let watched = agent.tenant("watched");
    assert_eq!(watched["standing"], "good", "{watched:#}");
    assert_eq!(watched["holds"][0]["state"], "observed", "{watched:#}");
    assert_eq!(agent.status()["proposals"], serde_json::json!([]));
    // Whoever looks is told that nothing of it is carried out.
    for (command, words) in [
        (&["status", "watched"][..], "it is only observed"),
        (&["case", "list"], "suspend_network only observed"),
        (
            &["case", "show", "watched", "hostup/1"],
            "suspend_network only observed, not in force",
        ),
        (&["report", "watched"], "nothing of it carried out"),
    ] {
        let said = agent.must(command);
        assert!(said.contains(words), "{command:?}: {said}");
    }

    // No policy of this node speaks of bounces but by rate.
    assert_eq!(add("bob", &["--soft-bounces", "3"]).code, 0);
    for wrong in [&["--severity", "dire"][..], &["--hard-bounces", "0"], &[]] {
        assert_eq!(add("bob", wrong).code, 2, "{wrong:?}");
    }
    let nobody = add("mallory", &["--severity", "severe"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.stderr.contains("limiter status --all"), "{nobody:?}");
    assert_eq!(agent.cli(&["report", "mallory"]).code, 1);
    // Who is no tenant any more may still be looked at.
    let (first, rest) = TENANTS.split_once("---").expect("several");
    let (_, others) = rest.split_once("---").expect("several");
    agent.write_tenants("tenants.yaml", &format!("{first}---{others}"));
    agent.must(&["reload"]);
    let report = wait::until("the court to know", wait::SOON, || {
        let report = json(&agent, &["report", "alice"]);
        (report["known"] == false).then_some(report)
    });
    assert_eq!(report["cases"][0]["case"], "hostup/1", "{report:#}");
    let word = agent.cli(&["contact", "alice", "--reason", "by telephone"]);
    assert_eq!(word.code, 1, "{word:?}");
}

#[test]
fn whoever_is_taken_out_of_the_files_while_suspended_is_named() {
    let stage = Stage::new();
    let agent = bound(&stage, "hostup.yaml");
    severe(&agent);
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
    agent.write_tenants("tenants.yaml", "tenant: bob\nmatch: {users: [bob]}\n");
    // Before it is done, and when it is.
    for command in ["check", "reload"] {
        let said = agent.must(&[command]);
        for words in [
            "\"alice\" is under suspend_network, has open cases (hostup/1)",
            "NOT in force",
            "put the tenant back",
        ] {
            assert!(said.contains(words), "{command}: {words}: {said}");
        }
    }
    // What it says is so.
    expect(&agent, by(&stage, 2001), "(default)", Reached::Outside);
    let status = agent.must(&["status"]);
    assert!(status.contains("\"alice\" (suspend_network)"), "{status}");
    // Back again, she is where she was.
    agent.write_tenants("tenants.yaml", TENANTS);
    let said = agent.must(&["reload"]);
    assert!(!said.contains("NOT in force"), "{said}");
    wait::until_true("alice is suspended again", Duration::from_secs(10), || {
        agent.tenant("alice")["sanction"] == "suspend_network"
    });
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
}

#[test]
fn a_sanction_while_the_gate_is_open_is_told_as_not_carried_out() {
    let stage = Stage::new();
    let agent = bound(&stage, "hostup.yaml");
    agent.must(&["observe", "alice", "--for", "30m"]);
    let arguments = ["offence", "add", "alice", "--severity", "severe"];
    let said = agent.must(&[&arguments[..], &["--reason", "relay"]].concat());
    assert!(said.contains("not carried out yet: opened until"), "{said}");
    expect(&agent, by(&stage, 2001), "alice", Reached::Outside);
    let said = agent.must(&["status"]);
    assert!(said.contains("(suspended)"), "{said}");
    assert!(said.contains("in brackets: on record"), "{said}");
    let said = agent.must(&["status", "alice"]);
    assert!(said.contains("not carried out until then"), "{said}");
    let to = mx(false).to_string();
    let said = agent.must(&["explain", "--uid", "2001", "--to", &to]);
    assert!(said.contains("not carried out until then"), "{said}");
    agent.must(&["observe", "alice", "--end"]);
    expect(&agent, by(&stage, 2001), "alice", Reached::Refused);
    let said = agent.must(&["status"]);
    assert!(
        said.contains("SUSPENDED") && !said.contains("in brackets"),
        "{said}"
    );
}
