//! A node whose own mail server asks limiter, set up by what `limiter mta config` prints: one budget,
//! whichever way mail comes in, and whoever it says that it is from.

mod check;
mod dovecot;
mod exim;
mod filter;
mod postfix;
mod scenes;
mod speed;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use limiter_tests::{
    Agent, Config, NODE4, Node, Output, Place, SmtpSink, mx,
    post::{Letters, Said, send},
    process::run,
    wait,
};

/// How long mail may take to where it goes.
const DELIVERY: Duration = Duration::from_secs(40);
/// Everybody's password.
const PASSWORD: &str = "right";
/// What limiter.yaml says besides the places.
const CONFIG: &str = "mode: enforce\nnotices: null\n";

/// Two accounts; what of theirs goes out directly counts too.
const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
direct_smtp: allow
limits: [{unit: recipients, max: 300, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 300, window: 1h}]}
---
tenant: bob
match: {users: [bob]}
direct_smtp: allow
limits: [{unit: recipients, max: 6, window: 1h}]
domains:
  - {name: bob.example}
";

/// The uids of alice and bob.
const ALICE: u32 = 2001;
const BOB: u32 = 2002;

/// A mail server, as these tests use it.
trait MailServer: Send {
    /// Sets it up to ask this agent, and starts it.
    fn start(&mut self, node: &Node, agent: &Agent<'_>);
    /// Its `sendmail`.
    fn sendmail(&self) -> PathBuf;
    /// Whether `sendmail` says at once that it is refused; else the sender gets a bounce.
    const SAYS_AT_ONCE: bool;
    /// What it logged.
    fn log(&self) -> String;
    /// Whether a line of the log says that limiter does not answer.
    fn alarms(line: &str) -> bool;
}

/// A node, its mail server, and a server outside where everything goes.
struct Town<S> {
    server: Mutex<S>,
    sink: SmtpSink,
    node: Node,
}

impl<S: MailServer> Town<S> {
    fn new(install: impl FnOnce(&Node) -> S) -> Self {
        let node = Node::new();
        let server = Mutex::new(install(&node));
        let sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
        Self { server, sink, node }
    }

    /// The agent, and the mail server that asks it.
    fn agent(&self, tenants: &str) -> Agent<'_> {
        let agent = Agent::start(&self.node, &Config::new(CONFIG, tenants));
        self.lock().start(&self.node, &agent);
        agent
    }

    /// Over loopback, as a script does.
    fn smtp(&self, place: &Place, from: &str, to: &[String]) -> Said {
        let letters = Letters {
            server: (Ipv4Addr::LOCALHOST, 25).into(),
            login: None,
            from,
            to,
        };
        send(place, &letters)
    }

    /// With a password, from wherever.
    fn submission(&self, place: &Place, login: &str, from: &str, to: &[String]) -> Said {
        let server: SocketAddr = (NODE4, 587).into();
        let letters = Letters {
            server,
            login: Some((login, PASSWORD)),
            from,
            to,
        };
        send(place, &letters)
    }

    /// Straight to the server outside.
    fn directly(&self, place: &Place, from: &str, to: &[String]) -> Said {
        let letters = Letters {
            server: mx(false),
            login: None,
            from,
            to,
        };
        send(place, &letters)
    }

    /// On the command line.
    fn sendmail(&self, uid: u32, from: &str, to: &[String]) -> Output {
        let program = self.lock().sendmail();
        let mut command = self.node.user(uid).command(program);
        command.args(["-i", "-oep", "-f", from, "--"]).args(to);
        let text = format!("From: <{from}>\nSubject: by sendmail\n\nBuy.\n");
        run(&mut command, &text)
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a bounce arrives outside: mail of nobody.
    #[track_caller]
    fn wait_for_bounce(&self, to: &str) {
        let line = format!("X-Rcpt-Args: <{to}>");
        wait::until_true("the bounce", DELIVERY, || {
            self.dumps().iter().any(|text| {
                text.contains(&line) && text.lines().any(|line| line.starts_with("X-Mail-Args: <>"))
            })
        });
    }

    fn dumps(&self) -> Vec<String> {
        let files = fs::read_dir(self.sink.dumps()).expect("the directory is ours");
        files
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect()
    }

    /// Whom mail arrived for outside, as often as it did.
    fn arrived(&self) -> Vec<String> {
        let mut people = Vec::new();
        for text in self.dumps() {
            let to = text
                .lines()
                .filter_map(|line| line.strip_prefix("X-Rcpt-Args: "));
            let to = to.filter(|to| to.contains("@outside.example"));
            people.extend(to.map(str::to_owned));
        }
        people
    }

    /// Waits until mail for exactly so many arrived.
    #[track_caller]
    fn wait_for_arrival(&self, recipients: usize) {
        wait::until_true(&format!("{recipients} to arrive"), DELIVERY, || {
            self.arrived().len() >= recipients
        });
        std::thread::sleep(Duration::from_millis(300));
        let arrived = self.arrived();
        assert_eq!(arrived.len(), recipients, "{arrived:?}");
    }
}

/// What is used of a tenant's limit of recipients.
#[track_caller]
fn used(agent: &Agent<'_>, tenant: &str) -> u64 {
    agent.used(tenant, 0)
}
