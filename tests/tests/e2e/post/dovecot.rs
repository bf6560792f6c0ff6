//! Dovecot, and how often each account may be logged in to.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use limiter_tests::{
    Agent, Config, Dovecot, NODE4, Node, OUTSIDE_MX, OUTSIDE_MX_EXEMPT, Place, post::Steps,
    process::run, wait,
};

use super::PASSWORD;

/// Webmail on another machine, which logs in for many.
const WEBMAIL: IpAddr = IpAddr::V4(OUTSIDE_MX);
const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const OFFICE: IpAddr = IpAddr::V4(OUTSIDE_MX_EXEMPT);
const OWN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(NODE4)];

pub const CONFIG: &str = "mode: enforce
notices: null
mailbox: {per_account: {max: 30, window: 1h, lock: 1h, exempt: [203.0.113.5]}}
";
pub const ALICE: &str = "alice@shop.example";
const BOB: &str = "bob@bob.example";

/// A node whose Dovecot asks the agent, as limiter says that it is to be set up.
pub struct House {
    dovecot: Dovecot,
    pub node: Node,
}

impl House {
    pub fn new() -> Self {
        let node = Node::new();
        let users = node.directory().join("users");
        let lines = [ALICE, BOB].map(|name| format!("{name}:{{PLAIN}}{PASSWORD}\n"));
        fs::write(&users, lines.concat()).expect("the directory is ours");
        let settings = format!(
            "passdb {{
  driver = passwd-file
  args = {}
}}
auth_failure_delay = 0
mail_max_userip_connections = 100
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
",
            users.display()
        );
        let dovecot = Dovecot::start_with(
            &node.root(),
            node.cgroup().child("dovecot"),
            node.directory(),
            &settings,
        );
        Self { dovecot, node }
    }

    /// The agent, asked by Dovecot.
    pub fn agent(&self) -> Agent<'_> {
        let agent = Agent::configured(&self.node, &Config::new(CONFIG, "")).simulated();
        let conf = self.dovecot.configuration();
        let at = conf.display().to_string();
        let steps = Steps::of(&agent, "dovecot", &["--at", &at]);
        agent.write_main(&format!("{CONFIG}{}", steps.for_limiter(&agent)));
        let steps = Steps::of(&agent, "dovecot", &["--at", &at]);
        assert_eq!(steps.for_limiter(&agent), "", "{steps:?}");
        let text = fs::read_to_string(conf).expect("it was just written");
        fs::write(conf, text + &steps.put(conf).concat()).expect("it is ours");
        let mut doveadm = self.node.root().command("doveadm");
        let _ = run(doveadm.args(["-c", &at, "reload"]), "").success("doveadm reload");
        let again = Steps::of(&agent, "dovecot", &["--at", &at]);
        assert!(again.put(conf).is_empty(), "{again:?}");
        agent.run();
        agent
    }

    /// Logs in by IMAP or POP3 so often, one after the other; what was answered each time.
    fn log_in(&self, place: &Place, from: IpAddr, name: &str, times: usize) -> Vec<String> {
        let to = if from.is_loopback() {
            from
        } else {
            NODE4.into()
        };
        let mut command = place.command("/usr/bin/python3");
        command.args(["-c", LOGIN, &to.to_string(), &from.to_string()]);
        command.args([name, PASSWORD, &times.to_string()]);
        let out = run(&mut command, "").success("logins");
        out.stdout.lines().map(str::to_owned).collect()
    }

    /// Its configuration.
    pub fn configuration(&self) -> &Path {
        self.dovecot.configuration()
    }

    /// Thirty logins of alice are let in, and no more.
    #[track_caller]
    pub fn thirty_fit(&self) {
        all_in(&self.outside(WEBMAIL, ALICE, 30));
        is_refused(&self.outside(WEBMAIL, ALICE, 1));
    }

    fn outside(&self, from: IpAddr, name: &str, times: usize) -> Vec<String> {
        self.log_in(&self.node.elsewhere(), from, name, times)
    }
}

