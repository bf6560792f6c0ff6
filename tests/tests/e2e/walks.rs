//! The ladders of the five shipped policies, walked from the first offence to the end, with a
//! simulated clock and the real kernel: at each step what the tenant can still reach, how it
//! stands, and who is told. Reboots come in the middle.

use std::{net::SocketAddr, path::Path, time::Duration};

use limiter_tests::{Agent, Config, Reached, mx, wait};
use serde_json::Value;

use crate::stage::Stage;

const TENANTS: &str = "
tenant: reseller
contact: [reseller@example.org]
---
tenant: alice
parent: reseller
contact: [alice@example.org]
match: {users: [alice]}
---
tenant: bob
match: {users: [bob]}
";

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// How long it may take until what time changed is in force.
const SOON: Duration = Duration::from_secs(10);

/// What alice reaches outside: another host's submission, the web, other hosts' mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Can {
    submit: bool,
    browse: bool,
    read: bool,
}

const ALL: Can = Can {
    submit: true,
    browse: true,
    read: true,
};
const NOTHING: Can = Can {
    submit: false,
    browse: false,
    read: false,
};
const NO_MAIL_OUT: Can = Can {
    submit: false,
    ..ALL
};
const NO_MAIL: Can = Can {
    read: false,
    ..NO_MAIL_OUT
};

/// One policy, and alice under it.
struct Walk<'n> {
    stage: &'n Stage,
    agent: Agent<'n>,
    /// How many notices were looked at.
    told: usize,
}

impl<'n> Walk<'n> {
    fn new(stage: &'n Stage, policy: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let file = file.join(policy).canonicalize().expect("it is shipped");
        // Nobody reads mail here: what counts is what the record book says.
        let main = format!(
            "mode: enforce\nnotices: {{from: null, operator: [noc@example.org]}}\npolicies: ['{}']",
            file.display()
        );
        let agent = Agent::configured(&stage.node, &Config::new(&main, TENANTS)).simulated();
        agent.clock().trust(true);
        agent.run();
        let walk = Self {
            stage,
            agent,
            told: 0,
        };
        assert!(walk.can().browse, "she is in good standing");
        walk
    }

    fn reaches(&self, uid: u32, port: u16) -> bool {
        let to = SocketAddr::new(mx(false).ip(), port);
        let attempt = self.stage.node.sender(uid).attempt(to);
        let (reached, _) = attempt.judge(&self.agent);
        reached == Reached::Outside
    }

    fn can(&self) -> Can {
        Can {
            submit: self.reaches(2001, 587),
            browse: self.reaches(2001, 80),
            read: self.reaches(2001, 143),
        }
    }

    /// Fails unless alice stands like this and reaches no more and no less. Her neighbour reaches
    /// everything all the time.
    #[track_caller]
    fn stands(&self, standing: &str, can: Can) {
        wait::until_true(standing, SOON, || {
            self.agent.tenant("alice")["standing"] == standing
        });
        let alice = self.agent.tenant("alice");
        assert_eq!(self.can(), can, "{alice:#}");
        assert!(self.reaches(2002, 80), "the neighbour is touched");
    }

    #[track_caller]
    fn does(&self, arguments: &[&str]) {
        let reason = ["--reason", "as the walk wants it"];
        self.agent.must(&[arguments, &reason].concat());
    }

    #[track_caller]
    fn offends(&self, severity: &str) {
        self.does(&["offence", "add", "alice", "--severity", severity]);
    }

    #[track_caller]
    fn is_listed(&self, list: &str) {
        let listing = ["--listing", list, "--address", "192.0.2.1", "--force"];
        self.does(&[&["offence", "add", "alice"][..], &listing].concat());
    }

    /// Confirms what is proposed in the case with this name.
    #[track_caller]
    fn confirms(&self, case: &str) {
        self.does(&["case", "confirm", "alice", case]);
    }

    /// Says that it was looked at, which does not lift everything at once.
    fn is_reviewed(&self) {
        let said = ["reinstate", "alice", "--reason", "looked at"];
        let _ = self.agent.cli(&said);
    }

    fn passes(&self, time: Duration) {
        self.agent.advance(time);
    }

    /// The node goes down for so long, and comes up again.
    fn reboots(&self, down: Duration) {
        self.agent.reboot(down);
        self.agent.run();
    }

    fn report(&self) -> Value {
        let said = self
            .agent
            .must(&["report", "alice", "--since", "9999d", "--format", "json"]);
        serde_json::from_str(&said).expect("JSON")
    }

