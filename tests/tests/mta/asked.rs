//! A real Postfix and a real Exim that ask the policy service, set up by what limiter says.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
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
    let postfix = Postfix::of_node(
        &node,
        "127.0.0.1",
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
    let mut new = String::new();
    for line in text.lines() {
        match line {
            "begin acl" => {
                let (settings, acls) = (put(&steps, 0), put(&steps, 1));
                // Writing to a String cannot fail.
                let _ = write!(new, "{settings}{line}\n{acls}");
            }
            _ if line.starts_with("acl_") => {}
            _ => {
                let _ = writeln!(new, "{line}");
            }
        }
    }
    node.etc().write("exim4/exim4.conf", &new);
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

/// ACLs of a site's own: some mail is refused, and some vanishes.
const THEIRS: &str = "accept_rcpt:
  discard local_parts = silent
  deny    local_parts = never
          message     = we do not write there
  drop    local_parts = gone
  accept

their_data:
  discard condition = ${if eq{$h_subject:}{vanish}}
  accept

their_local:
  discard condition = ${if eq{$h_subject:}{vanish}}
  deny    condition = ${if eq{$h_subject:}{never}}
          message   = no such letters
  accept
";

/// Sends over SMTP, and says what was answered to each step.
fn send_about(place: &Place, subject: &str, to: &[&str]) -> Vec<String> {
    const SCRIPT: &str = "
import smtplib, sys
server = smtplib.SMTP('127.0.0.1', 25, local_hostname='web.example', timeout=20)
server.ehlo()
server.mail('x@shop.example')
for to in sys.argv[2:]:
    print(*server.docmd('RCPT', f'TO:<{to}>'))
try:
    print(server.data(f'Subject: {sys.argv[1]}\\r\\n\\r\\nx\\r\\n')[0])
    server.quit()
except smtplib.SMTPException as error:
    print(type(error).__name__)
";
    let mut command = place.command("/usr/bin/python3");
    command.args(["-c", SCRIPT, subject]).args(to);
    let out = run(&mut command, "").success("smtplib");
    out.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn what_an_exim_discards_still_vanishes_and_is_not_asked_about() {
    let node = Node::new();
    let sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let settings =
        "acl_smtp_data = their_data\nacl_not_smtp = their_local\nacl_smtp_quit = their_quit\n";
    let exim = Exim::install_with(&node, OUTSIDE_MX.into(), "127.0.0.1", settings, "");
    let file = node.directory().join("etc/exim4/exim4.conf");
    let text = fs::read_to_string(&file).expect("it was just written");
    let theirs = format!("{THEIRS}\ntheir_quit:\n  deny\n");
    let text = text.replace("accept_rcpt:\n  accept\n", &theirs);
    assert!(text.contains("their_local:"), "{text}");
    node.etc().write("exim4/exim4.conf", &text);
    let socket: PathBuf = node.directory().join("run/policy.sock");
    let service = Service::open(&node, &socket, uid_of(&node, "Debian-exim"));
    set_up(&node, &service);
    let cgroup = node.cgroup().child("mta");
    let _daemon = exim.daemon(&node.root(), &cgroup);
    let alice = node.user(2001);

    let to = [
        "silent@outside.example",
        "never@outside.example",
        "a@outside.example",
    ];
    let said = send_about(&alice, "goes", &to);
    assert!(said[0].starts_with("250 "), "{said:?}");
    assert!(
        said[1].starts_with("550 ") && said[1].contains("we do not write there"),
        "{said:?}"
    );
    assert!(said[2].starts_with("250 ") && said[3] == "250", "{said:?}");
    let heard = service.ears.heard();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard[0].ends_with(" to a@outside.example"), "{heard:?}");
    assert_eq!(heard[1..], ["message to Some(1), queued true", "taken"]);

    // A message that vanishes was not sent: what was asked for is given back, also where a QUIT is
    // refused.
    let said = send_about(&alice, "vanish", &["b@outside.example"]);
    assert!(said[0].starts_with("250 ") && said[1] == "250", "{said:?}");
    let heard = service.ears.wait_for("dropped");
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].ends_with(" to b@outside.example"), "{heard:?}");

    // Who is dropped is.
    let said = send_about(&alice, "gone", &["gone@outside.example"]);
    assert!(said[0].starts_with("550 "), "{said:?}");
    assert_eq!(said[1], "SMTPServerDisconnected", "{said:?}");
    assert_eq!(service.ears.heard(), Vec::<String>::new());

    let submit = |subject: &str| {
        let mut command = alice.command(node.setuid_directory().join("exim4"));
        command.args(["-odf", "-oep", "-i", "--", "local@outside.example"]);
        run(&mut command, &format!("Subject: {subject}\n\nx\n"))
    };
    // Exim's exit code says that nobody gets it; nobody is told more.
    let vanished = submit("vanish");
    assert_eq!(vanished.stderr, "", "{vanished:?}");
    let refused = submit("never");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("no such letters"), "{refused:?}");
    assert_eq!(service.ears.heard(), Vec::<String>::new());
    let _ = submit("goes").success("exim");
    let heard = service.ears.heard();
    assert!(
        heard[0].ends_with("whole to [\"local@outside.example\"]"),
        "{heard:?}"
    );
    // Nothing waits to be tried again, and only what was to go went.
    wait::until_true("two to arrive", wait::SOON, || {
        fs::read_dir(sink.dumps())
            .expect("the directory is ours")
            .count()
            == 2
    });
    let log = exim.log();
    assert!(!log.contains("nested ACL"), "{log}");
    for by in ["DATA", "non-SMTP"] {
        let line = format!("blackhole ({by} ACL discarded recipients)");
        assert!(log.contains(&line), "{log}");
    }
}

#[test]
fn an_agent_that_closes_without_a_word_costs_an_exim_no_mail() {
    let node = Node::new();
    let _sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let exim = Exim::install(&node, OUTSIDE_MX.into());
    let socket: PathBuf = node.directory().join("run/policy.sock");
    let mut service = Service::open(&node, &socket, uid_of(&node, "Debian-exim"));
    set_up(&node, &service);
    service.close();
    let cgroup = node.cgroup().child("mta");
    let _daemon = exim.daemon(&node.root(), &cgroup);
    // One that has no room: before the question, and when it has come.
    let listener = UnixListener::bind(&socket).expect("it is free");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let over = Arc::new(AtomicBool::new(false));
    let closer = {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if number % 2 == 1 {
                    let mut line = String::new();
                    let _ = BufReader::new(stream).read_line(&mut line);
                }
            }
        })
    };
    let program = node.setuid_directory().join("exim4");
    for _ in 0..4 {
        let said = send(&node.user(2001), 25, &["a@outside.example"], "DATA");
        assert!(said.iter().all(|line| line.starts_with("250")), "{said:?}");
        let mut command = node.user(2001).command(&program);
        command.args(["-odq", "-oep", "-i", "--", "a@outside.example"]);
        let _ = run(&mut command, &letter("x")).success("exim");
    }
    let log = exim.log();
    assert!(log.contains("limiter does not answer"), "{log}");
    over.store(true, Ordering::Relaxed);
    let _ = UnixStream::connect(&socket);
    closer.join().expect("it ends");
}
