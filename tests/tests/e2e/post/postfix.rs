//! Postfix, with passwords that Dovecot knows, and everything that asks in a chroot.

use std::{fs, path::PathBuf};

use limiter_tests::{
    Agent, Dovecot, NODE4, Node, OUTSIDE_MX, Postfix, post::Steps, process::run, wait,
};

use super::{ALICE, CONFIG, DELIVERY, MailServer, PASSWORD, TENANTS, Town, used};

/// Postfix, and Dovecot for its passwords.
pub struct Server {
    postfix: Postfix,
    _dovecot: Dovecot,
}

impl Server {
    /// Its queue directory.
    pub fn queue(&self) -> PathBuf {
        self.postfix.queue()
    }

    /// Whether its mailbox holds a letter for this recipient.
    pub fn mailbox_has(&self, to: &str) -> bool {
        let line = format!("X-Original-To: {to}");
        let all = self.postfix.mailbox().messages();
        all.iter().any(|text| text.contains(&line))
    }

    fn install(node: &Node) -> Self {
        Self::install_with(node, "", "")
    }

    /// The same, with more in main.cf and master.cf.
    pub fn install_with(node: &Node, more_main: &str, more_master: &str) -> Self {
        let main = format!(
            "relayhost = [{OUTSIDE_MX}]:25
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_peername_lookup = no
{more_main}"
        );
        let submission = format!(
            "127.0.0.1:2525 inet n - y - - smtpd
{NODE4}:587 inet n - y - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{more_master}"
        );
        let postfix = Postfix::of_node(node, "127.0.0.1", (&main, &submission));
        postfix.install(node);
        let users = node.directory().join("users");
        let names = ["alice@shop.example", "bob@bob.example"];
        let lines = names.map(|name| format!("{name}:{{PLAIN}}{PASSWORD}\n"));
        fs::write(&users, lines.concat()).expect("the directory is ours");
        let settings = format!(
            "passdb {{
  driver = passwd-file
  args = {users}
}}
auth_failure_delay = 0
service auth {{
  unix_listener {queue}/private/auth {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
",
            users = users.display(),
            queue = postfix.queue().display()
        );
        let dovecot = Dovecot::start_with(
            &node.root(),
            node.cgroup().child("dovecot"),
            node.directory(),
            &settings,
        );
        Self {
            postfix,
            _dovecot: dovecot,
        }
    }
}

impl MailServer for Server {
    const SAYS_AT_ONCE: bool = false;

    fn start(&mut self, node: &Node, agent: &Agent<'_>) {
        let steps = Steps::of(agent, "postfix", &[]);
        let ours = steps.for_limiter(agent);
        assert!(ours.contains("policy.sock"), "{steps:?}");
        agent.write_main(&format!("{CONFIG}{ours}"));
        assert_eq!(agent.term(), 0);
        agent.run();
        let steps = Steps::of(agent, "postfix", &[]);
        assert_eq!(steps.for_limiter(agent), "", "{steps:?}");
        steps.run(node, "postconf");
        steps.run(node, "postfix");
        let again = Steps::of(agent, "postfix", &[]);
        let commands = again.steps.iter().flat_map(|step| &step.lines);
        assert!(
            !commands.into_iter().any(|it| it.starts_with("postconf")),
            "{again:?}"
        );
    }

    fn sendmail(&self) -> PathBuf {
        "/usr/sbin/sendmail".into()
    }

    fn log(&self) -> String {
        self.postfix.log()
    }

    fn alarms(line: &str) -> bool {
        line.contains("problem talking to server") || line.contains("connect to Milter service")
    }
}

pub fn town() -> Town<Server> {
    Town::new(Server::install)
}

super::scenes::all!(town);

/// One message in chunks (RFC 3030), then one that is never sent to its end.
const CHUNKS: &str = r#"
import smtplib
def begin():
    server = smtplib.SMTP("127.0.0.1", 25, local_hostname="here.example")
    server.ehlo()
    server.mail("x@shop.example")
    for number in range(3):
        code, text = server.rcpt(f"c{number}@outside.example")
        assert code == 250, text
    return server
def chunk(server, text, last=""):
    server.send(b"BDAT %d %s\r\n" % (len(text), last.encode()) + text)
    return server.getreply()
server = begin()
print(*chunk(server, b"Subject: chunks\r\n\r\n"))
print(*chunk(server, b"the end\r\n", "LAST"))
server.quit()
server = begin()
print(*chunk(server, b"Subject: never\r\n\r\n"))
server.close()
"#;

#[test]
fn what_comes_in_chunks_counts_once_and_what_breaks_off_does_not() {
    // A process that waits for clients keeps its connection, and with it the message that broke off.
    let town = Town::new(|node| Server::install_with(node, "max_idle = 3s\n", ""));
    let agent = town.agent(TENANTS);
    let mut python = town.node.user(ALICE).command("/usr/bin/python3");
    let said = run(python.args(["-c", CHUNKS]), "").success("python");
    let codes: Vec<&str> = said.stdout.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250"; 3], "{said:?}");
    town.wait_for_arrival(3);
    wait::until_true("what broke off to be given back", DELIVERY, || {
        used(&agent, "alice") == 3
    });
}
