//! Mail that waits in the queue of a real Postfix: it stays there while its tenant is under a
//! sanction, and the neighbours' goes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Node, OUTSIDE_MX, Postfix, SmtpSink, mx, process::run, wait};

const TENANTS: &str = "
tenant: reseller
---
tenant: alice
parent: reseller
match: {users: [alice]}
---
tenant: bob
match: {users: [bob]}
";

/// How long Postfix may take to deliver what it can.
const DELIVERY: Duration = Duration::from_secs(20);

/// A node whose own Postfix hands everything to a server outside, which is down at first.
struct Town {
    postfix: Postfix,
    node: Node,
}

impl Town {
    fn new() -> Self {
        let node = Node::new();
        let postfix = Postfix::of_node(
            &node,
            "127.0.0.1",
            (&format!("relayhost = [{OUTSIDE_MX}]:25"), ""),
        );
        Self { postfix, node }
    }

    /// Puts Postfix's configuration where it is on a real node: sendmail reads it, and the agent
    /// finds the mail server by it.
    fn install(&self) {
        self.postfix.install(&self.node);
    }

    fn agent(&self) -> Agent<'_> {
        Agent::start(
            &self.node,
            &Config::new("mode: enforce\nnotices: null", TENANTS),
        )
    }

    /// Submits as a web site does, and waits until it was tried in vain.
    fn submit(&self, uid: u32, subject: &str) {
        let before = self.ids("deferred").len();
        let mut command = self.node.user(uid).command("sendmail");
        command.args(["-i", "-f", "x@node.example", "somebody@outside.example"]);
        let letter = format!("Subject: {subject}\n\nBuy.\n");
        let _ = run(&mut command, &letter).success("sendmail");
        wait::until_true("mail to be deferred", DELIVERY, || {
            self.ids("deferred").len() == before + 1
                && self.ids("active").is_empty()
                && self.ids("incoming").is_empty()
        });
    }

    /// The ids in one of the queues.
    fn ids(&self, queue: &str) -> BTreeSet<String> {
        let configuration = self.postfix.configuration();
        let home = configuration.parent().expect("it has one");
        let mut found = BTreeSet::new();
        files(&home.join("queue").join(queue), &mut found);
        found
    }

    fn wait_for_held(&self, count: usize) {
        wait::until_true("mail to be held", DELIVERY, || {
            self.ids("hold").len() == count
        });
    }

    /// Has everything tried that waits.
    fn flush(&self) {
        let mut command = self.node.root().command("postqueue");
        let _ = run(command.arg("-f"), "").success("postqueue");
    }

    fn open_destination(&self) -> SmtpSink {
        SmtpSink::start(&self.node.elsewhere(), mx(false), self.node.directory())
    }
}

fn files(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("ids are plain");
        if name.len() == 1 {
            files(&entry.path(), found);
        } else {
            found.insert(name);
        }
    }
}

/// The subjects that arrived.
fn arrived(sink: &SmtpSink) -> BTreeSet<String> {
    let files = fs::read_dir(sink.dumps()).expect("the directory is ours");
    files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .filter_map(|text| {
            let mut lines = text.lines();
            let subject = lines.find_map(|line| line.strip_prefix("Subject: "))?;
            Some(subject.to_owned())
        })
        .collect()
}

/// Waits until exactly these have arrived.
fn wait_for(sink: &SmtpSink, subjects: &[&str]) {
    let wanted: BTreeSet<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    wait::until_true(&format!("{wanted:?}"), DELIVERY, || {
        arrived(sink).is_superset(&wanted)
    });
    assert_eq!(arrived(sink), wanted);
}

/// alice is suspended and reinstated; whether the agent is killed after each.
fn stays_until_reinstated(killed: bool) {
    let town = Town::new();
    town.install();
    town.submit(2001, "alice");
    town.submit(2001, "alice too");
    town.submit(2002, "bob");
    // Held by the administrator, and not to be released by anybody else.
    town.submit(2001, "alice, kept by the administrator");
    let kept = town
        .ids("deferred")
        .into_iter()
        .find(|id| {
            let mut command = town.node.root().command("postcat");
            let said = run(command.args(["-hq", id]), "").stdout;
            said.contains("kept by")
        })
        .expect("it is deferred");
    let mut command = town.node.root().command("postsuper");
    let _ = run(command.args(["-h", &kept]), "").success("postsuper");

    let agent = town.agent();
    agent.must(&[
        "suspend",
        "alice",
        "--sanction",
        "block_smtp",
        "--reason",
        "spam",
    ]);
    if killed {
        agent.kill_9();
        agent.run();
    }
    town.wait_for_held(3);
    assert_eq!(agent.tenant("alice")["held_mail"], 2);
    assert_eq!(agent.tenant("bob")["held_mail"], 0);
    let text = agent.must(&["status", "alice"]);
    assert!(text.contains("2 messages are held"), "{text}");

    let sink = town.open_destination();
    if killed {
        // What is held stays so with nobody there.
        agent.kill_9();
    }
    town.flush();
    wait_for(&sink, &["bob"]);
    wait::stays_true("alice's mail is held", Duration::from_secs(2), || {
        arrived(&sink).len() == 1
    });
    if killed {
        agent.run();
        wait::stays_true("alice's mail is held", Duration::from_secs(2), || {
            town.ids("hold").len() == 3
        });
    }
    agent.must(&["reinstate", "alice", "--reason", "cleaned up"]);
    if killed {
        agent.kill_9();
        agent.run();
    }
    wait_for(&sink, &["bob", "alice", "alice too"]);
    assert_eq!(town.ids("hold"), BTreeSet::from([kept]));
    wait::until_true("nothing to be noted as held", wait::SOON, || {
        agent.tenant("alice")["held_mail"] == 0
    });
    assert_eq!(agent.status()["healthy"], true, "{:#}", agent.status());
}

#[test]
fn queued_mail_stays_until_its_tenant_is_reinstated() {
    stays_until_reinstated(false);
}

#[test]
fn killing_the_agent_neither_loses_nor_releases_queued_mail() {
    stays_until_reinstated(true);
}

#[test]
fn an_inherited_sanction_that_ends_by_itself_releases_and_a_new_mail_server_is_found() {
    const LASTS: Duration = Duration::from_secs(45);
    let town = Town::new();
    // What a machine without mail server has.
    let mut command = town.node.root().command("rm");
    let _ = run(command.args(["-rf", "/etc/postfix"]), "").success("rm");
    let agent = town.agent();
    let start = Instant::now();
    let lasts = format!("{}s", LASTS.as_secs());
    agent.must(&[
        "suspend",
        "reseller",
        "--sanction",
        "block_smtp",
        "--for",
        &lasts,
        "--reason",
        "spam",
    ]);
    assert_eq!(agent.status()["problems"].to_string(), "[]");
    town.install();
    town.submit(2002, "bob");
    let mut command = town.node.user(2001).command("sendmail");
    command.args(["-i", "-f", "x@node.example", "somebody@outside.example"]);
    let _ = run(&mut command, "Subject: alice\n\nBuy.\n").success("sendmail");
    town.wait_for_held(1);
    let sink = town.open_destination();
    town.flush();
    wait_for(&sink, &["bob"]);
    wait::until_true("the sanction to end", LASTS + DELIVERY, || {
        arrived(&sink).contains("alice")
    });
    assert!(start.elapsed() >= LASTS, "{:?}", start.elapsed());
    assert_eq!(agent.tenant("alice")["sanctions"].to_string(), "[]");
}
