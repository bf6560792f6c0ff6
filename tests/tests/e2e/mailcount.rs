//! Messages and recipients in direct sessions: exact where the session can be read, by whatever
//! program; estimated under TLS, where one message stays one and hundreds are stopped.

use std::{net::SocketAddr, thread, time::Duration};

use limiter_tests::{
    Agent, Cgroup, Config, Guest, Node, OUTSIDE_MX, OUTSIDE_MX6, Output, Place, Postfix, Wiring,
    mx,
    packets::{Ended, PacketReport},
    process::run,
    wait,
};
use serde::Deserialize;
use serde_json::Value;

/// How soon a session over its limit is cut, and not stalled.
const SOON: Duration = Duration::from_secs(1);

/// A node with users and containers, and a real mail server outside that takes everything.
struct Town<'n> {
    node: &'n Node,
    outside: Postfix,
    /// A container for each kind of tenant: those who may much, few messages, few recipients.
    boxes: [Guest<'n>; 3],
    machine: Guest<'n>,
}

/// The limits of those who may much, few messages, few recipients.
const KINDS: [(&str, u32, u32); 3] = [("much", 900, 900), ("five", 5, 900), ("seven", 900, 7)];

impl<'n> Town<'n> {
    fn new(node: &'n Node) -> Self {
        let pem = node.directory().join("outside.pem");
        let pem = pem.display().to_string();
        let mut openssl = node.elsewhere().command("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-batch"])
            .args(["-subj", "/CN=outside.example", "-days", "2"])
            .args(["-keyout", &pem, "-out", &pem]);
        let _ = run(&mut openssl, "").success("openssl");
        let main = format!(
            "message_size_limit = 60000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = {pem}
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
"
        );
        let outside = Postfix::start(
            &node.elsewhere(),
            Cgroup::at_top(),
            node.directory(),
            "outside.example",
            &[OUTSIDE_MX.into(), OUTSIDE_MX6.into()],
            (&main, "tlsmgr unix - - n 1000? 1 tlsmgr\n"),
        );
        let contained = |name, number| Guest::unprivileged(node, Wiring::Veth, name, number);
        Self {
            node,
            outside,
            boxes: [
                contained("veth-much", 1),
                contained("veth-five", 2),
                contained("veth-seven", 3),
            ],
            machine: Guest::new(node, Wiring::Tap, "tap101i0", 4),
        }
    }

    fn agent(&self) -> Agent<'n> {
        let users = ["alice", "bob", "carol"];
        let mut tenants = String::new();
        let mut add = |name: &str, messages: u32, recipients: u32, part: &str| {
            let limit = |unit: &str, max: u32| format!("{{unit: {unit}, max: {max}, window: 1h}}");
            let (messages, recipients) =
                (limit("messages", messages), limit("recipients", recipients));
            tenants.push_str(&format!(
                "---\ntenant: {name}\ndirect_smtp: allow\nlimits: [{messages}, {recipients}]\n\
                 match: {{{part}}}\n"
            ));
        };
        for ((kind, messages, recipients), user) in KINDS.into_iter().zip(users) {
            add(user, messages, recipients, &format!("users: [{user}]"));
            let interface = format!("interfaces: [veth-{kind}]");
            add(&format!("box-{kind}"), messages, recipients, &interface);
        }
        add("machine", 5, 900, "interfaces: ['tap101i*']");
        let config = Config::new(
            "mode: enforce\ndefault: {direct_smtp: allow, submission: allow}",
            &tenants,
        )
        .attached_also("guests: [\"veth*\", \"tap*\"], uplinks: [eth0]");
        Agent::start(self.node, &config)
    }

    /// The user and the container of a kind, by tenant.
    fn pair(&self, kind: usize) -> [(String, Place); 2] {
        let uids = [(2001, "alice"), (2002, "bob"), (2003, "carol")];
        let (uid, user) = uids[kind];
        [
            (user.to_owned(), self.node.user(uid)),
            (format!("box-{}", KINDS[kind].0), self.boxes[kind].root()),
        ]
    }
}

