//! Mail of a tenant that comes back to the node's own Postfix and Exim is counted, once, against the one
//! who sent it, and has its consequences.

use std::{fs, net::SocketAddr, time::Duration};

use limiter_tests::{
    Agent, Config, Exim, Letter, Mailer, Node, OUTSIDE_MX, Postfix, SmtpSink, mx, process::run,
    wait,
};
use limiter_user::mta::setup::EximFacts;
use serde_json::Value;

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
domains: [{name: shop.example}]
---
tenant: bob
match: {users: [bob]}
";

/// More than a tenth may not come back, of ten at least.
const POLICY: &str = "
policy: bounces
refused_attempts: warn
offences:
  - {when: {hard_bounce_rate: {above: 10%, of_at_least: 10, in: 24h}}, severity: minor}
steps:
  - {offence: 1, sanction: suspend_mail, for: 1h}
";

/// How long until bounces are heard, at most: they are gathered, and no more often than once a minute.
const HEARD: Duration = Duration::from_secs(90);
const DELIVERY: Duration = Duration::from_secs(20);
/// Where nobody is at home.
const REFUSING: u16 = 2525;

/// What the administrator puts into main.cf.
fn main_cf() -> String {
    format!(
        "relayhost = [{OUTSIDE_MX}]:25
transport_maps = inline:{{ {{ gone.example = smtp:[{OUTSIDE_MX}]:{REFUSING} }} }}
smtpd_recipient_restrictions = check_policy_service {{ inet:127.0.0.1:10040, default_action=DUNNO }}, permit_mynetworks, reject_unauth_destination
smtpd_data_restrictions = check_policy_service {{ inet:127.0.0.1:10040, default_action=DUNNO }}
smtpd_milters = {{ inet:127.0.0.1:10041, default_action=accept }}
non_smtpd_milters = {{ inet:127.0.0.1:10041, default_action=accept }}
"
    )
}

fn config(node: &Node, bounces: &str) -> String {
    let policy = node.directory().join("bounces.yaml");
    fs::write(&policy, POLICY).expect("the directory is ours");
    format!(
        "mode: enforce
notices: null
policies: ['{}']
bounces: {bounces}
services:
  policy: inet:127.0.0.1:10040
  milter: inet:127.0.0.1:10041
  dovecot: null
  allowed_users: [postfix, Debian-exim]
",
        policy.display()
    )
}

struct Town {
    postfix: Postfix,
    _sinks: [SmtpSink; 2],
    node: Node,
}

impl Town {
    fn new() -> Self {
        let node = Node::new();
        let postfix = Postfix::of_node(&node, "127.0.0.1", (&main_cf(), ""));
        postfix.install(&node);
        let (place, refusing) = (node.elsewhere(), SocketAddr::new(mx(false).ip(), REFUSING));
        let sinks = [
            SmtpSink::start(&place, mx(false), node.directory()),
            SmtpSink::refusing(&place, refusing, node.directory()),
        ];
        Self {
            postfix,
            _sinks: sinks,
            node,
        }
    }

    fn agent(&self) -> Agent<'_> {
        let log = self.postfix.log_file();
        let config = config(&self.node, &format!("{{logs: ['{}']}}", log.display()));
        Agent::start(&self.node, &Config::new(&config, TENANTS))
    }

    /// Submits to so many who are there, and so many who are not.
    fn send(&self, uid: u32, from: &str, (there, gone): (u32, u32)) {
        let there = (0..there).map(|it| format!("c{it}@outside.example"));
        let gone = (0..gone).map(|it| format!("c{it}@gone.example"));
        let mut command = self.node.user(uid).command("sendmail");
        command.args(["-i", "-f", from]).args(there.chain(gone));
        let _ = run(&mut command, "Subject: buy\n\nBuy.\n").success("sendmail");
    }

    fn wait_for_bounces(&self, count: usize) {
        wait::until_true("mail to come back", DELIVERY, || {
            self.postfix.log().matches("status=bounced").count() >= count
        });
    }
}

fn json(agent: &Agent, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    let said = agent.must(&all);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{all:?}: {error}\n{said}"))
}

/// Waits for a case of this tenant, and gives the hard and other bounces that were heard of it.
fn heard(agent: &Agent, tenant: &str) -> Vec<(u64, u64)> {
    wait::until_true("a case", HEARD, || {
        json(agent, &["case", "list", "--all"])
            .as_array()
            .is_some_and(|cases| cases.iter().any(|case| case["tenant"] == tenant))
    });
    bounces(agent, tenant)
}

