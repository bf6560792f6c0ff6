//! A real Postfix and a real Exim that ask the policy service, set up by what limiter says.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use limiter_tests::{Exim, Node, OUTSIDE_MX, Place, Postfix, SmtpSink, mx, process::run, wait};
use limiter_user::{
    mta::setup::{EximFacts, PostfixFacts, Steps},
    policy::{self, model::Policy},
    service::{
        ask::{Asker, Settings},
        callers::Callers,
        doors::Doors,
        policy::PolicyService,
    },
    submission::{Answer, Envelope, Gate, Key, Reply},
};
use tokio::runtime::Runtime;

use crate::town::letter;

/// A gate that writes down what it hears, and defers whoever is called `full`.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Ears {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn note(&self, what: String) {
        self.lock().push(what);
    }

    /// Waits until something was said that ends so.
    fn wait_for(&self, end: &str) -> Vec<String> {
        wait::until_true(end, wait::SOON, || {
            self.lock().iter().any(|what| what.ends_with(end))
        });
        self.heard()
    }
}

fn answer(about: &str) -> Answer {
    if about.starts_with("full") {
        return Answer::Defer(Reply {
            status: "4.7.1".to_owned(),
            text: "alice has used up 300 recipients per 1h; try again in 4 minutes".to_owned(),
        });
    }
    Answer::Accept
}

fn who(envelope: &Envelope) -> String {
    let Envelope {
        login,
        client,
        server,
        uid,
        sender,
    } = envelope;
    // The client's port is whatever the kernel gave.
    let client = client.map(|client| (client.ip(), client.port() > 0));
    format!("{login:?} {client:?} {server:?} {uid:?} {sender:?}")
}

impl Gate for Ears {
    fn recipient(&self, _: &Key, envelope: &Envelope, recipient: &str) -> Answer {
        self.note(format!("{} to {recipient}", who(envelope)));
        answer(recipient)
    }

    fn message(
        &self,
        _: &Key,
        _: &Envelope,
        recipients: Option<u32>,
        queued: Option<&Key>,
    ) -> Answer {
        let queued = matches!(queued, Some(Key::Queued(_)));
        self.note(format!("message to {recipients:?}, queued {queued}"));
        Answer::Accept
    }

    fn whole(&self, _: &Key, envelope: &Envelope, recipients: &[String], _: Option<u32>) -> Answer {
        self.note(format!("{} whole to {recipients:?}", who(envelope)));
        recipients
            .iter()
            .map(|recipient| answer(recipient))
            .find(|answer| *answer != Answer::Accept)
            .unwrap_or(Answer::Accept)
    }

    fn watched(&self, _: &Key) {}

    fn taken(&self, _: &Key) {
        self.note("taken".to_owned());
    }

    fn dropped(&self, _: &Key) {
        self.note("dropped".to_owned());
    }
}

/// A policy service on a node.
struct Service {
    ears: Arc<Ears>,
    policy: Policy,
    // Closed before its runtime ends.
    doors: Option<Doors>,
    runtime: Runtime,
}

impl Service {
    /// One that this user may ask at `socket`.
    fn open(node: &Node, socket: &Path, uid: u32) -> Self {
        let config = node.directory().join("limiter.yaml");
        let services = format!(
            "services: {{policy: \"unix:{}\", milter: null}}\n",
            socket.display()
        );
        fs::write(&config, services).expect("the directory is ours");
        let loaded = policy::load(&config);
        let policy = loaded
            .policy
            .unwrap_or_else(|| panic!("{:?}", loaded.faults));
        let mut service = Self {
            ears: Arc::default(),
            policy,
            doors: None,
            runtime: Runtime::new().expect("a runtime can be made"),
        };
        service.doors = Some(service.doors(uid));
        service
    }

    fn doors(&self, uid: u32) -> Doors {
        let settings = Arc::new(Settings::new(self.policy.node.services.clone()));
        let gate = Arc::clone(&self.ears) as Arc<dyn Gate>;
        let service = PolicyService::new(Asker::new(gate, settings));
        let callers = Arc::new(Callers::new([uid].into()));
        let _inside = self.runtime.enter();
        let doors = service.open(&self.policy.places.services.policy, &callers);
        assert_eq!(doors.faults(), Vec::<String>::new());
        doors
    }