/// What the mailer says of its session.
#[derive(Debug, Deserialize)]
struct Sent {
    /// Messages that the server took.
    taken: u64,
    /// Recipients that the server took.
    recipients: u64,
    /// The error that ended it.
    error: Option<String>,
    /// How long the server's last answer, or the error, was waited for, seconds.
    waited: f64,
}

impl Sent {
    #[track_caller]
    fn is_cut(&self) {
        let error = self.error.as_deref().unwrap_or("none");
        // Python's TLS does not tell a reset from an end.
        let cut = ["ECONNRESET", "ECONNABORTED", "EPIPE", "TLS"];
        assert!(cut.contains(&error), "{self:?}");
        assert!(self.waited < SOON.as_secs_f64(), "{self:?}");
    }
}

/// Sends by a program of its own, in this way: so many messages to so many recipients each.
fn send(place: &Place, to: SocketAddr, way: &str, messages: u32, recipients: u32) -> Sent {
    let mut command = place.command("/usr/bin/python3");
    command
        .args(["-c", MAILER, &to.ip().to_string(), &to.port().to_string()])
        .args([way, &messages.to_string(), &recipients.to_string()]);
    let out = run(&mut command, "").success(way);
    serde_json::from_str(&out.stdout).expect("the mailer prints what came of it")
}

/// How much a tenant's limits are used: messages, recipients.
fn used(agent: &Agent, tenant: &str) -> (u64, u64) {
    (agent.used(tenant, 0), agent.used(tenant, 1))
}

/// Fails unless so much more is used than before.
#[track_caller]
fn grown(agent: &Agent, tenant: &str, before: (u64, u64), by: (u64, u64), what: &str) {
    let now = used(agent, tenant);
    let grown = (now.0 - before.0, now.1 - before.1);
    assert_eq!(grown, by, "{tenant}: {what}");
}

fn smtp_source(place: &Place, to: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = place.command("smtp-source");
    let host = match to {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    };
    command
        .args(["-f", "a@node.example", "-t", "b@outside.example"])
        .args(arguments)
        .arg(format!("inet:{host}:{}", to.port()));
    run(&mut command, "")
}

#[test]
fn what_can_be_read_is_counted_exactly() {
    let node = Node::new();
    let town = Town::new(&node);
    let agent = town.agent();
    for (tenant, place) in town.pair(0) {
        for v6 in [false, true] {
            let before = used(&agent, &tenant);
            let out = smtp_source(&place, mx(v6), &["-s", "1", "-m", "20", "-d"]);
            assert_eq!(out.code, 0, "{out:?}");
            grown(&agent, &tenant, before, (20, 20), "one session");

            let before = used(&agent, &tenant);
            let several = ["-s", "3", "-m", "9", "-r", "4"];
            let out = smtp_source(&place, mx(v6), &several);
            assert_eq!(out.code, 0, "{out:?}");
            grown(&agent, &tenant, before, (9, 36), "recipients");
        }
        let before = used(&agent, &tenant);
        let mut swaks = place.command("swaks");
        swaks
            .args(["--server", &mx(false).ip().to_string(), "--silent", "2"])
            .args(["--from", "a@node.example", "--helo", "node.example"])
            .args(["--to", "b@outside.example,c@outside.example"]);
        let _ = run(&mut swaks, "").success("swaks");
        grown(&agent, &tenant, before, (1, 2), "swaks");

        for (way, messages, recipients) in [
            ("plain", 4, 3),
            ("pipelined", 4, 3),
            ("bytes", 2, 2),
            ("halves", 3, 2),
            ("quoting", 3, 2),
            ("chunks", 2, 2),
            ("large", 1, 1),
        ] {
            let before = used(&agent, &tenant);
            let sent = send(&place, mx(false), way, messages, recipients);
            assert_eq!(sent.error, None, "{tenant} {way}: {sent:?}");
            let by = (u64::from(messages), u64::from(messages * recipients));
            assert_eq!((sent.taken, sent.recipients), by, "{way}");
            grown(&agent, &tenant, before, by, way);
        }
        assert_eq!(agent.counter(&tenant, "denied"), 0);
    }
}

