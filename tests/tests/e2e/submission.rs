//! Mail that enters the node's own Postfix, by `sendmail` and by SMTP over loopback, is counted
//! against the one who sends it, in one budget with what goes out directly.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

use limiter_tests::{
    Agent, Config, Guest, Letter, Mailer, Node, OUTSIDE_MX, Output, Postfix, SmtpSink, Wiring, mx,
    process::run, wait,
};
use serde_json::Value;

/// Two accounts with a limit of recipients; what of theirs goes out directly counts too.
const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
direct_smtp: allow
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 6, window: 1h}]}
---
tenant: bob
match: {users: [bob]}
direct_smtp: allow
limits: [{unit: recipients, max: 6, window: 1h}, {unit: messages, max: 5, window: 1h}]
";

const CONFIG: &str = "mode: enforce
notices: null
services:
  policy: inet:127.0.0.1:10040
  milter: inet:127.0.0.1:10041
  dovecot: null
  allowed_users: [postfix]
";

/// What the administrator puts into main.cf.
const MAIN: &str = "
smtpd_recipient_restrictions = check_policy_service { inet:127.0.0.1:10040, default_action=DUNNO }, permit_mynetworks, reject_unauth_destination
smtpd_data_restrictions = check_policy_service { inet:127.0.0.1:10040, default_action=DUNNO }
smtpd_milters = { inet:127.0.0.1:10041, default_action=accept }
non_smtpd_milters = { inet:127.0.0.1:10041, default_action=accept }
smtpd_peername_lookup = no
";

const DELIVERY: Duration = Duration::from_secs(20);

/// A node whose own Postfix asks the agent and hands everything to a server outside.
struct Town {
    postfix: Postfix,
    sink: SmtpSink,
    node: Node,
}

impl Town {
    fn new() -> Self {
        Self::listening("127.0.0.1", "")
    }

    /// Its Postfix listens on port 25 of `address`, and has `more` in its main.cf.
    fn listening(address: &str, more: &str) -> Self {
        Self::set_up(address, &format!("{MAIN}{more}\n"))
    }

    /// Its Postfix has this in its main.cf. Nothing may stand there several times: each process warns of
    /// that, and the one that writes the log waits for itself when ten warnings wait for it.
    fn set_up(address: &str, main: &str) -> Self {
        let node = Node::new();
        let main = format!("relayhost = [{OUTSIDE_MX}]:25\n{main}");
        let postfix = Postfix::of_node(&node, address, (&main, ""));
        postfix.install(&node);
        let sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
        Self {
            postfix,
            sink,
            node,
        }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::start(&self.node, &Config::new(CONFIG, TENANTS))
    }

    /// Submits as a web site does. The exit code is not 0 if it is refused.
    fn sendmail(&self, uid: u32, from: &str, to: &[&str]) -> Output {
        let mut command = self.node.user(uid).command("sendmail");
        command.args(["-i", "-f", from]).args(to);
        run(&mut command, "Subject: by sendmail\n\nBuy.\n")
    }

    /// Sends over loopback, as a script does.
    fn smtp(&self, mailer: Mailer, uid: u32, from: &str, to: &str) -> Output {
        let letter = Letter {
            from: from.to_owned(),
            to: to.to_owned(),
            subject: "by smtp".to_owned(),
        };
        let own: SocketAddr = ([127, 0, 0, 1], 25).into();
        mailer.send(&self.node.user(uid), own, &letter)
    }