fn is_in(answer: &str) -> bool {
    answer.starts_with("a OK") || answer.starts_with("+OK")
}

#[track_caller]
fn all_in(answers: &[String]) {
    assert!(answers.iter().all(|answer| is_in(answer)), "{answers:?}");
}

#[track_caller]
fn is_refused(answers: &[String]) {
    let [answer] = answers else {
        panic!("{answers:?}");
    };
    assert!(answer.contains("too many logins; try again in"), "{answer}");
}

#[track_caller]
fn is_silent(answers: &[String]) {
    assert_eq!(answers, ["timed out"]);
}

#[test]
fn thirty_logins_an_hour_then_the_client_is_locked_out() {
    let house = House::new();
    let agent = house.agent();
    all_in(&house.outside(PHONE, ALICE, 30));
    all_in(&house.outside(PHONE, BOB, 1));
    is_refused(&house.outside(PHONE, ALICE, 1));
    // The phone reaches no mailbox any more, whoever's; everybody else does.
    is_silent(&house.outside(PHONE, BOB, 1));
    all_in(&house.outside(OFFICE, BOB, 2));
    is_refused(&house.outside(OFFICE, ALICE, 1));
    is_silent(&house.outside(OFFICE, BOB, 1));
    // Nearly an hour later it is still so.
    agent.advance(Duration::from_secs(3_400));
    is_silent(&house.outside(PHONE, BOB, 1));
    agent.advance(Duration::from_secs(400));
    all_in(&house.outside(PHONE, ALICE, 1));
}

#[test]
fn who_logs_in_for_many_is_not_locked_out_for_one() {
    let house = House::new();
    let _agent = house.agent();
    all_in(&house.outside(WEBMAIL, ALICE, 30));
    for _ in 0..2 {
        is_refused(&house.outside(WEBMAIL, ALICE, 1));
        all_in(&house.outside(WEBMAIL, BOB, 1));
    }
    for own in OWN {
        is_refused(&house.log_in(&house.node.root(), own, ALICE, 1));
        all_in(&house.log_in(&house.node.root(), own, BOB, 1));
    }
}

#[test]
fn what_was_counted_survives_the_agent() {
    let house = House::new();
    let agent = house.agent();
    all_in(&house.outside(WEBMAIL, ALICE, 30));
    is_refused(&house.outside(WEBMAIL, ALICE, 1));
    all_in(&house.outside(WEBMAIL, BOB, 20));
    assert_eq!(agent.term(), 0);
    // While it is away everybody is let in, uncounted.
    all_in(&house.outside(WEBMAIL, ALICE, 1));
    agent.run();
    wait::until_true("alice to be refused again", wait::SOON, || {
        !is_in(&house.outside(WEBMAIL, ALICE, 1)[0])
    });
    all_in(&house.outside(WEBMAIL, BOB, 10));
    is_refused(&house.outside(WEBMAIL, BOB, 1));
}

const LOGIN: &str = r#"
import socket, sys
host, source, name, password, times = sys.argv[1:]
for number in range(int(times)):
    imap = number % 3 != 2
    # Letters of either case reach the same mailbox.
    login = name.upper() if number % 5 == 4 else name
    try:
        s = socket.create_connection((host, 143 if imap else 110), 3, (source, 0))
        f = s.makefile("rb")
        f.readline()
        if imap:
            s.sendall(f"a LOGIN {login} {password}\r\n".encode())
            line = f.readline()
            while line.startswith(b"*"):
                line = f.readline()
            s.sendall(b"b LOGOUT\r\n")
        else:
            s.sendall(f"USER {login}\r\n".encode())
            f.readline()
            s.sendall(f"PASS {password}\r\n".encode())
            line = f.readline()
            s.sendall(b"QUIT\r\n")
        print(line.decode().strip())
        # Who leaves too early is not seen to have logged in.
        if b"OK" in line:
            f.readline()
        s.close()
    except TimeoutError:
        print("timed out")
"#;
