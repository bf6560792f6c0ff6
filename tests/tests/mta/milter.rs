//! The milter, asked by a real Postfix, before a gate that writes down what it is asked.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use limiter_tests::{process::run, wait};
use limiter_user::{
    mta::{Places, PostfixSubmissions},
    policy::services::{OnFailure, Services},
    service::{
        ask::Settings,
        milter::{Limits, Milter},
    },
    submission::{Answer, Envelope, Gate, Key, Reply},
};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};

use crate::{
    postfix::{Town, submit},
    town::{admin, open_destination, wait_for},
};

/// What the gate was asked or told, with whom it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Watched(Key),
    Whole(Key, Envelope, Vec<String>),
    Taken(Key),
    Dropped(Key),
}

/// Gives one answer, until it is given another.
#[derive(Debug)]
struct Recorder {
    answer: Mutex<Answer>,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    fn note(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// What happened since the last time, when it is so much.
    fn next(&self, count: usize) -> Vec<Call> {
        let calls = || self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        wait::until_true("the milter to be asked", Duration::from_secs(20), || {
            calls().len() >= count
        });
        let calls = std::mem::take(&mut *calls());
        assert_eq!(calls.len(), count, "{calls:#?}");
        calls
    }
}

impl Gate for Recorder {
    fn recipient(&self, _: &Key, _: &Envelope, _: &str) -> Answer {
        panic!("a milter asks about whole messages");
    }

    fn message(&self, _: &Key, _: &Envelope, _: Option<u32>, _: Option<&Key>) -> Answer {
        panic!("a milter asks about whole messages");
    }

    fn whole(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[String],
        _: Option<u32>,
    ) -> Answer {
        self.note(Call::Whole(
            key.clone(),
            envelope.clone(),
            recipients.to_vec(),
        ));
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.clone()
    }

    fn watched(&self, key: &Key) {
        self.note(Call::Watched(key.clone()));
    }

    fn taken(&self, key: &Key) {
        self.note(Call::Taken(key.clone()));
    }

    fn dropped(&self, key: &Key) {
        self.note(Call::Dropped(key.clone()));
    }
}

/// A town whose Postfix asks a milter.
struct Watched {
    gate: Arc<Recorder>,
    town: Town,
    // Dropped last: it answers until Postfix is gone.
    _runtime: Runtime,
    _directory: TempDir,
}

impl Watched {
    fn new() -> Self {
        Self::with("")
    }

    /// With more in its main.cf.
    fn with(main: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let everybody = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.path(), everybody(0o755)).expect("it is ours");
        let socket = directory.path().join("milter.sock");
        let runtime = Runtime::new().expect("a runtime can be made");
        let town = Town::new(&format!(
            "smtpd_milters = unix:{path}
non_smtpd_milters = unix:{path}
milter_default_action = tempfail
{main}",
            path = socket.display()
        ));
        let places = Places {
            postfix: vec![town.postfix.configuration()],
            ..Town::places()
        };
        let gate = Arc::new(Recorder {
            answer: Mutex::new(Answer::Accept),
            calls: Mutex::default(),
        });
        let milter = Arc::new(Milter::new(
            Arc::clone(&gate) as Arc<dyn Gate>,
            Arc::new(PostfixSubmissions::new(places)),
            Arc::new(Settings::new(Services {
                on_failure: OnFailure::Closed,
                ..Services::default()
            })),
            Limits::default(),
        ));
        let _inside = runtime.enter();
        let listener = UnixListener::bind(&socket).expect("the directory is ours");
        fs::set_permissions(&socket, everybody(0o666)).expect("it is ours");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let milter = Arc::clone(&milter);
                tokio::spawn(async move {
                    if let Err(error) = milter
                        .serve(
                            stream,
                            &limiter_user::service::listen::Caller::new(0, 1, "unix:/x"),
                        )
                        .await
                    {
                        eprintln!("{error}");
                    }
                });
            }
        });
        Self {
            gate,
            town,
            _runtime: runtime,
            _directory: directory,
        }
    }

    /// Talks SMTP, and what was answered to each line; XCLIENT says who logged in.
    fn talk(&self, lines: &[&str]) -> Vec<String> {
        const SCRIPT: &str = "
import socket, sys
server = socket.create_connection(('127.0.0.1', 25), 20)
answers = server.makefile('r')
def answer():
    while True:
        line = answers.readline()
        if line[3:4] != '-':
            return line.strip()
answer()
for line in sys.stdin.read().splitlines():
    server.sendall(line.encode() + b'\\r\\n')
    if not line.startswith('|'):
        print(answer())
";
        let mut command = self.town.node.root().command("/usr/bin/python3");
        let said = run(command.args(["-c", SCRIPT]), &lines.join("\n")).success("talking SMTP");
        said.stdout.lines().map(str::to_owned).collect()
    }

    /// Makes pickup look at once.
    fn pick_up(&self) {
        let kick = ["postkick", "public", "pickup", "W"];
        let _ = admin(&self.town.node, &kick).success("postkick");
    }
}