    /// Whom mail arrived for outside.
    fn arrived(&self) -> Vec<String> {
        let files = fs::read_dir(self.sink.dumps()).expect("the directory is ours");
        files
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .flat_map(|text| {
                let to = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("X-Rcpt-Args: "));
                to.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// What is used of a tenant's limit of this unit.
fn used(agent: &Agent<'_>, tenant: &str, unit: &str) -> u64 {
    let status = agent.tenant(tenant);
    let usage = status["usage"].as_array().expect("a list");
    let of = usage.iter().find(|one| one["unit"] == unit);
    of.and_then(|one| one["used"].as_u64()).expect("it has one")
}

#[test]
fn whoever_sends_pays_by_every_way_in() {
    let town = Town::new();
    let agent = town.agent();
    let shop = "alice/shop.example";
    // By sendmail, by SMTP of three programs, each counts once.
    let _ = town
        .sendmail(
            2001,
            "x@shop.example",
            &["a@outside.example", "b@outside.example"],
        )
        .success("sendmail");
    wait::until_true("sendmail's to be counted", DELIVERY, || {
        used(&agent, shop, "recipients") == 2
    });
    for (mailer, already) in [
        (Mailer::Swaks, 3),
        (Mailer::PhpSocket, 4),
        (Mailer::Python, 5),
    ] {
        let sent = town.smtp(mailer, 2001, "x@shop.example", "c@outside.example");
        assert_eq!(sent.code, 0, "{mailer:?}: {sent:?}");
        assert_eq!(used(&agent, shop, "recipients"), already, "{mailer:?}");
    }
    // Bob writes Alice's name: it is his.
    let sent = town.smtp(Mailer::Swaks, 2002, "x@shop.example", "d@outside.example");
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = town
        .sendmail(2002, "x@shop.example", &["e@outside.example"])
        .success("sendmail");
    wait::until_true("bob's to be counted", DELIVERY, || {
        used(&agent, "bob", "recipients") == 2
    });
    assert_eq!(used(&agent, shop, "recipients"), 5);
    // What goes out directly is of the same budget.
    let letter = Letter::outside("directly");
    let direct = Mailer::Swaks.send(&town.node.user(2002), mx(false), &letter);
    assert_eq!(direct.code, 0, "{direct:?}");
    wait::until_true("the direct one to be counted", DELIVERY, || {
        used(&agent, "bob", "recipients") == 3
    });
    wait::until_true("all to arrive", DELIVERY, || town.arrived().len() >= 8);
}

#[test]
fn one_more_than_the_limit_is_refused_with_the_reason() {
    let town = Town::new();
    let agent = town.agent();
    let list: Vec<String> = (0..6).map(|it| format!("c{it}@outside.example")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let _ = town
        .sendmail(2002, "x@node.example", &list)
        .success("sendmail");
    wait::until_true("the list to be counted", DELIVERY, || {
        used(&agent, "bob", "recipients") == 6
    });
    let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "one@outside.example");
    assert_ne!(sent.code, 0, "{sent:?}");
    let text = format!("{sent:?}");
    assert!(text.contains("450 4.7.1"), "{text}");
    assert!(
        text.contains("bob has used up 6 recipients in 1h; try again in"),
        "{text}"
    );
    let event = wait::until("the event", wait::SOON, || {
        agent.events(&["--tenant", "bob"]).pop()
    });
    let is = |key: &str, value: Value| assert_eq!(event[key], value, "{key} in {event:#}");
    is("layer", "mta".into());
    is("verdict", "denied".into());
    is("reason", "limit".into());
    is("uid", 2002.into());
    // Nobody else is held back.
    let other = town.smtp(Mailer::Swaks, 2001, "x@shop.example", "two@outside.example");
    assert_eq!(other.code, 0, "{other:?}");
    wait::until_true("both to arrive", DELIVERY, || {
        let arrived: BTreeSet<String> = town.arrived().into_iter().collect();
        arrived.len() == 7
    });
}

#[test]
fn under_a_sanction_nothing_more_comes_in() {
    let town = Town::new();
    let agent = town.agent();
    agent.must(&[
        "suspend",
        "bob",
        "--sanction",
        "block_smtp",
        "--reason",
        "spam",
    ]);
    let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "a@outside.example");
    let text = format!("{sent:?}");
    assert!(
        sent.code != 0 && text.contains("mail of bob is stopped"),
        "{text}"
    );
    let alice = town.smtp(Mailer::Swaks, 2001, "x@shop.example", "a@outside.example");
    assert_eq!(alice.code, 0, "{alice:?}");
    agent.must(&["reinstate", "bob", "--reason", "cleaned"]);
    let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "a@outside.example");
    assert_eq!(sent.code, 0, "{sent:?}");
}

#[test]
fn without_an_agent_mail_goes_and_counts_again_with_one() {
    let town = Town::new();
    let agent = town.agent();
    let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "a@outside.example");
    assert_eq!(sent.code, 0, "{sent:?}");
    agent.kill_9();
    let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "b@outside.example");
    assert_eq!(sent.code, 0, "{sent:?}: {}", town.postfix.log());
    agent.run();
    assert_eq!(
        used(&agent, "bob", "recipients"),
        1,
        "what was counted stays"
    );
    wait::until_true("mail to be counted again", DELIVERY, || {
        let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "c@outside.example");
        assert_eq!(sent.code, 0, "{sent:?}");
        used(&agent, "bob", "recipients") == 2
    });
}

