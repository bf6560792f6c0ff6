//! Real mail programs on every side: what is refused never arrives, what is redirected arrives
//! through the local server, and the local server is never in the way of itself.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    time::{Duration, Instant},
};

use limiter_tests::{
    Agent, Cgroup, Config, Exim, Letter, Maildir, Mailer, Node, OUTSIDE_MX, OUTSIDE_MX6, Place,
    Postfix, Reached, SmtpSink, mx, orders::Report, wait,
};

use crate::stage::expect;

/// A node, and a real Postfix outside it.
struct Town {
    outside: Postfix,
    node: Node,
}

impl Town {
    fn new() -> Self {
        let node = Node::new();
        let outside = Postfix::start(
            &node.elsewhere(),
            Cgroup::at_top(),
            node.directory(),
            "outside.example",
            &[OUTSIDE_MX.into(), OUTSIDE_MX6.into()],
            ("", ""),
        );
        Self { outside, node }
    }

    fn mailbox(&self) -> Maildir {
        self.outside.mailbox()
    }

    /// The node's own Postfix, on both loopback addresses, which hands everything to the outside.
    fn local_postfix(&self, extra: (&str, &str)) -> Postfix {
        let main = format!("relayhost = [{OUTSIDE_MX}]:25\n{}", extra.0);
        Postfix::start(
            &self.node.root(),
            self.node.cgroup().child("mta"),
            self.node.directory(),
            "node.example",
            &["127.0.0.1", "::1"].map(|address| address.parse().expect("it is one")),
            (&main, extra.1),
        )
    }

    fn agent(&self, main: &str, tenants: &str) -> Agent<'_> {
        Agent::start(&self.node, &Config::new(main, tenants))
    }
}

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
match: {users: [carol]}
---
tenant: dave
mode: observe
match: {users: [dave]}
";

#[test]
fn what_is_refused_never_arrives() {
    let town = Town::new();
    let agent = town.agent("mode: enforce", TENANTS);
    let mut attempts = 0;
    for mailer in Mailer::ALL {
        for v6 in [false, true] {
            let letter = Letter::outside(&format!("refused {mailer:?} {v6}"));
            let start = Instant::now();
            let sent = mailer.send(&town.node.user(2001), mx(v6), &letter);
            assert_ne!(sent.code, 0, "{mailer:?} {v6}: {sent:?}");
            assert!(start.elapsed() < Duration::from_secs(5), "{mailer:?} waits");
            attempts += 1;
        }
    }
    // Some programs try again, none gives up without having tried.
    assert!(agent.counter("alice", "denied") >= attempts);
    let letter = Letter::outside("the last one");
    let sent = Mailer::Python.send(&town.node.user(2003), mx(false), &letter);
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = town.mailbox().wait_for("the last one");
    assert_eq!(town.mailbox().count("refused"), 0);
    assert_eq!(town.mailbox().messages().len(), 1);
    assert_eq!(town.outside.log().matches(": connect from").count(), 1);
}

#[test]
fn what_is_redirected_arrives_through_the_local_postfix() {
    let town = Town::new();
    let local = town.local_postfix(("", ""));
    let agent = town.agent("mode: enforce", TENANTS);
    for mailer in Mailer::ALL {
        for v6 in [false, true] {
            let letter = Letter::outside(&format!("redirected {mailer:?} {v6}"));
            let sent = mailer.send(&town.node.user(2002), mx(v6), &letter);
            assert_eq!(sent.code, 0, "{mailer:?} {v6}: {sent:?}");
            let message = town.mailbox().wait_for(&letter.subject);
            assert!(message.contains("by node.example (Postfix)"), "{message}");
        }
    }
    let count = u64::try_from(Mailer::ALL.len() * 2).expect("a few");
    assert_eq!(agent.counter("bob", "redirected"), count);
    assert_eq!(agent.counter("bob", "denied"), 0);
    assert_eq!(
        local.log().matches("status=sent").count(),
        Mailer::ALL.len() * 2
    );
}

#[test]
fn what_is_allowed_and_what_is_only_observed_goes_straight_out() {
    let town = Town::new();
    let _local = town.local_postfix(("", ""));
    let agent = town.agent("mode: enforce", TENANTS);
    for (uid, name) in [(2003, "carol"), (2004, "dave")] {
        for mailer in Mailer::ALL {
            let letter = Letter::outside(&format!("{name} {mailer:?}"));
            let sent = mailer.send(&town.node.user(uid), mx(true), &letter);
            assert_eq!(sent.code, 0, "{name} {mailer:?}: {sent:?}");
            let message = town.mailbox().wait_for(&letter.subject);
            assert!(!message.contains("by node.example"), "{message}");
        }
    }
    let count = u64::try_from(Mailer::ALL.len()).expect("a few");
    assert_eq!(agent.counter("carol", "allowed"), count);
    assert_eq!(agent.counter("dave", "would_deny"), count);
}