/// All bounces that were heard of this tenant, each time.
fn bounces(agent: &Agent, tenant: &str) -> Vec<(u64, u64)> {
    let book = agent.state_directory().join("ledger.db");
    let sql = format!(
        "SELECT json_extract(body, '$.bounces.hard') || ' ' || json_extract(body, '$.bounces.soft') \
         FROM signals WHERE kind = 'bounces' AND tenant = '{tenant}' ORDER BY id"
    );
    let script = "import sqlite3,sys\nfor r in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(r[0])";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", script]).arg(book).arg(sql);
    let said = run(&mut command, "").success("python3").stdout;
    let numbers = said.lines().map(|line| {
        let (hard, soft) = line.split_once(' ').expect("two numbers");
        (hard.parse().expect("one"), soft.parse().expect("one"))
    });
    numbers.collect()
}

fn sum(all: &[(u64, u64)]) -> (u64, u64) {
    all.iter()
        .fold((0, 0), |(hard, soft), it| (hard + it.0, soft + it.1))
}

#[test]
fn too_many_bounces_close_the_mail_of_whoever_sent_it() {
    let town = Town::new();
    let agent = town.agent();
    // Nothing at all comes back to Bob but one of many; Alice's list is bought.
    town.send(2002, "x@shop.example", (19, 1));
    town.send(2001, "x@shop.example", (8, 4));
    town.wait_for_bounces(5);
    let shop = "alice/shop.example";
    assert_eq!(sum(&heard(&agent, shop)), (4, 0));
    assert_eq!(sum(&bounces(&agent, "bob")), (1, 0), "he forged the sender");
    let cases = json(&agent, &["case", "list"]);
    assert_eq!(cases.as_array().map(Vec::len), Some(1), "{cases:#}");
    let of_shop = agent.tenant(shop);
    assert_eq!(of_shop["sanction"], "suspend_mail", "{of_shop:#}");
    // And it holds at the door.
    let letter = Letter {
        from: "x@shop.example".to_owned(),
        to: "c@outside.example".to_owned(),
        subject: "more".to_owned(),
    };
    let own: SocketAddr = ([127, 0, 0, 1], 25).into();
    let refused = Mailer::Swaks.send(&town.node.user(2001), own, &letter);
    assert_ne!(refused.code, 0, "{refused:?}");
    let status = agent.status();
    assert_eq!(status["bounces"]["hard"], 5, "{:#}", status["bounces"]);
    assert_eq!(status["bounces"]["nobodys"], 0, "{:#}", status["bounces"]);
    let text = agent.must(&["status"]);
    assert!(text.contains("5 hard and 0 other of tenants"), "{text}");
}

#[test]
fn more_lists_than_an_account_may_have_are_an_offence() {
    let node = Node::new();
    let lists = node.directory().join("lists");
    for name in ["a", "b", "c"] {
        let list = lists.join(format!("{name}.shop.example"));
        fs::create_dir_all(list).expect("the directory is ours");
    }
    fs::create_dir(lists.join("news.elsewhere.example")).expect("the directory is ours");
    let policy = node.directory().join("lists.yaml");
    let offences = POLICY.replace(
        "hard_bounce_rate: {above: 10%, of_at_least: 10, in: 24h}",
        "violations: {reasons: [mailing_lists], at_least: 1, in: 24h}",
    );
    fs::write(&policy, offences).expect("the directory is ours");
    let main = |max: u32| {
        format!(
            "mode: enforce\nnotices: null\npolicies: ['{}']\nmailman: {{lists: ['{}'], max: {max}}}\n",
            policy.display(),
            lists.display()
        )
    };
    let agent = Agent::start(&node, &Config::new(&main(3), TENANTS));
    let count = || agent.status()["mailing_lists"].clone();
    wait::until_true("the lists to be counted", wait::SOON, || !count().is_null());
    let expected = serde_json::json!({
        "accounts": [{"tenant": "alice", "lists": 3, "max": 3}],
        "nobodys": 1,
    });
    assert_eq!(count(), expected);
    assert_eq!(json(&agent, &["case", "list"]), serde_json::json!([]));
    agent.write_main(&main(2));
    let _ = agent.reload().success("reload");
    wait::until_true("a case", wait::SOON, || {
        json(&agent, &["case", "list"])[0]["tenant"] == "alice"
    });
    let text = agent.must(&["status"]);
    assert!(
        text.contains("alice has 3 Mailman lists and may have 2"),
        "{text}"
    );
    // Counted again at once, and it is the same.
    agent.kill_9();
    agent.run();
    wait::until_true("the lists to be counted", wait::SOON, || !count().is_null());
    let case = json(&agent, &["case", "show", "alice", "bounces/1"]);
    assert_eq!(case["heard"].as_array().map(Vec::len), Some(1), "{case:#}");
}

