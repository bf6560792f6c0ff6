//! What the courier does when receivers are well, dead, slow, or say no.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    memory::{Memory, Row, State},
    smtp_server::{Mood, SmtpServer},
};
use crate::{
    notice::{
        Channel, Courier, CourierSettings, EventKind, Facts, Lane, Planned, template::sample,
    },
    offence::{Audience, Condition, Lift, Moment, NoticeEvent, Sanction},
    policy::notices::{MailSettings, Notices, Smtp, WebhookSettings},
};

const START: i64 = 1_772_366_400;

/// A courier, its outbox, and a clock that the test turns.
struct Node {
    outbox: Arc<Memory>,
    seconds: Arc<AtomicI64>,
    courier: Courier,
}

fn notices(smtp: Smtp) -> Notices {
    Notices {
        mail: Some(MailSettings {
            from: Some("abuse@host.example".to_owned()),
            smtp,
        }),
        operator: vec!["ops@host.example".to_owned()],
        ..Notices::default()
    }
}

fn settings(notices: Notices) -> CourierSettings {
    CourierSettings {
        node: "web-17.host.example".to_owned(),
        notices,
    }
}

impl Node {
    fn start(notices: Notices) -> Self {
        let outbox = Arc::new(Memory::default());
        Self::over(outbox, Arc::new(AtomicI64::new(START)), notices)
    }

    fn over(outbox: Arc<Memory>, seconds: Arc<AtomicI64>, notices: Notices) -> Self {
        let clock = Arc::clone(&seconds);
        let courier = Courier::start(
            &tokio::runtime::Handle::current(),
            Arc::clone(&outbox) as _,
            settings(notices),
            Arc::new(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap()),
            Duration::from_millis(20),
        );
        Self {
            outbox,
            seconds,
            courier,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds.load(Ordering::SeqCst)).unwrap()
    }

    fn pass(&self, span: Duration) {
        let seconds = i64::try_from(span.as_secs()).unwrap();
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
        self.courier.wake();
    }

    fn mail(&self, id: &str, to: &str) -> i64 {
        self.add(id, Channel::Mail { to: to.to_owned() })
    }

    fn add(&self, id: &str, channel: Channel) -> i64 {
        self.add_about("alice", id, channel)
    }

