//! Reports of abuse: whose mail they are about is proved by what the kernel saw, each counts once
//! whatever happens meanwhile, and what is not clear waits for a person.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use limiter_tests::{Agent, Config, Guest, Node, OUTSIDE_MX, Reached, Wiring, mx, process, wait};
use limiter_user::{
    ledger::Ledger,
    offence::Moment,
    report::{attempt::AttemptRecord, store::Reader},
};
use serde_json::Value;

use crate::stage::{Stage, expect};

const TENANTS: &str = "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
---
tenant: dave
direct_smtp: allow
match: {users: [dave], addresses: [198.51.100.99]}
";

const POLICY: &str = "
policy: reports
offences:
  - {when: {complaints: {at_least: 1, in: 24h}}, severity: minor}
forget_after: 365d
steps:
  - {severity: minor, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
complaints:
  require: [headers]
  acknowledge_within: 8h
  act_within: 24h
";

const MAIN: &str = "
mode: enforce
policies: [reports.yaml]
complaints: {maildir: reports, authserv_ids: [mx.node.example], reporters: [example]}
notices: null
";

/// The Maildir of an agent.
fn reports(agent: &Agent) -> PathBuf {
    agent.home().join("reports")
}

fn make(maildir: &Path) {
    for name in ["new", "cur", "tmp"] {
        fs::create_dir_all(maildir.join(name)).expect("the directory is ours");
    }
}

fn agent(node: &Node) -> Agent<'_> {
    let agent = Agent::configured(node, &Config::new(MAIN, TENANTS));
    fs::write(agent.home().join("reports.yaml"), POLICY).expect("the directory is ours");
    make(&reports(&agent));
    agent.run();
    agent
}

/// Has a user connect to the server outside, and waits until that is recorded.
fn send(stage: &Stage, agent: &Agent, uid: u32, tenant: &str) {
    let attempt = stage.node.sender(uid).attempt(mx(false));
    expect(agent, attempt, tenant, Reached::Outside);
    recorded(agent, |attempt| attempt.tenant.as_deref() == Some(tenant));
}

/// Waits until an attempt is recorded.
fn recorded(agent: &Agent, what: impl Fn(&AttemptRecord) -> bool) {
    wait::until_true("the attempt to be recorded", wait::SOON, || {
        let attempts = Reader::new(&agent.state_directory()).attempts(None, None);
        let mut attempts = attempts.into_iter().flatten().flatten();
        attempts.any(|attempt| what(&attempt))
    });
}

/// A report that a mail arrived just now.
struct Arf<'a> {
    from: &'a str,
    /// Whether the mail server found that its sender signed it.
    signed: bool,
    source: &'a str,
    /// From which port it came, if the report says so.
    port: Option<u16>,
    /// What the receiving server says of itself.
    receiver: &'a str,
    message_id: &'a str,
}

impl Default for Arf<'_> {
    fn default() -> Self {
        Self {
            from: "abuse@outside.example",
            signed: true,
            source: "203.0.113.2",
            port: None,
            receiver: "203.0.113.5",
            message_id: "1@customer.example",
        }
    }
}

impl Arf<'_> {
    fn text(&self) -> String {
        let Self {
            from,
            signed,
            source,
            port,
            receiver,
            message_id,
        } = self;
        let domain = from.rsplit('@').next().unwrap_or_default();
        let vouched = if *signed {
            format!("Authentication-Results: mx.node.example; dkim=pass header.d={domain}\n")
        } else {
            String::new()
        };
        let port = port.map_or_else(String::new, |port| format!("Source-Port: {port}\n"));
        let time = Timestamp::now()
            .strftime("%a, %d %b %Y %H:%M:%S +0000")
            .to_string();
        format!(
            "{vouched}From: {from}\nTo: abuse@node.example\nSubject: report\nDate: {time}\n\
             MIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; \
             boundary=b\n\n--b\nContent-Type: text/plain\n\nSpam.\n--b\n\
             Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\
             User-Agent: test/1\nArrival-Date: {time}\nSource-IP: {source}\n{port}\
             Reporting-MTA: dns; outside.example ({receiver})\n\n--b\n\
             Content-Type: message/rfc822\n\n\
             Received: from node.example (node.example [{source}]) by outside.example with ESMTP id \
             q1; {time}\nFrom: news@customer.example\nTo: you@outside.example\n\
             Subject: Buy now\nDate: {time}\nMessage-ID: <{message_id}>\n\nBuy now.\n--b--\n"
        )
    }
}