/// The events of a tenant's limit on this unit.
#[track_caller]
fn refusals(agent: &Agent, tenant: &str, unit: &str) -> Vec<Value> {
    let events = agent.all_events(tenant);
    assert!(!events.is_empty(), "{tenant}: nothing is told");
    for event in &events {
        assert_eq!(event["reason"], "limit", "{event:#}");
        assert_eq!(event["limit"]["unit"], unit, "{event:#}");
    }
    events
}

#[test]
fn over_the_limit_the_session_is_cut() {
    let node = Node::new();
    let town = Town::new(&node);
    let agent = town.agent();
    for (tenant, place) in town.pair(1) {
        let sent = send(&place, mx(false), "plain", 12, 1);
        sent.is_cut();
        assert_eq!(sent.taken, 5, "{tenant}: {sent:?}");
        assert_eq!(agent.used(&tenant, 0), 5, "{tenant}");
        // Nothing more in another session, of whatever kind.
        for way in ["plain", "pipelined"] {
            let sent = send(&place, mx(true), way, 1, 1);
            sent.is_cut();
            assert_eq!(sent.taken, 0, "{tenant}: {sent:?}");
        }
        assert_eq!(agent.used(&tenant, 0), 5, "{tenant}");
        let events = refusals(&agent, &tenant, "messages");
        assert!(events.iter().all(|event| event["estimated"] == false));
    }
    for (tenant, place) in town.pair(2) {
        let sent = send(&place, mx(true), "plain", 5, 3);
        sent.is_cut();
        assert_eq!((sent.taken, sent.recipients), (2, 7), "{tenant}: {sent:?}");
        assert_eq!(agent.used(&tenant, 1), 7, "{tenant}");
        let _ = refusals(&agent, &tenant, "recipients");
    }
    let report: PacketReport = town.machine.packets(false).messages(5).make();
    assert_eq!(report.ended, Ended::Served, "{report:?}");
    assert_eq!(agent.used("machine", 0), 5);
    let report: PacketReport = town.machine.packets(true).messages(5).make();
    assert_eq!(report.ended, Ended::Reset, "{report:?}");
    assert!(Duration::from_nanos(report.last_ns) < SOON, "{report:?}");
    assert_eq!(agent.used("machine", 0), 5);
    let _ = refusals(&agent, "machine", "messages");
    // Exactly what was admitted has arrived, each recipient's copy: five messages each of three
    // tenants, two of two that were for three recipients.
    let mailbox = town.outside.mailbox();
    let all = 5 * 3 + 2 * 2 * 3;
    wait::until_true("the messages", wait::SOON, || {
        mailbox.messages().len() >= all
    });
    thread::sleep(Duration::from_millis(300));
    assert_eq!(mailbox.messages().len(), all);
}

#[test]
fn under_tls_it_is_estimated() {
    let node = Node::new();
    let town = Town::new(&node);
    let agent = town.agent();
    for (tenant, place) in town.pair(0) {
        // One message stays one.
        for number in 1..=6 {
            let sent = send(&place, mx(number % 2 == 0), "tls", 1, 1);
            assert_eq!((sent.taken, sent.error), (1, None), "{tenant}");
            assert_eq!(used(&agent, &tenant), (number, number), "{tenant}");
        }
        let before = used(&agent, &tenant);
        let sent = send(&place, mx(false), "tls large", 1, 1);
        assert_eq!((sent.taken, sent.error), (1, None), "{tenant}");
        grown(&agent, &tenant, before, (1, 1), "a large message under TLS");
    }
    for (tenant, place) in town.pair(1) {
        let sent = send(&place, mx(false), "tls", 300, 1);
        sent.is_cut();
        assert!((2..=15).contains(&sent.taken), "{tenant}: {sent:?}");
        assert_eq!(agent.used(&tenant, 0), 5, "{tenant}");
        let events = refusals(&agent, &tenant, "messages");
        let estimated = |event: &Value| event["estimated"] == true;
        assert!(events.iter().all(estimated), "{events:#?}");
    }
}