/// Puts what limiter says into the configuration of the node's Exim.
fn set_up_exim(node: &Node, agent: &Agent) {
    let policy = limiter_user::policy::load(&agent.main_file()).policy;
    let policy = policy.expect("the agent runs by it");
    let program = node.setuid_directory().join("exim4");
    let steps = node.inside().enter(|| {
        let facts = EximFacts::read(&program, None).expect("Exim answers");
        facts.steps(&policy)
    });
    let lines: Vec<String> = steps
        .steps
        .iter()
        .filter(|step| step.file.is_some())
        .map(|step| format!("{}\n", step.lines.join("\n")))
        .collect();
    let [settings, acls] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    let file = node.directory().join("etc/exim4/exim4.conf");
    let text = fs::read_to_string(&file).expect("it was just written");
    let text = text
        .replace("acl_smtp_rcpt = accept_rcpt\n", settings)
        .replace("begin acl\n", &format!("begin acl\n{acls}"));
    node.etc().write("exim4/exim4.conf", &text);
}

#[test]
fn exim_says_whose_came_back() {
    let node = Node::new();
    let exim = Exim::install(&node, mx(false).ip());
    let _sink = SmtpSink::refusing(&node.elsewhere(), mx(false), node.directory());
    let config = config(
        &node,
        &format!("{{logs: ['{}']}}", exim.log_file().display()),
    );
    let agent = Agent::start(&node, &Config::new(&config, TENANTS));
    set_up_exim(&node, &agent);
    for to in ["a@gone.example", "b@gone.example"] {
        let message = "From: bob@node.example\nSubject: buy\n\nBuy.\n";
        let sent = exim.submit(&node.user(2001), to, message);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    // Over loopback only the one whom Exim asked knows whose it is.
    let cgroup = node.cgroup().child("exim");
    let _daemon = exim.daemon(&node.root(), &cgroup);
    let own: SocketAddr = ([127, 0, 0, 1], 25).into();
    let letter = Letter {
        from: "x@shop.example".to_owned(),
        to: "c@gone.example".to_owned(),
        subject: "more".to_owned(),
    };
    let sent = Mailer::Swaks.send(&node.user(2002), own, &letter);
    assert_eq!(sent.code, 0, "{sent:?}");
    wait::until_true("mail to come back", DELIVERY, || {
        exim.log()
            .lines()
            .filter(|line| line.contains(" ** "))
            .count()
            >= 3
    });
    // Her only domain's, whatever sender Exim wrote.
    let shop = "alice/shop.example";
    let heard = wait::until("alice's bounces", HEARD, || {
        Some(bounces(&agent, shop)).filter(|all| !all.is_empty())
    });
    assert_eq!(sum(&heard), (2, 0), "{}", exim.log());
    let status = agent.status();
    assert_eq!(status["bounces"]["nobodys"], 0, "{}", exim.log());
    assert_eq!(sum(&bounces(&agent, "bob")), (1, 0), "{}", exim.log());
    assert!(bounces(&agent, "alice").is_empty());
}

#[test]
fn whoever_is_killed_loses_nothing_and_counts_nothing_twice() {
    let town = Town::new();
    let agent = town.agent();
    // Read, and perhaps heard, perhaps not.
    town.send(2001, "x@shop.example", (8, 4));
    town.wait_for_bounces(4);
    std::thread::sleep(Duration::from_secs(2));
    agent.kill_9();
    // Written while nobody reads.
    town.send(2002, "x@node.example", (8, 3));
    town.wait_for_bounces(7);
    agent.run();
    let shop = "alice/shop.example";
    assert_eq!(sum(&heard(&agent, shop)), (4, 0));
    let bob = wait::until("bob's bounces", HEARD, || {
        Some(bounces(&agent, "bob")).filter(|all| !all.is_empty())
    });
    assert_eq!(sum(&bob), (3, 0));
    // Heard, and killed again: what is read anew was heard, and stays heard once.
    agent.kill_9();
    agent.run();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.term(), 0);
    assert_eq!(sum(&bounces(&agent, "bob")), (3, 0));
    assert_eq!(sum(&bounces(&agent, shop)), (4, 0));
}