/// Delivers a mail as delivery agents do.
fn deliver(agent: &Agent, name: &str, text: &str) {
    let maildir = reports(agent);
    let tmp = maildir.join("tmp").join(name);
    fs::write(&tmp, text).expect("the directory is ours");
    fs::rename(tmp, maildir.join("new").join(name)).expect("the directory is ours");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Waits until everything that was delivered was taken in.
fn taken_in(agent: &Agent) {
    wait::until_true("the Maildir to be empty", Duration::from_secs(20), || {
        files(&reports(agent).join("new")).is_empty()
    });
}

fn list(agent: &Agent, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["complaint", "list", "--json"];
    all.extend(arguments);
    serde_json::from_str(&agent.must(&all)).expect("JSON")
}

/// How often the engine heard a complaint about a tenant, by the record book.
fn heard(agent: &Agent, tenant: &str) -> usize {
    let ledger = Ledger::read_only(&agent.state_directory());
    let ledger = ledger.expect("it can be read").expect("there is one");
    let signals = ledger
        .signals(tenant, Moment(0), 1_000)
        .expect("it can be read");
    let complaints = signals.iter().filter(|signal| signal.kind == "complaint");
    complaints.count()
}

#[test]
fn a_complaint_that_the_kernels_records_prove_becomes_an_offence_once() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    assert_eq!(OUTSIDE_MX.to_string(), Arf::default().receiver);
    send(&stage, &agent, 2001, "alice");
    let report = Arf::default().text();
    deliver(&agent, "one", &report);
    taken_in(&agent);
    let found = list(&agent, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["state"], "attributed", "{found:?}");
    assert_eq!(found[0]["tenant"], "alice");
    wait::until_true("alice to be blocked", wait::SOON, || {
        agent.tenant("alice")["sanction"] == "block_smtp"
    });
    assert_eq!(agent.tenant("alice")["standing"], "blocked");
    assert_eq!(agent.tenant("bob")["standing"], "good");
    let attempt = stage.node.sender(2001).attempt(mx(false));
    expect(&agent, attempt, "alice", Reached::Refused);

    // The same again, and the same in another envelope.
    deliver(&agent, "two", &report);
    deliver(
        &agent,
        "three",
        &report.replace("boundary=b", "boundary=\"b\""),
    );
    taken_in(&agent);
    assert_eq!(list(&agent, &[]).len(), 1);
    assert_eq!(heard(&agent, "alice"), 1);
    assert_eq!(files(&reports(&agent).join("cur")).len(), 3);

    // Its clocks run until a person stops them.
    let id = found[0]["id"].as_str().expect("it has one").to_owned();
    let clocks = found[0]["clocks"].as_array().expect("a list").clone();
    assert_eq!(clocks.len(), 2, "{clocks:?}");
    assert!(clocks.iter().all(|clock| clock["due"].is_string()));
    let reason = ["--reason", "wrote to them"];
    agent.must(&[
        "complaint",
        "handled",
        &id,
        "--acknowledge",
        reason[0],
        reason[1],
    ]);
    let shown: Value =
        serde_json::from_str(&agent.must(&["complaint", "show", &id, "--json"])).expect("JSON");
    let acknowledge = &shown["complaint"]["clocks"][0];
    assert_eq!(acknowledge["clock"], "acknowledge");
    assert!(acknowledge["due"].is_null() && acknowledge["done"].is_string());
    let text = agent.must(&["complaint", "show", &id]);
    assert!(
        text.contains("wrote to them") && text.contains("act by"),
        "{text}"
    );
    let audit = fs::read_to_string(agent.state_directory().join("audit.jsonl"));
    let audit = audit.expect("there is one");
    assert!(audit.contains("complaint handled") && audit.contains("wrote to them"));
}

#[test]
fn what_is_no_report_is_set_aside_with_the_reason() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    deliver(&agent, "garbage", "\u{0}\u{1} this is nothing at all");
    deliver(
        &agent,
        "letter",
        "From: a@b.example\nSubject: hello\n\nhow are you?\n",
    );
    taken_in(&agent);
    let refused = reports(&agent).join(".Refused");
    assert_eq!(files(&refused.join("cur")).len(), 2);
    let reasons = files(&refused.join("reasons"));
    assert_eq!(reasons.len(), 2);
    for reason in reasons {
        let text = fs::read_to_string(reason).expect("the directory is ours");
        assert!(
            text.contains("Refused: ") && text.contains("What to do: "),
            "{text}"
        );
    }
    let found = list(&agent, &["--state", "refused"]);
    assert_eq!(found.len(), 2, "{found:?}");
    let by_hand = agent.home().join("letter");
    fs::write(&by_hand, "Subject: hello\n\nhow are you?\n").expect("the directory is ours");
    let out = agent.cli(&["complaint", &by_hand.display().to_string()]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stdout.contains("no report"), "{out:?}");
}