const LOGIN: [&str; 4] = [
    "EHLO web.example",
    "XCLIENT LOGIN=alice@host.example",
    "EHLO web.example",
    "MAIL FROM:<a@host.example>",
];

fn reply(status: &str) -> Reply {
    Reply {
        status: status.to_owned(),
        text: "alice is over 300% an hour".to_owned(),
    }
}

/// The key and the envelope of the only message that was asked about, and how it ended.
fn only(calls: &[Call]) -> (Key, Envelope, Vec<String>, bool) {
    let [
        Call::Watched(watched),
        Call::Whole(key, envelope, recipients),
        end,
    ] = calls
    else {
        panic!("not one message: {calls:#?}");
    };
    assert_eq!(watched, key);
    assert!(matches!(key, Key::Queued(_)), "{key:?}");
    let taken = match end {
        Call::Taken(ended) if ended == key => true,
        Call::Dropped(ended) if ended == key => false,
        other => panic!("how did it end? {other:?}"),
    };
    (key.clone(), envelope.clone(), recipients.clone(), taken)
}

#[test]
fn who_runs_sendmail_is_known_at_the_end_of_the_message() {
    let watched = Watched::new();
    let sink = open_destination(&watched.town.node);
    for uid in [2001, 2002] {
        submit(&watched.town.node.user(uid), &format!("from {uid}"));
        let (_, envelope, recipients, taken) = only(&watched.gate.next(3));
        let expected = Envelope {
            uid: Some(uid),
            sender: Some("x@node.example".to_owned()),
            ..Envelope::default()
        };
        assert_eq!((envelope, taken), (expected, true));
        assert_eq!(recipients, ["somebody@outside.example"]);
    }
    // So many recipients that the message begins far inside its file.
    let mut command = watched.town.node.user(2001).command("sendmail");
    command.args(["-i", "-f", ""]);
    command.args((0..3000).map(|number| format!("somebody-{number}@node.example")));
    let _ = run(&mut command, "Subject: many\n\nBuy.\n").success("sendmail");
    let (_, envelope, recipients, _) = only(&watched.gate.next(3));
    assert_eq!(envelope.uid, Some(2001));
    assert_eq!(envelope.sender.as_deref(), Some(""));
    assert_eq!(recipients.len(), 3000);
    wait_for(&sink, &["from 2001", "from 2002"]);
}

#[test]
fn queues_may_be_spread_and_ids_long() {
    let watched = Watched::with(
        "hash_queue_names = incoming, deferred
hash_queue_depth = 2
enable_long_queue_ids = yes",
    );
    for uid in [2001, 2002, 2003] {
        submit(&watched.town.node.user(uid), "hello");
        let (key, envelope, ..) = only(&watched.gate.next(3));
        assert_eq!(envelope.uid, Some(uid), "{key:?}");
        let Key::Queued(id) = key else {
            panic!("it has an id");
        };
        assert!(id.len() >= 12 && id.contains('z'), "{id}");
    }
}

#[test]
fn a_client_is_known_by_its_login_and_its_connection() {
    let watched = Watched::new();
    let message = [
        "RCPT TO:<one@outside.example>",
        "RCPT TO:<two@outside.example>",
        "DATA",
        "|Subject: x",
        "|",
        ".",
    ];
    let lines = [&LOGIN[..], &message[..]].concat();
    let said = watched.talk(&lines);
    assert!(
        said.last()
            .is_some_and(|line| line.starts_with("250 2.0.0")),
        "{said:?}"
    );
    // Its id is known with the second recipient, and said again when the message begins.
    let calls = watched.gate.next(4);
    assert_eq!(calls[0], calls[1]);
    let (_, envelope, recipients, taken) = only(&calls[1..]);
    assert!(taken);
    assert_eq!(envelope.login.as_deref(), Some("alice@host.example"));
    assert_eq!(envelope.sender.as_deref(), Some("a@host.example"));
    assert_eq!(envelope.uid, None);
    let (client, server) = (envelope.client, envelope.server);
    assert!(
        client.is_some_and(|it| it.ip().is_loopback() && it.port() > 1023),
        "{client:?}"
    );
    assert_eq!(server, Some("127.0.0.1:25".parse().expect("it is one")));
    assert_eq!(recipients, ["one@outside.example", "two@outside.example"]);

    // Two messages over one connection, and nobody logged in.
    let message = ["MAIL FROM:<>", "RCPT TO:<one@outside.example>", "DATA", "."];
    let said = watched.talk(&[&["EHLO web.example"], &message[..], &message[..]].concat());
    assert_eq!(said.len(), 9, "{said:?}");
    let calls = watched.gate.next(6);
    let ((first, ..), (second, envelope, ..)) = (only(&calls[..3]), only(&calls[3..]));
    assert_ne!(first, second);
    assert_eq!(
        (envelope.login, envelope.sender),
        (None, Some(String::new()))
    );
}