const MAILER: &str = r#"
import errno, json, smtplib, socket, ssl, sys, time
host, port, way, messages, recipients = sys.argv[1:]
messages, recipients = int(messages), int(recipients)
to = ["r%d@outside.example" % n for n in range(recipients)]
text = b"Subject: hello\r\n\r\nBuy now.\r\n"
if way == "quoting":
    text += b"MAIL FROM:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\nmail from:<x@y.example>\r\n" * 5
if way.endswith("large"):
    text += (b"x" * 76 + b"\r\n") * (20000000 // 78)
state = {"taken": 0, "recipients": 0, "error": None, "waited": 0.0}
since = time.monotonic()
class Server:
    def __init__(self):
        self.s = socket.create_connection((host, int(port)), 20)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile("rb")
        self.answer(b"220")
    def say(self, data, step=None, pause=0.004):
        global since
        since = time.monotonic()
        if step is None:
            self.s.sendall(data)
            return
        for at in range(0, len(data), step):
            self.s.sendall(data[at:at + step])
            time.sleep(pause)
    def answer(self, code):
        line = b"...-"
        while line[3:4] == b"-":
            line = self.f.readline()
            if not line:
                raise OSError(0, "closed")
        if not line.startswith(code):
            raise ValueError(repr(line))
    def ask(self, line, code=b"250", step=None):
        self.say(line + b"\r\n", step)
        self.answer(code)
    def starttls(self):
        self.ask(b"STARTTLS", b"220")
        context = ssl._create_unverified_context()
        self.s = context.wrap_socket(self.s)
        self.f = self.s.makefile("rb")
        self.ask(b"EHLO node.example")
def took(count=None):
    state["recipients"] += recipients if count is None else count
try:
    server = Server()
    server.ask(b"EHLO node.example")
    if way.startswith("tls"):
        server.starttls()
    for number in range(messages):
        step = {"bytes": 1, "halves": 7}.get(way)
        mail = b"MAIL FROM:<a@node.example>"
        names = [b"RCPT TO:<%s>" % one.encode() for one in to]
        if way in ("bytes", "halves", "pipelined"):
            mail, names = mail.lower(), [one.lower() for one in names]
        if way == "pipelined":
            server.say(b"\r\n".join([mail] + names + [b"data", b""]))
            for _ in range(1 + recipients):
                server.answer(b"250")
            took()
            server.answer(b"354")
        else:
            server.ask(mail, step=step)
            for one in names:
                server.ask(one, step=step)
                took(1)
        if way == "chunks":
            first = b"Subject: hello\r\n\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\nRC"
            server.say(b"BDAT %d\r\n" % len(first) + first)
            server.answer(b"250")
            last = b"PT TO:<d@b.example>\r\nBDAT 3\r\n"
            server.say(b"bdat %d last\r\n" % len(last) + last, 11)
            server.answer(b"250")
        else:
            if way != "pipelined":
                server.ask(b"DATA", b"354", step)
            server.say(text)
            since = time.monotonic()
            server.ask(b".")
        state["taken"] += 1
    server.ask(b"QUIT", b"221")
except OSError as error:
    tls = isinstance(error, ssl.SSLError) or way.startswith("tls") and error.errno == 0
    state["error"] = "TLS" if tls else errno.errorcode.get(error.errno, str(error))
    state["waited"] = time.monotonic() - since
print(json.dumps(state))
"#;