#[test]
fn a_stranger_who_guesses_where_mail_goes_to_accuses_nobody() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    send(&stage, &agent, 2001, "alice");
    let guessed = Arf {
        signed: false,
        ..Arf::default()
    };
    deliver(&agent, "guessed", &guessed.text());
    taken_in(&agent);
    assert_eq!(list(&agent, &["--state", "waiting"]).len(), 1);
    assert_eq!(agent.tenant("alice")["standing"], "good");
    assert_eq!(heard(&agent, "alice"), 0);
}

#[test]
fn what_is_not_clear_waits_until_a_person_says_whose_it_is() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    for (uid, tenant) in [(2001, "alice"), (2002, "bob"), (2004, "dave")] {
        send(&stage, &agent, uid, tenant);
    }
    // It does not say where the mail was received: any of them may have sent it.
    let unclear = Arf {
        receiver: "somewhere",
        ..Arf::default()
    };
    deliver(&agent, "unclear", &unclear.text());
    // Dave's own address, and nobody known stands behind it.
    let daves = Arf {
        signed: false,
        source: "198.51.100.99",
        receiver: "somewhere",
        message_id: "2@customer.example",
        ..Arf::default()
    };
    let daves = daves.text();
    deliver(&agent, "dave", &daves);
    taken_in(&agent);
    let waiting = list(&agent, &["--state", "waiting"]);
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let status = agent.status();
    assert!(
        status["problems"].to_string().contains("2 complaints wait"),
        "{status:#}"
    );
    assert_eq!(status["healthy"], true);
    for tenant in ["alice", "bob", "dave"] {
        assert_eq!(agent.tenant(tenant)["standing"], "good");
    }

    // An operator who hands the same report in stands behind it.
    let file = agent.home().join("dave");
    fs::write(&file, &daves).expect("the directory is ours");
    let said = agent.must(&["complaint", &file.display().to_string()]);
    assert!(said.contains("attributed, about dave"), "{said}");
    assert_eq!(agent.tenant("dave")["standing"], "blocked");

    let waiting = list(&agent, &["--state", "waiting"]);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let id = waiting[0]["id"].as_str().expect("it has one");
    let out = agent.cli(&["complaint", "assign", id, "mallory", "--reason", "so"]);
    assert_eq!(out.code, 1, "{out:?}");
    agent.must(&[
        "complaint",
        "assign",
        id,
        "bob",
        "--reason",
        "his newsletter",
    ]);
    assert_eq!(agent.tenant("bob")["standing"], "blocked");
    assert_eq!(agent.tenant("alice")["standing"], "good");
    assert_eq!((heard(&agent, "alice"), heard(&agent, "bob")), (0, 1));
    let status = agent.status();
    assert!(
        !status["problems"].to_string().contains("wait for a person"),
        "{status:#}"
    );
    // The same mail again changes nothing.
    deliver(&agent, "again", &unclear.text().replace("Spam.", "Spam!"));
    taken_in(&agent);
    assert_eq!((heard(&agent, "alice"), heard(&agent, "bob")), (0, 1));
}

/// Of those who shared an address it is the one from whose port the mail came; a report that does not
/// say the port waits. Who they are, and from which ports the server outside saw them.
fn shares(agent: &Agent, senders: [(&str, u16); 2]) {
    for (_, port) in senders {
        recorded(agent, |attempt| {
            attempt.source.is_some_and(|from| from.port == Some(port))
        });
    }
    let [(first, port), (second, _)] = senders;
    let report = Arf {
        receiver: "somewhere",
        ..Arf::default()
    };
    deliver(agent, "vague", &report.text());
    // A port from which nobody sent proves nothing.
    let unused = (20_000..).find(|port| senders.iter().all(|(_, used)| used != port));
    let wrong = Arf {
        port: unused,
        message_id: "2@customer.example",
        ..report
    };
    deliver(agent, "wrong", &wrong.text());
    taken_in(agent);
    let states = |state: &str| list(agent, &["--state", state]).len();
    assert_eq!((states("attributed"), list(agent, &[]).len()), (0, 2));
    let exact = Arf {
        port: Some(port),
        message_id: "3@customer.example",
        ..wrong
    };
    deliver(agent, "exact", &exact.text());
    taken_in(agent);
    let found = list(agent, &["--state", "attributed"]);
    assert_eq!(found.len(), 1, "{:#?}", list(agent, &[]));
    assert_eq!(found[0]["tenant"], first, "{found:#?}");
    assert_eq!(agent.tenant(first)["standing"], "blocked");
    assert_eq!(agent.tenant(second)["standing"], "good");
}