    fn close(&mut self) {
        drop(self.doors.take());
        let socket = match &self.policy.places.services.policy[..] {
            [policy::services::ServiceAddress::Unix(path)] => path.clone(),
            other => panic!("{other:?}"),
        };
        wait::until_true("the socket to go", wait::SOON, || !socket.exists());
    }
}

fn uid_of(node: &Node, user: &str) -> u32 {
    let mut command = node.root().command("id");
    let out = run(command.args(["-u", user]), "").success("id");
    out.stdout.trim().parse().expect("a number")
}

/// Sends over SMTP from `place`; the answers to the recipients and to what follows, a line each.
fn send(place: &Place, port: u16, recipients: &[&str], end: &str) -> Vec<String> {
    const SCRIPT: &str = "
import smtplib, sys
port, end, message = int(sys.argv[1]), sys.argv[2], sys.stdin.read()
server = smtplib.SMTP('127.0.0.1', port, local_hostname='web.example', timeout=20)
server.ehlo()
server.mail('x@shop.example')
for to in sys.argv[3:]:
    code, said = server.rcpt(to)
    print(code, said.decode())
if end == 'DATA':
    code, said = server.data(message)
    print(code)
elif end == 'RSET':
    server.rset()
server.quit()
";
    let mut command = place.command("/usr/bin/python3");
    command.args(["-c", SCRIPT, &port.to_string(), end]);
    command.args(recipients);
    let out = run(&mut command, &letter("x")).success("smtplib");
    out.stdout.lines().map(str::to_owned).collect()
}

fn put(steps: &Steps, part: usize) -> String {
    let mut files = steps.steps.iter().filter(|step| step.file.is_some());
    let step = files.nth(part).expect("a part of the file");
    format!("{}\n", step.lines.join("\n"))
}

const FULL: &str = "450 4.7.1 <full@outside.example>: Recipient address rejected: alice has used up 300 \
                    recipients per 1h; try again in 4 minutes";

#[test]
fn a_postfix_asks_also_from_within_its_chroot() {
    let node = Node::new();
    let _sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let postfix = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1".parse().expect("it is one")],
        (
            &format!("relayhost = [{OUTSIDE_MX}]:25"),
            "127.0.0.1:2525 inet n - y - - smtpd\n",
        ),
    );
    let queue = node.directory().join("postfix-node.example/queue");
    let socket = queue.join("limiter/policy.sock");
    let mut service = Service::open(&node, &socket, uid_of(&node, "postfix"));

    let steps = node.inside().enter(|| {
        let postconf = Path::new("/usr/sbin/postconf");
        PostfixFacts::read(postconf, &postfix.configuration())
            .expect("postconf answers")
            .steps(&service.policy)
    });
    let commands = steps.steps.iter().flat_map(|step| &step.lines);
    for line in commands.filter(|line| line.starts_with("postconf ")) {
        let mut command = node.root().command("/bin/sh");
        let _ = run(command.args(["-c", line]), "").success(line);
    }
    for port in [25, 2525] {
        let to = ["a@outside.example", "full@outside.example"];
        let said = send(&node.user(2001), port, &to, "DATA");
        assert_eq!(said, ["250 2.1.5 Ok", FULL, "250"], "{port}");
        let envelope = format!(
            "None Some((127.0.0.1, true)) Some(127.0.0.1:{port}) None Some(\"x@shop.example\")"
        );
        assert_eq!(
            service.ears.heard(),
            [
                format!("{envelope} to a@outside.example"),
                format!("{envelope} to full@outside.example"),
                "message to Some(1), queued true".to_owned(),
            ]
        );
    }
    // What was asked for and not sent is over when the next begins.
    let _ = send(&node.user(2001), 25, &["a@outside.example"], "RSET");
    let _ = send(&node.user(2001), 25, &["b@outside.example"], "RSET");
    let heard = service.ears.wait_for("dropped");
    assert!(
        heard
            .iter()
            .any(|what| what.ends_with("to b@outside.example")),
        "{heard:?}"
    );

    // Another agent is found again, and none lets mail pass.
    service.close();
    service.doors = Some(service.doors(uid_of(&node, "postfix")));
    let said = send(&node.user(2001), 25, &["full@outside.example"], "RSET");
    assert_eq!(said, [FULL]);
    service.close();
    let said = send(&node.user(2001), 25, &["full@outside.example"], "DATA");
    assert_eq!(said, ["250 2.1.5 Ok", "250"]);
}

