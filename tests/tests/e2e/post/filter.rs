//! Postfix with a content filter that hands mail back, and a list manager: outgoing mail counts once, for whoever
//! sent it, and incoming mail is nobody's.

use std::{fs, net::Ipv4Addr};

use limiter_tests::{
    Agent, Config, NODE4, Process,
    post::{Letters, Said, Steps, people, send},
    process::run,
    wait,
};

use super::{ALICE, BOB, CONFIG, DELIVERY, MailServer, TENANTS, Town, postfix::Server, used};

/// The uids of the filter and of the list manager.
const FILTER: u32 = 960;
const LISTS: u32 = 961;
/// Shows who is charged where nobody is known.
const DEFAULT: &str =
    "default: {direct_smtp: allow, limits: [{unit: recipients, max: 1000, window: 1h}]}\n";
const MAIN: &str = "content_filter = smtp:[127.0.0.1]:10024\n";
const FROM: &str = "x@shop.example";
const SHOP: &str = "alice/shop.example";

fn master() -> String {
    format!(
        "{NODE4}:25 inet n - n - - smtpd
127.0.0.1:10025 inet n - n - - smtpd
  -o content_filter=
  -o receive_override_options=no_unknown_recipient_checks
"
    )
}

/// A filter as amavis is: takes mail by SMTP, and hands it back by SMTP.
const RELAY: &str = r#"
import smtplib, socketserver
def path(line):
    return line.split(b"<", 1)[1].split(b">", 1)[0].decode()
