use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, DuplexStream},
    runtime::Builder,
};

use super::*;
use crate::{
    policy::services::{OnFailure, PaceAction, Services, TooFast},
    service::ask::Settings,
    submission::{Envelope, Gate, Reply},
};

/// A gate that writes down what it was asked, and says what it was told to.
#[derive(Default)]
struct Fake {
    heard: Mutex<Vec<String>>,
    /// What it says by recipient, the next first; else it accepts.
    says: Mutex<HashMap<String, Vec<Answer>>>,
}

impl Fake {
    fn note(&self, what: String) {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn will_say(&self, about: &str, mut answers: Vec<Answer>) {
        answers.reverse();
        self.says.lock().unwrap().insert(about.to_owned(), answers);
    }

    fn say(&self, about: &str) -> Answer {
        assert_ne!(about, "panic@x.example", "as the test wants it");
        let mut says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        says.get_mut(about)
            .and_then(Vec::pop)
            .unwrap_or(Answer::Accept)
    }
}

fn short(key: &Key) -> &str {
    match key {
        Key::Instance(text) | Key::Queued(text) | Key::Exim(text) => text,
        Key::Milter(..) => "milter",
    }
}

impl Gate for Fake {
    fn recipient(&self, key: &Key, envelope: &Envelope, recipient: &str) -> Answer {
        let sender = envelope.sender.as_deref().unwrap_or("?");
        self.note(format!("{} {sender} -> {recipient}", short(key)));
        self.say(recipient)
    }

    fn message(
        &self,
        key: &Key,
        _: &Envelope,
        recipients: Option<u32>,
        queued: Option<&Key>,
    ) -> Answer {
        let queued = queued.map_or("-", short);
        self.note(format!("{} message {recipients:?} {queued}", short(key)));
        self.say("message")
    }

    fn whole(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[String],
        total: Option<u32>,
    ) -> Answer {
        self.note(format!(
            "{} whole {:?} {recipients:?} of {total:?}",
            short(key),
            envelope.uid
        ));
        self.say("whole")
    }

    fn watched(&self, key: &Key) {
        self.note(format!("{} watched", short(key)));
    }

    fn taken(&self, key: &Key) {
        self.note(format!("{} taken", short(key)));
    }

    fn dropped(&self, key: &Key) {
        self.note(format!("{} dropped", short(key)));
    }
}

struct World {
    gate: Arc<Fake>,
    settings: Arc<Settings>,
    service: Arc<PolicyService>,
}

impl World {
    fn new() -> Self {
        let gate = Arc::new(Fake::default());
        let settings = Arc::new(Settings::new(Services::default()));
        let asker = Asker::new(Arc::clone(&gate) as Arc<dyn Gate>, Arc::clone(&settings));
        Self {
            gate,
            settings,
            service: PolicyService::new(asker),
        }
    }

    /// A connection, and when it is over.
    fn connect(&self, connection: u64) -> (BufReader<DuplexStream>, tokio::task::JoinHandle<()>) {
        let (there, here) = tokio::io::duplex(100);
        let caller = Caller::new(0, connection, "unix:/x");
        let talk = Arc::clone(&self.service).converse(Box::new(here), caller);
        (BufReader::new(there), tokio::spawn(talk))
    }
}

fn run(test: impl Future<Output = ()>) {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn request(state: &str, instance: &str, recipient: &str) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state={state}\ninstance={instance}\nqueue_id=Q1\n\
         sender=a@x.example\nrecipient={recipient}\nrecipient_count=2\n\n"
    )
}

async fn ask(connection: &mut BufReader<DuplexStream>, request: &str) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_line(&mut answer).await.unwrap();
    let mut end = String::new();
    connection.read_line(&mut end).await.unwrap();
    assert_eq!(end, "\n");
    answer.trim_end().to_owned()
}