    fn add_about(&self, tenant: &str, id: &str, channel: Channel) -> i64 {
        let facts = Facts {
            id: id.to_owned(),
            tenant: tenant.to_owned(),
            ..sanctioned()
        };
        let id = self.outbox.add(Planned { channel, facts }, self.now());
        self.courier.wake();
        id
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Row]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let rows = self.outbox.rows();
            if holds(&rows) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {rows:#?}\n{:#?}",
                self.courier.health()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn done(&self, id: i64) -> String {
        let is_done = |rows: &[Row]| {
            let row = rows.iter().find(|row| row.delivery.id == id);
            row.is_some_and(|row| matches!(row.state, State::Done { .. }))
        };
        self.until("to be delivered", is_done).await;
        match self.outbox.row(id).state {
            State::Done { receipt } => receipt,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next failure of `id`; what went wrong, and how long it waits then.
    async fn failed(&self, id: i64, times: usize) -> (String, SignedDuration) {
        let index = usize::try_from(id).unwrap();
        self.until("to fail", |rows| rows[index].errors.len() >= times)
            .await;
        let row = self.outbox.row(id);
        let State::Waits { next_try } = row.state else {
            panic!("{row:?}");
        };
        (
            row.errors[times - 1].clone(),
            next_try.duration_since(self.now()),
        )
    }
}

fn sanctioned() -> Facts {
    let event = NoticeEvent::Sanctioned {
        sanction: Sanction::SuspendMail,
        severity: None,
        offence: 1,
        until: Some(Moment(86_400_000)),
        lift: Lift::Any([Condition::Contact].into()),
        note: vec!["Grüße".to_owned()],
        then: None,
        pending: None,
    };
    Facts {
        in_place_of: None,
        ..sample::facts(Audience::Contact, event, true)
    }
}

/// A port where nobody listens.
fn dead() -> Smtp {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Smtp::Server {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_arrives_as_mail() {
    let server = SmtpServer::start(&[Mood::Takes]);
    let node = Node::start(notices(server.smtp()));
    let id = node.mail("n1", "owner@alice.example");
    assert_eq!(node.done(id).await, "250 2.0.0 Ok: queued as 4F");
    let mails = server.mails();
    let [mail] = mails.as_slice() else {
        panic!("{mails:?}");
    };
    assert_eq!(mail.helo, "EHLO web-17.host.example");
    assert!(
        mail.from.starts_with("MAIL FROM:<abuse@host.example>"),
        "{mail:?}"
    );
    assert_eq!(mail.to, ["RCPT TO:<owner@alice.example>"]);
    for line in [
        "To: owner@alice.example",
        "Auto-Submitted: auto-generated",
        "Message-ID: <notice.n1@web-17>",
        "Subject: alice (web-17): a suspension of mail",
    ] {
        assert!(
            mail.text.lines().any(|found| found == line),
            "{line}: {}",
            mail.text
        );
    }
    let health = node.courier.health();
    assert_eq!(health.problems(), Vec::<String>::new());
    assert_eq!(health.lanes[&Lane::Mail].delivered, 1);
    node.courier.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_4xx_is_tried_again_and_a_5xx_too_for_a_day() {
    let server = SmtpServer::start(&[
        Mood::Says("451 4.7.1 greylisted"),
        Mood::Says("550 5.1.1 no such user\x1b[2J"),
        Mood::Takes,
    ]);
    let node = Node::start(notices(server.smtp()));
    let id = node.mail("n1", "owner@alice.example");
    let (error, wait) = node.failed(id, 1).await;
    assert!(
        error.contains("451") && error.contains("greylisted"),
        "{error}"
    );
    assert!((60..=75).contains(&wait.as_secs()), "{wait}");
    node.pass(Duration::from_secs(80));
    let (error, wait) = node.failed(id, 2).await;
    assert!(error.contains("550") && !error.contains('\x1b'), "{error}");
    assert!(wait.as_secs() >= 3_600, "{wait}");
    let problems = node.courier.health().problems();
    assert!(
        problems[0].starts_with("notices by mail fail since "),
        "{problems:?}"
    );
    node.pass(Duration::from_secs(3_700));
    node.done(id).await;
    assert_eq!(node.courier.health().problems(), Vec::<String>::new());
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_a_day_is_given_up_and_the_operator_is_told() {
    let server = SmtpServer::start(&[Mood::Says("550 5.1.1 no such user")]);
    let node = Node::start(notices(server.smtp()));
    let id = node.mail("n1", "gone@alice.example");
    for times in 1..=2 {
        node.failed(id, times).await;
        node.pass(Duration::from_secs(13 * 3_600));
    }
    node.until("to be given up", |rows| rows[0].state == State::GivenUp)
        .await;
    let rows = node.outbox.rows();
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let told = &rows[1].delivery.planned;
    let to = "ops@host.example".to_owned();
    assert_eq!(told.channel, Channel::Mail { to });
    assert_eq!(told.facts.event, EventKind::Undelivered);
    assert_eq!(told.facts.audience, Audience::Operator);
    let undelivered = told.facts.undelivered.as_ref().unwrap();
    assert_eq!(undelivered.to, "mail to gone@alice.example");
    assert!(
        undelivered.error.contains("no such user"),
        "{undelivered:?}"
    );
    // That one is refused too: nothing follows from it.
    for times in 1..=2 {
        node.failed(1, times).await;
        node.pass(Duration::from_secs(13 * 3_600));
    }
    node.until("to be given up", |rows| rows[1].state == State::GivenUp)
        .await;
    assert_eq!(node.outbox.rows().len(), 2);
    assert_eq!(node.courier.health().lanes[&Lane::Mail].given_up, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_for_three_days_is_given_up_and_not_before() {
    let node = Node::start(notices(dead()));
    let id = node.mail("n1", "owner@alice.example");
    let mut times = 0;
    loop {
        times += 1;
        let index = usize::try_from(id).unwrap();
        node.until("an attempt", |rows| rows[index].errors.len() >= times)
            .await;
        let row = node.outbox.row(id);
        let State::Waits { next_try } = row.state else {
            break;
        };
        assert!(row.errors[times - 1].contains("refused"), "{row:?}");
        let wait = next_try.duration_since(node.now()).as_secs();
        assert!((60..=6 * 3_600).contains(&wait), "{wait}");
        // Waits are not whole seconds; this clock is.
        node.pass(Duration::from_secs(u64::try_from(wait).unwrap() + 1));
    }
    let age = node.now().as_second() - START;
    assert!(
        (3 * 86_400..4 * 86_400).contains(&age),
        "{age} s, {times} tries"
    );
    assert_eq!(node.outbox.row(id).state, State::GivenUp);
}

/// A receiver that answers 500 as long as it is told to, and writes down whose notices it took.
fn moody(fails: Arc<AtomicBool>) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&taken);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = Vec::new();
            let mut buffer = [0; 4_096];
            let facts = loop {
                let Ok(count @ 1..) = stream.read(&mut buffer) else {
                    break None;
                };
                text.extend_from_slice(&buffer[..count]);
                let all = String::from_utf8_lossy(&text);
                let body = all.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                let facts = body.and_then(|body| serde_json::from_str::<Facts>(&body).ok());
                if facts.is_some() {
                    break facts;
                }
            };
            let Some(facts) = facts else { continue };
            let bad = facts.tenant == "alice" && fails.load(Ordering::SeqCst);
            let status = if bad { "500 No" } else { "200 OK" };
            if !bad {
                book.lock().unwrap().push(facts.id);
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_machines_hear_in_order_and_nobody_else_waits() {
    let fails = Arc::new(AtomicBool::new(true));
    let (address, taken) = moody(Arc::clone(&fails));
    let webhook = WebhookSettings {
        url: format!("http://{address}/"),
        key_file: None,
        timeout: Duration::from_secs(10),
    };
    let node = Node::start(Notices {
        webhook: Some(webhook),
        ..notices(dead())
    });
    let first = node.add("sanctioned", Channel::Webhook);
    node.failed(first, 1).await;
    let second = node.add("lifted", Channel::Webhook);
    let other = node.add_about("bob", "bobs", Channel::Webhook);
    node.done(other).await;
    assert!(node.outbox.row(second).errors.is_empty());
    assert!(matches!(node.outbox.row(second).state, State::Waits { .. }));
    // Although something got through since, what failed and waits is a problem.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let problems = node.courier.health().problems();
        if problems
            .iter()
            .any(|it| it.contains("1 failed and are tried again (2 wait"))
        {
            break;
        }
        assert!(Instant::now() < deadline, "{problems:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fails.store(false, Ordering::SeqCst);
    node.outbox.hurry();
    node.courier.wake();
    node.done(second).await;
    assert_eq!(*taken.lock().unwrap(), ["bobs", "sanctioned", "lifted"]);
    node.courier.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_delays_nobody_else() {
    let server = SmtpServer::start(&[Mood::Takes]);
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = WebhookSettings {
        url: format!("http://{}/", hanging.local_addr().unwrap()),
        key_file: None,
        timeout: Duration::from_secs(60),
    };
    let node = Node::start(Notices {
        webhook: Some(webhook),
        ..notices(server.smtp())
    });
    for number in 0..20 {
        // Of one tenant they go one after the other.
        let tenant = format!("tenant-{number}");
        node.add_about(&tenant, &format!("w{number}"), Channel::Webhook);
    }
    node.until("to be under way", |_| {
        let health = node.courier.health();
        health
            .lanes
            .get(&Lane::Webhook)
            .is_some_and(|lane| lane.under_way == 4)
    })
    .await;
    let id = node.mail("n1", "owner@alice.example");
    node.done(id).await;
    // Nor does it delay the end.
    let start = Instant::now();
    node.courier.stop(Duration::from_millis(100)).await;
    assert!(start.elapsed() < Duration::from_secs(10));
    let waits = |row: &&Row| matches!(row.state, State::Waits { .. });
    assert_eq!(node.outbox.rows().iter().filter(waits).count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_known_by_its_message_id() {
    let server = SmtpServer::start(&[Mood::BreaksOff, Mood::Takes]);
    let node = Node::start(notices(server.smtp()));
    let id = node.mail("n1", "owner@alice.example");
    node.failed(id, 1).await;
    node.pass(Duration::from_secs(80));
    node.done(id).await;
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].text, mails[1].text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_not_delivered_again_meanwhile() {
    let server = SmtpServer::start(&[Mood::Takes]);
    let node = Node::start(notices(server.smtp()));
    node.outbox.broken.store(true, Ordering::SeqCst);
    let id = node.mail("n1", "owner@alice.example");
    node.until("the error to be known", |_| {
        let problems = node.courier.health().problems();
        problems
            .iter()
            .any(|problem| problem.contains("the disk is full"))
    })
    .await;
    for _ in 0..20 {
        node.courier.wake();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.mails().len(), 1);
    node.outbox.broken.store(false, Ordering::SeqCst);
    node.done(id).await;
    assert_eq!(server.mails().len(), 1);
    assert_eq!(node.courier.health().problems(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_start_takes_up_what_was_left_and_a_new_configuration_helps_what_waits() {
    let node = Node::start(notices(dead()));
    let id = node.mail("n1", "owner@alice.example");
    node.failed(id, 1).await;
    let (outbox, seconds) = (Arc::clone(&node.outbox), Arc::clone(&node.seconds));
    node.courier.stop(Duration::from_secs(5)).await;

    let node = Node::over(outbox, seconds, notices(dead()));
    node.pass(Duration::from_secs(80));
    node.failed(id, 2).await;
    let server = SmtpServer::start(&[Mood::Takes]);
    node.courier.configure(settings(notices(server.smtp())));
    node.outbox.hurry();
    node.courier.wake();
    node.done(id).await;
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_notices_within_an_hour_become_few_mails() {
    let server = SmtpServer::start(&[Mood::Takes]);
    let node = Node::start(Notices {
        mails_per_hour: 3,
        ..notices(server.smtp())
    });
    // Of a kind that may wait.
    let overdue = NoticeEvent::Overdue {
        complaint: "c".to_owned(),
        clock: "answer".to_owned(),
    };
    let facts = sample::facts(Audience::Contact, overdue, true);
    let channel = Channel::Mail {
        to: "owner@alice.example".to_owned(),
    };
    for number in 0..40 {
        let facts = Facts {
            id: format!("n{number}"),
            ..facts.clone()
        };
        let channel = channel.clone();
        node.outbox.add(Planned { channel, facts }, node.now());
    }
    let other = node.mail("other", "ops@host.example");
    node.done(other).await;
    let waits = |row: &&Row| matches!(row.state, State::Waits { .. });
    node.until("the rest to be put off", |rows| {
        rows.iter().filter(waits).all(|row| row.postponed == 1)
    })
    .await;
    let first = node.outbox.rows().iter().filter(waits).count();
    assert!((18..38).contains(&first), "{first}");
    assert_eq!(server.mails().len(), 4);
    // What was not there yet when the last mail of the first hour was made may be more than the
    // next hour's mails hold.
    for _ in 0..2 {
        node.pass(Duration::from_secs(3_700));
        let now = node.now();
        node.until("what is due to be delivered", |rows| {
            rows.iter().all(|row| match row.state {
                State::Waits { next_try } => next_try > now,
                _ => matches!(row.state, State::Done { .. }),
            })
        })
        .await;
    }
    let mails = server.mails();
    assert!(mails.len() <= 10, "{}", mails.len());
    // Each was told once, alone or with others.
    for number in 0..40 {
        let told = mails.iter().filter(|mail| {
            let unfolded = mail.text.replace("\n ", " ");
            let ids = unfolded
                .lines()
                .find_map(|line| line.strip_prefix("X-Limiter-Notice: "))
                .map(str::to_owned)
                .unwrap_or_default();
            ids.split(' ').any(|id| id == format!("n{number}"))
        });
        assert_eq!(told.count(), 1, "n{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sendmail_takes_mail_too() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sendmail");
    let script = "#!/bin/sh\necho \"$@\" > \"${0%/*}/arguments\"\ncat > \"${0%/*}/mail\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = Node::start(notices(Smtp::Sendmail(program)));
    let id = node.mail("n1", "owner@alice.example");
    node.done(id).await;
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(
        read("arguments").trim(),
        "-i -f abuse@host.example -- owner@alice.example"
    );
    let mail = read("mail");
    assert!(
        mail.contains("\nMessage-ID: <notice.n1@web-17>\n"),
        "{mail}"
    );
    assert!(!mail.contains('\r'), "{mail:?}");
}