class Relay(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")
    def handle(self):
        self.say("220 filter.example")
        sender, to = "", []
        for line in self.rfile:
            verb = line.strip().upper()
            if verb.startswith(b"MAIL FROM:"):
                sender, to = path(line), []
            elif verb.startswith(b"RCPT TO:"):
                to.append(path(line))
            elif verb == b"DATA":
                self.say("354 go on")
                body = b"X-Filtered: yes\r\n"
                for line in self.rfile:
                    if line == b".\r\n":
                        break
                    body += line[1:] if line.startswith(b".") else line
                with smtplib.SMTP("127.0.0.1", 10025, local_hostname="filter.example") as back:
                    back.sendmail(sender, to, body)
            elif verb == b"QUIT":
                return self.say("221 bye")
            self.say("250 filter.example")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
with Server(("127.0.0.1", 10024), Relay) as server:
    print("ready", flush=True)
    server.serve_forever()
"#;

fn relay(town: &Town<Server>) -> Process {
    let mut command = town.node.user(FILTER).command("/usr/bin/python3");
    let log = town.node.directory().join("filter.log");
    let process = Process::start("the filter", command.args(["-c", RELAY]), &log);
    wait::until_true("the filter to listen", wait::SOON, || {
        process.log().contains("ready")
    });
    process
}

impl Town<Server> {
    fn at(&self, uid: u32, port: u16, from: &str, to: &[String]) -> Said {
        let letters = Letters {
            server: (Ipv4Addr::LOCALHOST, port).into(),
            login: None,
            from,
            to,
        };
        send(&self.node.user(uid), &letters)
    }

    /// Mail from outside to a mailbox here, which arrives by way of the filter.
    fn comes_in(&self, number: usize) {
        let to = [format!("in{number}@node.example")];
        let letters = Letters {
            server: (NODE4, 25).into(),
            login: None,
            from: "stranger@elsewhere.example",
            to: &to,
        };
        let said = send(&self.node.elsewhere(), &letters);
        assert_eq!(said.taken(), 1, "{said:?}");
        wait::until_true("mail to come in", DELIVERY, || {
            self.lock().mailbox_has(&to[0])
        });
    }
}

fn postconf(town: &Town<Server>, words: &[&str]) -> String {
    let mut command = town.node.root().command("postconf");
    run(command.args(words), "").success("postconf").stdout
}

/// What nobody claims was not charged.
#[track_caller]
fn nobody_else_paid(agent: &Agent<'_>) {
    assert_eq!(used(agent, "(default)"), 0);
}

#[test]
fn what_a_filter_hands_back_counts_once_and_what_comes_in_is_nobodys() {
    let town = Town::new(|node| {
        node.etc().add_user("amavis", FILTER);
        node.etc().add_user("list", LISTS);
        Server::install_with(node, MAIN, &master())
    });
    let agent = Agent::start(&town.node, &Config::new(CONFIG, TENANTS));
    let _filter = relay(&town);
    // As it is printed where nobody knows the filter: its listener is left out.
    town.lock().start(&town.node, &agent);
    let mut text = fs::read_to_string(agent.main_file()).expect("it is there");
    text.insert_str(0, DEFAULT);
    fs::write(agent.main_file(), &text).expect("the directory is ours");
    let _ = agent.reload().success("reload");
    let said = postconf(&town, &["-P"]);
    assert!(
        said.contains(
            "127.0.0.1:10025/inet/smtpd_recipient_restrictions = permit_mynetworks,reject"
        ),
        "{said}"
    );
    let three = town.at(ALICE, 25, FROM, &people("first", 3));
    assert_eq!(three.taken(), 3, "{three:?}");
    town.wait_for_arrival(3);
    let done = town.sendmail(ALICE, FROM, &people("command", 2));
    let _ = done.success("sendmail");
    town.wait_for_arrival(5);
    assert_eq!((used(&agent, SHOP), used(&agent, "alice")), (5, 5));
    town.comes_in(1);
    nobody_else_paid(&agent);
    assert_eq!(used(&agent, "alice"), 5);

    // As it is printed where the filter is known: it asks, and the filter's is nobody's.
    text.push_str("  filters: [amavis]\n  lists: [list]\n");
    fs::write(agent.main_file(), &text).expect("the directory is ours");
    let _ = agent.reload().success("reload");
    let steps = Steps::of(&agent, "postfix", &[]);
    steps.run(&town.node, "postconf");
    steps.run(&town.node, "postfix");
    let said = postconf(&town, &["-P"]);
    assert!(
        said.contains("$limiter_check,permit_mynetworks,reject"),
        "{said}"
    );
    let three = town.at(ALICE, 25, FROM, &people("again", 3));
    assert_eq!(three.taken(), 3, "{three:?}");
    town.wait_for_arrival(8);
    assert_eq!((used(&agent, SHOP), used(&agent, "alice")), (8, 8));
    town.comes_in(2);
    nobody_else_paid(&agent);
    // Whoever goes around the filter pays, and is held to the limit.
    let around = town.at(BOB, 10025, "x@bob.example", &people("around", 7));
    assert_eq!(around.taken(), 6, "{around:?}");
    assert_eq!(used(&agent, "bob"), 6);
    town.wait_for_arrival(14);
    // A list's mail is its owner's; a domain that is nobody's here is not.
    let list = town.at(LISTS, 25, "offers-bounces@shop.example", &people("list", 4));
    assert_eq!(list.taken(), 4, "{list:?}");
    assert_eq!((used(&agent, SHOP), used(&agent, "alice")), (12, 12));
    nobody_else_paid(&agent);
    town.wait_for_arrival(18);
    assert!(
        town.dumps().iter().all(|text| {
            text.contains("X-Filtered: yes") || text.contains("X-Mail-Args: <x@bob.example>")
        }),
        "{:?}",
        town.dumps()
    );

    // All that hangs on the filter's name: without it others pay for what it hands back.
    let unknown = text.replace("  filters: [amavis]\n", "");
    fs::write(agent.main_file(), unknown).expect("the directory is ours");
    let _ = agent.reload().success("reload");
    let one = town.at(ALICE, 25, FROM, &people("unknown", 1));
    assert_eq!(one.taken(), 1, "{one:?}");
    wait::until_true("others to pay", DELIVERY, || used(&agent, "(default)") == 1);
    assert_eq!(used(&agent, "alice"), 13);
}

#[test]
fn what_a_check_of_the_content_refuses_is_given_back() {
    let town = Town::new(|node| {
        node.etc().write("checks", "/^From:.*<refused@/ REJECT\n");
        Server::install_with(node, "header_checks = regexp:/etc/checks\n", "")
    });
    let agent = Agent::start(&town.node, &Config::new(CONFIG, TENANTS));
    town.lock().start(&town.node, &agent);
    let said = postconf(&town, &["smtpd_milters"]);
    assert!(said.contains("limiter/milter.sock"), "{said}");
    let alice = town.node.user(ALICE);
    let two = town.smtp(&alice, "refused@shop.example", &people("refused", 2));
    assert!(
        two.refusal().is_some_and(|it| it.contains("5.7.1")),
        "{two:?}"
    );
    let one = town.smtp(&alice, FROM, &people("taken", 1));
    assert_eq!(one.taken(), 1, "{one:?}");
    assert_eq!((used(&agent, SHOP), used(&agent, "alice")), (1, 1));
    town.wait_for_arrival(1);
}