/// Puts what limiter says into the configuration of the node's Exim.
fn set_up(node: &Node, service: &Service) {
    let program = node.setuid_directory().join("exim4");
    let steps = node.inside().enter(|| {
        let facts = EximFacts::read(&program, None).expect("Exim answers");
        assert_eq!(facts.debian, None);
        facts.steps(&service.policy)
    });
    let file = node.directory().join("etc/exim4/exim4.conf");
    let text = fs::read_to_string(&file).expect("it was just written");
    let hook = "acl_smtp_rcpt = accept_rcpt\n";
    assert!(text.contains(hook));
    let text = text
        .replace(hook, &put(&steps, 0))
        .replace("begin acl\n", &format!("begin acl\n{}", put(&steps, 1)));
    node.etc().write("exim4/exim4.conf", &text);
}

#[test]
fn an_exim_asks_by_smtp_and_from_the_command_line() {
    let node = Node::new();
    let _sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let exim = Exim::install(&node, OUTSIDE_MX.into());
    let socket: PathBuf = node.directory().join("run/policy.sock");
    let mut service = Service::open(&node, &socket, uid_of(&node, "Debian-exim"));
    set_up(&node, &service);

    let cgroup = node.cgroup().child("mta");
    let _daemon = exim.daemon(&node.root(), &cgroup);
    let to = ["a@outside.example", "full@outside.example"];
    let said = send(&node.user(2001), 25, &to, "DATA");
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("250 "), "{said:?}");
    assert_eq!(
        said[1],
        "450 4.7.1 alice has used up 300 recipients per 1h; try again in 4 minutes"
    );
    assert!(said[2].starts_with("250"), "{said:?}");
    // The daemon is root's.
    let envelope =
        "None Some((127.0.0.1, true)) Some(127.0.0.1:25) Some(0) Some(\"x@shop.example\")";
    assert_eq!(
        service.ears.heard(),
        [
            format!("{envelope} to a@outside.example"),
            format!("{envelope} to full@outside.example"),
            "message to Some(1), queued true".to_owned(),
            "taken".to_owned(),
        ]
    );
    let _ = send(&node.user(2001), 25, &["a@outside.example"], "RSET");
    let heard = service.ears.wait_for("dropped");
    assert_eq!(heard.iter().filter(|what| *what == "dropped").count(), 1);

    // From the command line it is the user's, whatever the sender.
    let program = node.setuid_directory().join("exim4");
    let submit = |from: &str, to: &[&str]| {
        let mut command = node.user(2001).command(&program);
        command
            .args(["-odq", "-oep", "-i", "-f", from, "--"])
            .args(to);
        run(&mut command, &letter("x"))
    };
    let done = submit(
        "bob@other.example",
        &["a@outside.example", "b@outside.example"],
    );
    let _ = done.success("exim");
    let heard = service.ears.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        heard[0].starts_with("None None None Some(2001) "),
        "{heard:?}"
    );
    assert!(
        heard[0].ends_with("whole to [\"a@outside.example\", \"b@outside.example\"]"),
        "{heard:?}"
    );
    assert_eq!(heard[1], "taken");
    let refused = submit("x@shop.example", &["full@outside.example"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let why = "450 4.7.1 alice has used up 300 recipients per 1h; try again in 4 minutes";
    assert!(refused.stderr.contains(why), "{refused:?}");

    // Without limiter mail passes.
    service.close();
    let said = send(&node.user(2001), 25, &["full@outside.example"], "DATA");
    assert!(said.iter().all(|line| line.starts_with("250")), "{said:?}");
    let _ = submit("x@shop.example", &["full@outside.example"]).success("exim");
}