#[test]
fn the_source_port_says_who_of_two_users_sent() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    let mut ports = Vec::new();
    for (uid, tenant) in [(2001, "alice"), (2002, "bob")] {
        send(&stage, &agent, uid, tenant);
        wait::until_true("the server to notice", wait::SOON, || {
            stage.outside.count() > ports.len()
        });
        let visits = stage.outside.visits();
        ports.push(visits[ports.len()].from.port());
    }
    shares(&agent, [("bob", ports[1]), ("alice", ports[0])]);
}

#[test]
fn the_source_port_that_the_world_saw_says_who_of_two_containers_sent() {
    let stage = Stage::new();
    let nat = "table ip hide {
        chain out { type nat hook postrouting priority 100;
            ip saddr 192.0.2.0/24 meta l4proto tcp oifname eth0 masquerade to :31000-31999; }
    }\n";
    let mut nft = stage.node.root().command("nft");
    let _ = process::run(nft.args(["-f", "-"]), nat).success("nft");
    let guests = [
        Guest::unprivileged(&stage.node, Wiring::Veth, "veth-one", 1),
        Guest::unprivileged(&stage.node, Wiring::Veth, "veth-two", 2),
    ];
    let config = Config::new(
        MAIN,
        "
tenant: one
direct_smtp: allow
match: {interfaces: [veth-one]}
---
tenant: two
direct_smtp: allow
match: {interfaces: [veth-two]}
",
    );
    let agent = Agent::configured(&stage.node, &config);
    fs::write(agent.home().join("reports.yaml"), POLICY).expect("the directory is ours");
    make(&reports(&agent));
    agent.run();
    let mut ports = Vec::new();
    for guest in &guests {
        let report = guest.sender().attempt(mx(false)).start().go().finish();
        assert_eq!(report.connected, 1, "{report:?}");
        wait::until_true("the server to notice", wait::SOON, || {
            stage.outside.count() > ports.len()
        });
        let from = stage.outside.visits()[ports.len()].from;
        assert_eq!(from.ip().to_string(), Arf::default().source);
        assert!((31_000..32_000).contains(&from.port()), "{from}");
        ports.push(from.port());
    }
    shares(&agent, [("one", ports[0]), ("two", ports[1])]);
}

#[test]
fn none_is_lost_and_none_counts_twice_when_the_agent_is_killed() {
    const MANY: usize = 40;
    let stage = Stage::new();
    let agent = agent(&stage.node);
    send(&stage, &agent, 2003, "carol");
    for number in 0..MANY {
        let report = Arf {
            from: &format!("abuse@r{number}.example"),
            message_id: &format!("{number}@customer.example"),
            ..Arf::default()
        };
        deliver(&agent, &format!("report-{number:02}"), &report.text());
        if number == 0 {
            taken_in(&agent);
        }
    }
    let cur = reports(&agent).join("cur");
    for times in 1..=3 {
        wait::until_true("some to be taken in", Duration::from_secs(20), || {
            files(&cur).len() >= (times * MANY / 10).min(MANY)
        });
        agent.kill_9();
        agent.run();
    }
    taken_in(&agent);
    assert_eq!(files(&cur).len(), MANY);
    let found = list(&agent, &["--tenant", "carol"]);
    assert_eq!(found.len(), MANY);
    assert!(
        found.iter().all(|one| one["state"] == "attributed"),
        "{found:?}"
    );
    assert_eq!(heard(&agent, "carol"), MANY);
    assert_eq!(agent.tenant("carol")["standing"], "blocked");
}

#[test]
fn the_maildir_is_followed_as_the_configuration_changes() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    agent.write_main(&MAIN.replace("maildir: reports", "maildir: elsewhere"));
    agent.must(&["reload"]);
    wait::until_true("the missing Maildir to be told", wait::SOON, || {
        let problems = agent.status()["problems"].to_string();
        problems.contains("complaints are not taken in") && problems.contains("elsewhere")
    });
    let elsewhere = agent.home().join("elsewhere");
    make(&elsewhere);
    fs::write(elsewhere.join("new/letter"), "Subject: hello\n\nhello\n").expect("it is ours");
    wait::until_true(
        "the new Maildir to be read",
        Duration::from_secs(60),
        || files(&elsewhere.join("new")).is_empty() && agent.status()["healthy"] == true,
    );
    assert_eq!(files(&elsewhere.join(".Refused/cur")).len(), 1);
    // Nobody reads the old one any more.
    deliver(&agent, "letter", "Subject: hello\n\nhello\n");
    agent.write_main(&MAIN.replace("maildir: reports, ", "maildir: null, "));
    agent.must(&["reload"]);
    assert_eq!(files(&reports(&agent).join("new")).len(), 1);
    assert_eq!(list(&agent, &[]).len(), 1);
}