#[test]
fn exim_delivers_from_inside_a_tenants_cgroup() {
    let town = Town::new();
    let site = town.node.cgroup().child("site");
    for (smarthost, subject) in [
        (OUTSIDE_MX.into(), "over IPv4"),
        (OUTSIDE_MX6.into(), "over IPv6"),
    ] {
        let exim = Exim::install(&town.node, smarthost);
        let agent = town.agent(
            "mode: enforce",
            &format!(
                "tenant: site\nmatch: {{cgroups: ['{}'], users: [alice]}}\n",
                site.path()
            ),
        );
        let alice: Place = town.node.user(2001).in_cgroup(&site);
        // Straight out she may not.
        let attempt = town.node.sender_at(alice.clone()).attempt(mx(false));
        assert_eq!(attempt.make(&agent), Reached::Refused);
        let message = format!("Subject: {subject}\n\nBuy now.\n");
        let sent = exim.submit(&alice, "somebody@outside.example", &message);
        assert_eq!(sent.code, 0, "{sent:?}");
        let message = town.mailbox().wait_for(subject);
        assert!(
            message.contains("by node.example with local (Exim"),
            "{message}"
        );
        assert_eq!(agent.counter("site", "denied"), 1);
        assert_eq!(agent.counter("site", "allowed"), 0);
    }
}

#[test]
fn what_is_redirected_arrives_through_the_local_exim() {
    let town = Town::new();
    let exim = Exim::install(&town.node, OUTSIDE_MX.into());
    let cgroup = town.node.cgroup().child("exim");
    let _daemon = exim.daemon(&town.node.root(), &cgroup);
    let _agent = town.agent("mode: enforce", TENANTS);
    for v6 in [false, true] {
        let letter = Letter::outside(&format!("to Exim {v6}"));
        let sent = Mailer::PhpMailer.send(&town.node.user(2002), mx(v6), &letter);
        assert_eq!(sent.code, 0, "{sent:?}");
        let message = town.mailbox().wait_for(&letter.subject);
        assert!(
            message.contains("by node.example with esmtp (Exim"),
            "{message}"
        );
    }
}

#[test]
fn a_customers_program_run_by_the_mta_is_not_the_mta() {
    let town = Town::new();
    let node = &town.node;
    // Postfix runs it as alice, in its own cgroup, for every message to pipe.example.
    let drop_box = node.directory().join("alice");
    fs::create_dir(&drop_box).expect("the directory is ours");
    chown(&drop_box, Some(2001), Some(2001)).expect("root may give files away");
    let report = drop_box.join("report");
    let orders = node.sender(2001).attempt(mx(false)).for_others(&report);
    let script = node.directory().join("piped");
    let program = node.sender_program();
    fs::write(
        &script,
        format!("#!/bin/sh\nexec {} '{orders}'\n", program.display()),
    )
    .expect("the directory is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let _local = town.local_postfix((
        "transport_maps = inline:{ { pipe.example = piped: } }\n",
        &format!(
            "piped unix - n n - - pipe user=alice argv={}\n",
            script.display()
        ),
    ));
    let agent = town.agent("mode: enforce", TENANTS);
    let mut letter = Letter::outside("to a program");
    letter.to = "somebody@pipe.example".to_owned();
    let local: SocketAddr = "127.0.0.1:25".parse().expect("it is one");
    let sent = Mailer::Python.send(&node.user(2003), local, &letter);
    assert_eq!(sent.code, 0, "{sent:?}");
    let text = wait::until("the program to run", wait::SOON, || {
        fs::read_to_string(&report)
            .ok()
            .filter(|text| !text.is_empty())
    });
    let report: Report = serde_json::from_str(&text).expect("it is a report");
    assert_eq!(report.refused(), 1, "{report:?}");
    assert_eq!(agent.counter("alice", "denied"), 1);
    // Postfix itself, from the same cgroup, delivers.
    let letter = Letter::outside("to a mailbox");
    let sent = Mailer::Python.send(&node.user(2003), local, &letter);
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = town.mailbox().wait_for("to a mailbox");
}

#[test]
fn a_burst_of_messages_is_cut_at_the_limit() {
    let node = Node::new();
    let sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let agent = Agent::start(
        &node,
        &Config::new(
            "mode: enforce",
            "
tenant: alice
direct_smtp: allow
limits: [{unit: connections, max: 30, window: 1h}]
match: {users: [alice]}
",
        ),
    );
    // A hundred sessions wanted, a message each, ten at a time: the thirty-first is refused, and
    // with that smtp-source gives up.
    let mut source = node.user(2001).command("smtp-source");
    source.args(["-s", "10", "-m", "100", "-t", "a@outside.example"]);
    source.arg(format!("inet:{}", mx(false)));
    let out = limiter_tests::process::run(&mut source, "");
    assert_ne!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains("Operation not permitted"), "{out:?}");
    assert_eq!(agent.counter("alice", "allowed"), 30);
    assert!(agent.counter("alice", "denied") >= 1);
    assert_eq!(agent.used("alice", 0), 30);
    wait::until_true("the messages", wait::SOON, || sink.messages() >= 20);
    assert!(sink.messages() <= 30, "{}", sink.messages());
    let attempt = node.sender(2001).attempt(mx(false));
    expect(&agent, attempt, "alice", Reached::Refused);
}