/// Says a line, and what came back until the end.
async fn ask_once(world: &World, line: &str) -> String {
    let (mut connection, _) = world.connect(99);
    // Whoever is refused early may not read it all.
    let _ = connection.write_all(line.as_bytes()).await;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

fn refusal(status: &str) -> Reply {
    Reply {
        status: status.to_owned(),
        text: "no".to_owned(),
    }
}

#[test]
fn postfix_asks_about_many_messages_over_one_connection() {
    run(async {
        let world = World::new();
        let (mut postfix, over) = world.connect(1);
        world
            .gate
            .will_say("c@y.example", vec![Answer::Defer(refusal("4.7.1"))]);
        let rcpt = request("RCPT", "i1", "b@y.example");
        assert_eq!(ask(&mut postfix, &rcpt).await, "action=DUNNO");
        let rcpt = request("RCPT", "i1", "c@y.example");
        assert_eq!(ask(&mut postfix, &rcpt).await, "action=450 4.7.1 no");
        let data = request("DATA", "i1", "");
        assert_eq!(ask(&mut postfix, &data).await, "action=DUNNO");
        assert_eq!(
            world.gate.heard(),
            [
                "i1 a@x.example -> b@y.example",
                "i1 a@x.example -> c@y.example",
                "i1 message Some(2) Q1",
            ]
        );
        // Another message ends the one before.
        world
            .gate
            .will_say("d@y.example", vec![Answer::Refuse(refusal("5.7.1"))]);
        let rcpt = request("RCPT", "i2", "d@y.example");
        assert_eq!(ask(&mut postfix, &rcpt).await, "action=550 5.7.1 no");
        let mail = request("MAIL", "i3", "");
        assert_eq!(ask(&mut postfix, &mail).await, "action=DUNNO");
        drop(postfix);
        over.await.unwrap();
        assert_eq!(
            world.gate.heard(),
            [
                "i1 dropped",
                "i2 a@x.example -> d@y.example",
                "i2 dropped",
                "i3 dropped"
            ]
        );
    });
}

#[test]
fn a_message_that_goes_on_over_another_connection_is_not_over() {
    run(async {
        let world = World::new();
        let (mut first, first_over) = world.connect(1);
        let (mut second, second_over) = world.connect(2);
        ask(&mut first, &request("RCPT", "i1", "b@y.example")).await;
        ask(&mut second, &request("DATA", "i1", "")).await;
        drop(first);
        first_over.await.unwrap();
        assert!(!world.gate.heard().contains(&"i1 dropped".to_owned()));
        drop(second);
        second_over.await.unwrap();
        assert_eq!(world.gate.heard(), ["i1 dropped"]);
    });
}

#[test]
fn a_connection_that_is_cut_off_here_gives_back_too() {
    run(async {
        let world = World::new();
        let (mut postfix, talk) = world.connect(1);
        ask(&mut postfix, &request("RCPT", "i1", "b@y.example")).await;
        world.gate.heard();
        talk.abort();
        assert!(talk.await.unwrap_err().is_cancelled());
        assert_eq!(world.gate.heard(), ["i1 dropped"]);
    });
}

#[test]
fn nobody_waits_for_longer_than_the_mail_server() {
    run(async {
        let world = World::new();
        for (to, wait) in [("b@y.example", 11), ("c@y.example", 29)] {
            world
                .gate
                .will_say(to, vec![Answer::Wait(Duration::from_secs(wait))]);
            let (mut postfix, _) = world.connect(1);
            let start = Instant::now();
            let answer = ask(&mut postfix, &request("RCPT", "i1", to)).await;
            assert!(answer.starts_with("action=450 4.7.1 too many"), "{answer}");
            assert!(start.elapsed() <= Duration::from_millis(1_000));
        }
    });
}

#[test]
fn who_is_too_fast_waits_up_to_the_cap() {
    run(async {
        let world = World::new();
        world.settings.change(Services {
            too_fast: TooFast {
                action: PaceAction::Delay,
                cap: Duration::from_millis(300),
            },
            ..Services::default()
        });
        let wait = Answer::Wait(Duration::from_millis(60));
        world
            .gate
            .will_say("b@y.example", vec![wait.clone(), wait.clone()]);
        world.gate.will_say("c@y.example", vec![wait; 99]);
        let (mut postfix, _) = world.connect(1);
        let start = Instant::now();
        let rcpt = request("RCPT", "i1", "b@y.example");
        assert_eq!(ask(&mut postfix, &rcpt).await, "action=DUNNO");
        assert!(start.elapsed() >= Duration::from_millis(120));
        assert_eq!(world.gate.heard().len(), 3);
        let start = Instant::now();
        let rcpt = request("RCPT", "i1", "c@y.example");
        let answer = ask(&mut postfix, &rcpt).await;
        assert!(answer.starts_with("action=450 4.7.1 too many"), "{answer}");
        assert!(start.elapsed() <= Duration::from_millis(1_000));
    });
}

#[test]
fn a_gate_that_fails_is_open_or_closed() {
    run(async {
        let world = World::new();
        let (mut postfix, _) = world.connect(1);
        let rcpt = request("RCPT", "i1", "panic@x.example");
        assert_eq!(ask(&mut postfix, &rcpt).await, "action=DUNNO");
        world.settings.change(Services {
            on_failure: OnFailure::Closed,
            ..Services::default()
        });
        let answer = ask(&mut postfix, &rcpt).await;
        assert!(answer.starts_with("action=450 4.3.0 "), "{answer}");
    });
}

#[test]
fn exim_asks_one_question_a_connection() {
    run(async {
        let world = World::new();
        let rcpt = "limiter 1 rcpt key=k1 uid=7 sender=YUB4 to=YkB5\n";
        assert_eq!(ask_once(&world, rcpt).await, "ok\n");
        let data = "limiter 1 data key=k1 id=1vM uid=7 sender=YUB4 count=1\n";
        assert_eq!(ask_once(&world, data).await, "ok\n");
        let local = "limiter 1 local key=k2 id=1vN uid=7 sender=YUB4 count=2 all=YUBiLCBjQGQ=\n";
        world
            .gate
            .will_say("whole", vec![Answer::Refuse(refusal("5.7.1"))]);
        assert_eq!(ask_once(&world, local).await, "deny 550 5.7.1 no\n");
        world
            .gate
            .will_say("message", vec![Answer::Defer(refusal("4.7.1"))]);
        assert_eq!(ask_once(&world, data).await, "defer 450 4.7.1 no\n");
        assert_eq!(ask_once(&world, "limiter 1 drop key=k3\n").await, "ok\n");
        assert_eq!(
            world.gate.heard(),
            [
                "k1 a@x -> b@y",
                "k1 message Some(1) 1vM",
                "k1 taken",
                "1vN whole Some(7) [\"a@b\", \"c@d\"] of Some(2)",
                "1vN dropped",
                "k1 message Some(1) 1vM",
                "k1 dropped",
                "k3 dropped",
            ]
        );
    });
}

#[test]
fn a_message_to_very_many_is_one_question() {
    run(async {
        let world = World::new();
        for many in [600_usize, 3_000, 40_000] {
            let all: Vec<String> = (0..many)
                .map(|n| format!("user{n}@elsewhere.example"))
                .collect();
            let all =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, all.join(", "));
            let line = format!("limiter 1 local key=k1 uid=7 count={many} all={all}\n");
            assert_eq!(ask_once(&world, &line).await, "ok\n");
            let heard = world.gate.heard();
            assert_eq!(heard[0].matches("@elsewhere.example").count(), many);
        }
        let line = format!(
            "limiter 1 local key=k1 uid=7 count=1 all={}\n",
            "A".repeat(5 << 20)
        );
        assert_eq!(
            ask_once(&world, &line).await,
            "action=450 4.3.0 the question to the limiter was malformed\n\n"
        );
    });
}

#[test]
fn what_is_no_question_is_not_answered_with_yes() {
    run(async {
        let world = World::new();
        for junk in [
            "EHLO there\n\n",
            "\n",
            "request=smtpd_access_policy\n\n",
            "=\n=\n\n",
        ] {
            let answer = ask_once(&world, junk).await;
            assert!(answer.starts_with("action=450 "), "{junk:?}: {answer:?}");
        }
        let answer = ask_once(&world, "limiter 1 rcpt\n").await;
        assert!(answer.starts_with("defer 450 4.3.0 "), "{answer:?}");
        // Half a question is none.
        let (mut connection, over) = world.connect(1);
        connection.write_all(b"request=smtpd").await.unwrap();
        drop(connection);
        over.await.unwrap();
        assert_eq!(world.gate.heard(), Vec::<String>::new());
    });
}