#[test]
fn containers_and_guests_that_hand_in_mail_pay_for_it() {
    let town = Town::listening("0.0.0.0", "mynetworks = 127.0.0.0/8, 192.0.2.0/24");
    let node = &town.node;
    // One by its cgroup, one by its interface, and one that nobody has claimed.
    let bridge = |number| {
        let name = format!("veth10{number}");
        Guest::new(node, Wiring::Bridge, &name, number)
    };
    limiter_tests::guest::add_bridge(node);
    let (shop, blog, stray) = (bridge(1), bridge(2), bridge(3));
    let limit = "direct_smtp: allow\nlimits: [{unit: recipients, max: 3, window: 1h}]";
    let tenants = format!(
        "tenant: shop\nmatch: {{cgroups: [\"{}\"]}}\n{limit}\n---\n\
         tenant: blog\nmatch: {{interfaces: [{}]}}\n{limit}\n",
        shop.cgroup().path(),
        blog.interface()
    );
    let config =
        format!("{CONFIG}default: {{limits: [{{unit: recipients, max: 1, window: 1h}}]}}\n");
    let agent = Agent::start(node, &Config::new(&config, &tenants));
    let send = |guest: &Guest<'_>, mailer: Mailer, to: &str| {
        let letter = Letter {
            from: "x@node.example".to_owned(),
            to: to.to_owned(),
            subject: "relayed".to_owned(),
        };
        let own = SocketAddr::new(guest.gateway(false), 25);
        mailer.send(&guest.root(), own, &letter)
    };
    for (guest, tenant) in [(&shop, "shop"), (&blog, "blog")] {
        for (mailer, already) in [
            (Mailer::Swaks, 1),
            (Mailer::PhpSocket, 2),
            (Mailer::Python, 3),
        ] {
            let sent = send(guest, mailer, "a@outside.example");
            assert_eq!(sent.code, 0, "{tenant}: {sent:?}: {}", town.postfix.log());
            assert_eq!(used(&agent, tenant, "recipients"), already, "{tenant}");
        }
        let sent = send(guest, Mailer::Swaks, "a@outside.example");
        let text = format!("{sent:?}");
        assert!(
            sent.code != 0 && text.contains(&format!("{tenant} has used up 3 recipients in 1h")),
            "{text}"
        );
    }
    let sent = send(&stray, Mailer::Swaks, "a@outside.example");
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(used(&agent, "(default)", "recipients"), 1);
    let sent = send(&stray, Mailer::Swaks, "a@outside.example");
    assert_ne!(sent.code, 0, "{sent:?}");
    // Mail that comes in from outside is nobody's.
    let letter = Letter::outside("coming in");
    let to_us = SocketAddr::new(limiter_tests::NODE4.into(), 25);
    let sent = Mailer::Swaks.send(&node.elsewhere(), to_us, &letter);
    assert!(!format!("{sent:?}").contains("used up"), "{sent:?}");
    assert_eq!(used(&agent, "(default)", "recipients"), 1);
}

/// Connects, then says by ARP that its address is at another's hardware address, and hands in a message
/// without ever seeing an answer again.
const FORGER: &str = r#"
import socket, struct, sys, time
gateway, own, mac, other = sys.argv[1:]
raw_mac = lambda text: bytes.fromhex(text.replace(":", ""))
smtp = socket.create_connection((gateway, 25), 10)
smtp.recv(500)
smtp.sendall(b"EHLO forger.example\r\n")
smtp.recv(2000)
time.sleep(1.3)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
says = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
says += raw_mac(other) + socket.inet_aton(own) + b"\0" * 6 + socket.inet_aton(gateway)
for _ in range(3):
    wire.send(b"\xff" * 6 + raw_mac(mac) + b"\x08\x06" + says)
    time.sleep(0.1)
smtp.sendall(b"MAIL FROM:<x@node.example>\r\nRCPT TO:<a@outside.example>\r\nDATA\r\n")
time.sleep(2)
smtp.sendall(b"Subject: forged\r\n\r\nBuy.\r\n.\r\n")
time.sleep(3)
"#;

#[test]
fn a_guest_that_answers_for_its_neighbour_pays_itself() {
    let town = Town::listening("0.0.0.0", "mynetworks = 127.0.0.0/8, 192.0.2.0/24");
    let node = &town.node;
    limiter_tests::guest::add_bridge(node);
    let guest = |number| Guest::new(node, Wiring::Bridge, &format!("veth10{number}"), number);
    let (forger, neighbour) = (guest(1), guest(2));
    let limit = "direct_smtp: allow\nlimits: [{unit: recipients, max: 30, window: 1h}]";
    let tenants = format!(
        "tenant: forger\nmatch: {{interfaces: [veth101]}}\n{limit}\n---\n\
         tenant: neighbour\nmatch: {{interfaces: [veth102], addresses: [{}]}}\n{limit}\n",
        forger.kernel(false)
    );
    let agent = Agent::start(node, &Config::new(CONFIG, &tenants));
    let sent = Mailer::Swaks.send(
        &neighbour.root(),
        SocketAddr::new(neighbour.gateway(false), 25),
        &Letter::outside("honest"),
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(used(&agent, "neighbour", "recipients"), 1);
    let mut command = forger.root().command("python3");
    command
        .args(["-c", FORGER])
        .arg(forger.gateway(false).to_string())
        .arg(forger.kernel(false).to_string())
        .args([forger.mac(), neighbour.mac()]);
    let _ = run(&mut command, "").success("the forger");
    wait::until_true("the forger to pay", DELIVERY, || {
        used(&agent, "forger", "recipients") == 1
    });
    assert_eq!(used(&agent, "neighbour", "recipients"), 1);
}

#[test]
fn a_mail_server_that_asks_by_halves_is_found_out() {
    let halves = ["smtpd_recipient", "smtpd_peername"];
    let kept = |line: &&str| halves.iter().any(|start| line.starts_with(start));
    let main: Vec<&str> = MAIN.lines().filter(kept).collect();
    let town = Town::set_up("127.0.0.1", &format!("{}\n", main.join("\n")));
    let agent = town.agent();
    // The last that each of its processes asked about may still be under way.
    for _ in 0..8 {
        let sent = town.smtp(Mailer::Swaks, 2002, "x@node.example", "a@outside.example");
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let said = "asks about recipients, and not when the message is there";
    wait::until_true("status to say so", DELIVERY, || {
        agent.status()["problems"].to_string().contains(said)
    });
    assert!(used(&agent, "bob", "recipients") <= 3);
}