#[test]
fn a_refusal_is_what_the_client_hears() {
    let watched = Watched::new();
    let message = ["RCPT TO:<one@outside.example>", "DATA", "."];
    let lines = [&LOGIN[..], &message[..]].concat();
    for (answer, line) in [
        (
            Answer::Defer(reply("4.7.1")),
            "450 4.7.1 alice is over 300% an hour",
        ),
        (
            Answer::Refuse(reply("5.7.1")),
            "550 5.7.1 alice is over 300% an hour",
        ),
    ] {
        watched.gate.say(answer);
        let said = watched.talk(&lines);
        assert_eq!(said.last().map(String::as_str), Some(line));
        assert!(!only(&watched.gate.next(3)).3);
    }
    assert!(watched.town.ids("incoming").is_empty());
}

#[test]
fn what_ends_before_its_end_is_dropped() {
    let watched = Watched::new();
    let begun = ["RCPT TO:<one@outside.example>", "DATA"];
    for ending in [&["|half a message"][..], &[]] {
        let _ = watched.talk(&[&LOGIN[..], &begun[..], ending].concat());
        let calls = watched.gate.next(2);
        let [Call::Watched(key), Call::Dropped(dropped)] = &calls[..] else {
            panic!("{calls:?}");
        };
        assert_eq!(key, dropped);
    }
}

#[test]
fn a_refused_submission_waits_or_comes_back() {
    let watched = Watched::new();
    let node = &watched.town.node;
    watched.gate.say(Answer::Defer(reply("4.7.1")));
    submit(&node.user(2001), "later");
    assert!(!only(&watched.gate.next(3)).3);
    // It stays where sendmail put it.
    assert_eq!(watched.town.ids("maildrop").len(), 1);
    // A neighbour's is not behind it; hers is asked about again.
    watched.gate.say(Answer::Accept);
    submit(&node.user(2002), "neighbour");
    let calls = watched.gate.next(6);
    let mut uids = [only(&calls[..3]).1.uid, only(&calls[3..]).1.uid];
    uids.sort_unstable();
    assert_eq!(uids, [Some(2001), Some(2002)]);
    wait::until_true("maildrop to be empty", wait::SOON, || {
        watched.town.ids("maildrop").is_empty()
    });

    watched.gate.say(Answer::Refuse(reply("5.7.1")));
    submit(&node.user(2001), "never");
    assert!(!only(&watched.gate.next(3)).3);
    let mailbox = watched.town.postfix.mailbox();
    let _ = mailbox.wait_for("alice is over 300% an hour");
    // What Postfix itself sends is not asked about.
    let _ = watched.gate.next(0);
}

#[test]
fn who_goes_too_fast_waits_over_smtp_and_not_in_sendmail() {
    let watched = Watched::new();
    watched.gate.say(Answer::Wait(Duration::from_secs(40)));
    submit(&watched.town.node.user(2001), "fast");
    assert!(!only(&watched.gate.next(3)).3);
    let began = std::time::Instant::now();
    watched.gate.say(Answer::Wait(Duration::from_secs(3)));
    let message = ["RCPT TO:<one@outside.example>", "DATA", "."];
    let lines = [&LOGIN[..], &message[..]].concat();
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| watched.talk(&lines));
        let calls = watched.gate.next(2);
        assert!(matches!(calls[1], Call::Whole(..)), "{calls:?}");
        watched.gate.say(Answer::Accept);
        let said = talk.join().expect("it only talks");
        assert!(
            said.last().is_some_and(|line| line.starts_with("250 ")),
            "{said:?}"
        );
    });
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[test]
fn what_is_sent_through_again_is_not_asked_about() {
    let watched = Watched::new();
    let town = &watched.town;
    town.submit(2001, "alice");
    town.send_as("alice@host.example", "alice login");
    assert_eq!(watched.gate.next(6).len(), 6);
    town.wait_for_deferred(2);
    let before = town.ids("deferred");
    watched.gate.say(Answer::Refuse(reply("5.7.1")));
    let _ = admin(&town.node, &["postsuper", "-r", "ALL"]).success("postsuper");
    watched.pick_up();
    wait::until_true("new ids", Duration::from_secs(20), || {
        town.ids("deferred").is_disjoint(&before) && town.ids("deferred").len() == 2
    });
    let calls = watched.gate.next(0);
    assert_eq!(calls, []);
}