    /// Who was told since this was asked last, each once, sorted.
    fn told(&mut self) -> Vec<String> {
        let report = self.report();
        let notices = report["notices"].as_array().expect("a list");
        let new = &notices[self.told..];
        let mut told: Vec<String> = new
            .iter()
            .map(|notice| notice["to"].as_str().unwrap_or_default().to_owned())
            .collect();
        self.told = notices.len();
        told.sort();
        told.dedup();
        told
    }

    /// How it ended, and that the end is on the record.
    #[track_caller]
    fn is_over(&self, cases: usize) {
        self.passes(400 * DAY);
        self.stands("terminated", NOTHING);
        self.reboots(HOUR);
        self.stands("terminated", NOTHING);
        let report = self.report();
        assert_eq!(report["cases"].as_array().map(Vec::len), Some(cases));
        let suffered = report["sanctions"].as_array().expect("a list");
        assert!(
            suffered.iter().any(|it| it["sanction"] == "terminate"),
            "{suffered:#?}"
        );
        assert!(!report["heard"].as_array().expect("a list").is_empty());
    }
}

#[test]
fn mvmcloud() {
    let stage = Stage::new();
    let mut walk = Walk::new(&stage, "mvmcloud.yaml");
    walk.stands("good", ALL);
    // A mailer that knocks at port 25: nothing left the node, so that it is a warning.
    let flood = stage
        .node
        .sender(2001)
        .flood(mx(false), 320, Duration::ZERO);
    assert_eq!(flood.start().go().finish().connected, 0);
    walk.stands("warned", ALL);
    assert_eq!(walk.told(), ["contact"]);
    walk.passes(2 * DAY);
    walk.stands("good", ALL);
    let _ = walk.told();

    // The first: until the owner is spoken to.
    walk.offends("moderate");
    walk.stands("suspended", NOTHING);
    assert_eq!(walk.told(), ["contact", "operator"]);
    walk.does(&["contact", "alice"]);
    walk.stands("good", ALL);
    assert_eq!(walk.told(), ["contact", "operator"]);

    // The second: 24 hours are not enough, nor is contact.
    walk.passes(DAY);
    walk.offends("severe");
    walk.does(&["contact", "alice"]);
    walk.passes(25 * HOUR);
    walk.stands("suspended", NOTHING);
    walk.does(&["acknowledge", "alice"]);
    walk.stands("good", ALL);

    // The third: over within 48 hours, whatever is said, once a person confirms it.
    walk.passes(DAY);
    walk.offends("moderate");
    walk.reboots(HOUR);
    walk.stands("suspended", NOTHING);
    walk.does(&["acknowledge", "alice"]);
    walk.does(&["contact", "alice"]);
    walk.passes(46 * HOUR);
    walk.stands("suspended", NOTHING);
    walk.passes(2 * HOUR);
    wait::until_true("a proposal", SOON, || {
        let status = walk.agent.status();
        status["proposals"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
    });
    walk.confirms("mvmcloud/4");
    walk.stands("terminated", NOTHING);
    walk.is_over(4);
}

#[test]
fn ix_cm() {
    let stage = Stage::new();
    let mut walk = Walk::new(&stage, "ix-cm.yaml");
    walk.offends("moderate");
    walk.stands("suspended", NO_MAIL);
    assert_eq!(walk.told(), ["contact", "operator"]);
    // Reviewed on the first day, and yet not before the seventh.
    walk.is_reviewed();
    walk.passes(6 * DAY);
    walk.reboots(HOUR);
    walk.stands("suspended", NO_MAIL);
    walk.passes(DAY);
    walk.stands("good", ALL);
    // A blacklisting costs money, and is the end.
    walk.is_listed("zen.example.org");
    walk.stands("suspended", NOTHING);
    let report = walk.report();
    assert_eq!(report["charges"][0]["currency"], "USD", "{report:#}");
    walk.confirms("ix-cm/2");
    walk.stands("terminated", NOTHING);
    walk.is_over(2);
}

#[test]
fn hostup() {
    let stage = Stage::new();
    let mut walk = Walk::new(&stage, "hostup.yaml");
    walk.offends("minor");
    walk.stands("warned", ALL);
    assert_eq!(walk.told(), ["contact"]);
    walk.passes(2 * DAY);
    walk.stands("good", ALL);
    walk.offends("moderate");
    walk.stands("blocked", NO_MAIL_OUT);
    walk.passes(30 * DAY);
    walk.reboots(HOUR);
    walk.stands("blocked", NO_MAIL_OUT);
    walk.is_reviewed();
    walk.stands("good", ALL);
    let _ = walk.told();
    // A botnet: suspended while a person decides, null-routed, terminated.
    walk.offends("critical");
    walk.stands("suspended", NOTHING);
    assert_eq!(walk.told(), ["contact", "operator", "parent"]);
    // It was reinstated before: both are proposed.
    let confirm = ["case", "confirm", "alice", "hostup/3", "--sanction"];
    walk.does(&[&confirm[..], &["null_route"]].concat());
    walk.stands("suspended", NOTHING);
    assert_eq!(walk.agent.tenant("alice")["sanction"], "null_route");
    walk.does(&[&confirm[..], &["terminate"]].concat());
    walk.stands("terminated", NOTHING);
    walk.is_over(3);
}

#[test]
fn crux() {
    let stage = Stage::new();
    let mut walk = Walk::new(&stage, "crux.yaml");
    walk.offends("moderate");
    walk.stands("suspended", NO_MAIL);
    assert_eq!(walk.told(), ["contact", "operator", "parent"]);
    walk.passes(10 * DAY);
    walk.reboots(HOUR);
    walk.stands("suspended", NO_MAIL);
    walk.does(&["acknowledge", "alice"]);
    walk.stands("good", ALL);
    walk.passes(DAY);
    walk.offends("moderate");
    walk.stands("suspended", NOTHING);
    assert_eq!(walk.report()["charges"][0], Value::Null, "it is proposed");
    walk.confirms("crux/2");
    walk.stands("terminated", NOTHING);
    let report = walk.report();
    assert_eq!(report["charges"][0]["bill"], "reseller", "{report:#}");
    walk.is_over(2);
}

#[test]
fn strict() {
    // All mail goes through the node, from the beginning.
    const WELL: Can = NO_MAIL_OUT;
    let stage = Stage::new();
    let mut walk = Walk::new(&stage, "strict.yaml");
    walk.stands("good", WELL);
    walk.offends("moderate");
    walk.stands("suspended", NOTHING);
    assert_eq!(walk.told(), ["contact", "operator", "parent"]);
    walk.is_reviewed();
    walk.passes(8 * DAY);
    walk.stands("suspended", NOTHING);
    walk.reboots(HOUR);
    walk.does(&["acknowledge", "alice"]);
    walk.stands("good", WELL);
    walk.offends("moderate");
    walk.stands("suspended", NOTHING);
    walk.confirms("strict/2");
    walk.stands("terminated", NOTHING);
    walk.is_over(2);
}

/// Bounces are held against the mail that the kernel saw go out.
#[test]
fn a_share_is_of_what_was_really_sent() {
    const POLICY: &str = "
policy: shares
offences:
  - {when: {hard_bounce_rate: {above: 10%, of_at_least: 20, in: 24h}}, severity: moderate}
steps:
  - {severity: moderate, sanction: block_smtp, lift: {all: [review]}}
";
    const SENDS: &str = "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
";
    let stage = Stage::new();
    let main = "mode: enforce\nnotices: null\npolicies: [shares.yaml]";
    let agent = Agent::configured(&stage.node, &Config::new(main, SENDS));
    let file = agent.main_file().with_file_name("shares.yaml");
    std::fs::write(file, POLICY).expect("there is room");
    agent.run();
    let send = |times| {
        let flood = stage
            .node
            .sender(2001)
            .flood(mx(false), times, Duration::ZERO);
        assert_eq!(flood.start().go().finish().connected, times);
        // Counted for the court at its end, too; and again from there.
        agent.term();
        agent.run();
    };
    let bounce = |count: &str| {
        let reason = ["--reason", "as the log says"];
        let bounces = ["offence", "add", "alice", "--hard-bounces", count];
        agent.must(&[&bounces[..], &reason].concat());
    };
    send(15);
    bounce("2");
    assert_eq!(
        agent.tenant("alice")["standing"],
        "good",
        "too little mail to say so"
    );
    send(15);
    bounce("1");
    assert_eq!(
        agent.tenant("alice")["standing"],
        "good",
        "3 of 30 is not above a tenth"
    );
    bounce("1");
    assert_eq!(agent.tenant("alice")["standing"], "blocked");
}
