//! Whose bounces are, and how often they count.

use std::cell::RefCell;

use super::super::*;
use crate::submission::Envelope;

/// Alice is uid 2001 and `alice@shop.example`; what the gate charged stands beside.
#[derive(Default)]
struct Town {
    charged: RefCell<Vec<(String, String)>>,
}

impl Whose for Town {
    fn charged(&self, queue_id: &str) -> Option<String> {
        let charged = self.charged.borrow();
        let found = charged.iter().find(|(id, _)| id == queue_id);
        found.map(|(_, tenant)| tenant.clone())
    }

    fn tenant(&self, envelope: &Envelope) -> Option<String> {
        let is_alice = envelope.uid == Some(2001)
            || envelope.login.as_deref() == Some("alice@shop.example")
            || envelope.login.as_deref() == Some("alice");
        is_alice.then(|| "alice".to_owned())
    }
}

fn near() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// Everything that `log` comes to: by tenant, hard and soft; and nobody's.
fn count(messages: &mut Messages, log: &str, town: &Town) -> (Vec<(String, u64, u64)>, u64) {
    let mut sums = Sums::default();
    let mut others = 0;
    for line in log.lines() {
        let line = if line.starts_with("2026") {
            line.to_owned()
        } else {
            format!("Nov 22 10:00:00 n postfix/{line}")
        };
        let Some(said) = read(&line, near()) else {
            continue;
        };
        match messages.hear(said, town) {
            Counted::Nothing => {}
            Counted::Bounces {
                tenant,
                hard,
                soft,
                arrived,
                ..
            } => sums.add(tenant, (hard, soft), arrived),
            Counted::Nobodys(more) => others += more,
        }
    }
    let sums = sums
        .iter()
        .map(|(tenant, sum)| (tenant.to_owned(), sum.hard, sum.soft));
    (sums.collect(), others)
}

fn bounced(id: &str, to: &str) -> String {
    format!(
        "smtp[1]: {id}: to=<{to}>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (no)\n"
    )
}

fn deferred(id: &str, to: &str) -> String {
    format!(
        "smtp[1]: {id}: to=<{to}>, relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred (no)\n"
    )
}

fn of_alice(hard: u64, soft: u64) -> Vec<(String, u64, u64)> {
    vec![("alice".to_owned(), hard, soft)]
}

#[test]
fn a_recipient_of_a_message_counts_once() {
    let mut log = "pickup[1]: AAAAA1: uid=2001 from=<x@shop.example>\nqmgr[1]: AAAAA1: from=<x@shop.example>, size=1, nrcpt=2 (queue active)\n".to_owned();
    log += &bounced("AAAAA1", "a@b.test");
    log += &bounced("AAAAA1", "A@B.test");
    log += &bounced("AAAAA1", "c@b.test");
    let mut messages = Messages::default();
    let town = Town::default();
    assert_eq!(count(&mut messages, &log, &town), (of_alice(2, 0), 0));
    assert_eq!(
        count(&mut messages, &log, &town).0,
        of_alice(2, 0),
        "a name that is used again"
    );
    assert_eq!(
        count(&mut messages, "qmgr[1]: AAAAA1: removed", &town),
        (vec![], 0)
    );
    assert!(messages.is_empty());
    // Nobody knows whose it was.
    assert_eq!(
        count(&mut messages, &bounced("AAAAA1", "a@b.test"), &town),
        (vec![], 1)
    );
}

#[test]
fn what_nobody_takes_until_the_end_is_a_soft_bounce() {
    let begin = "smtpd[1]: AAAAA1: client=h[192.0.2.1], sasl_method=LOGIN, sasl_username=alice@shop.example\n";
    let mut log = begin.to_owned();
    log += &deferred("AAAAA1", "a@b.test");
    log += &deferred("AAAAA1", "a@b.test");
    log += &deferred("AAAAA1", "c@b.test");
    log += &deferred("AAAAA1", "d@b.test");
    log += "smtp[1]: AAAAA1: to=<c@b.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (ok)\n";
    log += &bounced("AAAAA1", "d@b.test");
    let town = Town::default();
    let mut messages = Messages::default();
    assert_eq!(
        count(&mut messages, &log, &town),
        (of_alice(1, 0), 0),
        "a deferral is none"
    );
    let end = "qmgr[1]: AAAAA1: from=<x@shop.example>, status=expired, returned to sender\n";
    assert_eq!(count(&mut messages, end, &town), (of_alice(0, 1), 0));
    assert_eq!(count(&mut messages, end, &town), (vec![], 0));
}

#[test]
fn what_the_gate_charged_stands_above_the_log() {
    let town = Town::default();
    town.charged
        .borrow_mut()
        .push(("AAAAA1".into(), "bob/b.example".into()));
    let mut log = "smtpd[1]: AAAAA1: client=localhost[127.0.0.1]\nqmgr[1]: AAAAA1: from=<x@shop.example>, size=1, nrcpt=1 (queue active)\n".to_owned();
    let mut messages = Messages::default();
    count(&mut messages, &log, &town);
    // The gate forgets; whoever read the log does not.
    town.charged.borrow_mut().clear();
    assert_eq!(
        count(&mut messages, &bounced("AAAAA1", "a@b.test"), &town),
        (vec![("bob/b.example".to_owned(), 1, 0)], 0)
    );
    // Over loopback nobody is known, whatever the sender's domain.
    log = log.replace("AAAAA1", "AAAAA2") + &bounced("AAAAA2", "a@b.test");
    assert_eq!(count(&mut messages, &log, &town), (vec![], 1));
}

#[test]
fn bounces_of_bounces_count_for_nobody() {
    let mut log = "pickup[1]: AAAAA1: uid=2001 from=<>\nqmgr[1]: AAAAA1: from=<>, size=1, nrcpt=1 (queue active)\n".to_owned();
    log += &bounced("AAAAA1", "a@b.test");
    let town = Town::default();
    assert_eq!(count(&mut Messages::default(), &log, &town), (vec![], 0));
    let exim = "2026-11-22 10:00:00 1vMabf-0001y1-5T <= <> R=1vMabe-0001y0-4S U=alice P=local S=1\n2026-11-22 10:00:01 1vMabf-0001y1-5T ** a@b.test: Unrouteable address\n";
    assert_eq!(count(&mut Messages::default(), exim, &town), (vec![], 0));
}

#[test]
fn what_a_filter_hands_back_is_still_whose_it_was() {
    let mut log = "pickup[1]: AAAAA1: uid=2001 from=<x@shop.example>\n\
        smtpd[1]: BBBBB1: client=localhost[127.0.0.1], orig_queue_id=AAAAA1, orig_client=localhost[127.0.0.1]\n\
        qmgr[1]: BBBBB1: from=<x@shop.example>, size=1, nrcpt=1 (queue active)\n\
        qmgr[1]: AAAAA1: removed\n".to_owned();
    log += &bounced("BBBBB1", "a@b.test");
    assert_eq!(
        count(&mut Messages::default(), &log, &Town::default()),
        (of_alice(1, 0), 0)
    );
}

#[test]
fn exims_bounces_are_those_of_its_users() {
    let log = "2026-11-22 10:00:00 1vMabc-0001xy-2Q <= x@shop.example U=alice P=local S=1\n\
        2026-11-22 10:00:01 1vMabc-0001xy-2Q ** a@b.test R=r T=t H=mx [198.51.100.2]: SMTP error from remote mail server after RCPT TO:<a@b.test>: 550 5.1.1 no\n\
        2026-11-22 10:00:01 1vMabc-0001xy-2Q ** c@b.test R=r T=t: retry timeout exceeded\n\
        2026-11-22 10:00:01 1vMabc-0001xy-2Q Completed\n\
        2026-11-22 10:00:02 1vMabd-0001xy-2Q <= x@shop.example H=mx [192.0.2.1]:25 U=alice P=esmtp S=1\n\
        2026-11-22 10:00:02 1vMabd-0001xy-2Q ** a@b.test: Unrouteable address\n";
    let mut messages = Messages::default();
    assert_eq!(
        count(&mut messages, log, &Town::default()),
        (of_alice(1, 1), 1)
    );
    assert_eq!(messages.len(), 1);
}

#[test]
fn what_was_kept_goes_on() {
    let town = Town::default();
    let mut messages = Messages::default();
    let mut log = "pickup[1]: AAAAA1: uid=2001 from=<x@shop.example>\npickup[1]: AAAAA2: uid=2001 from=<x@shop.example>\nqmgr[1]: AAAAA2: removed\n".to_owned();
    log += &bounced("AAAAA1", "a@b.test");
    count(&mut messages, &log, &town);
    let changes = messages.changes();
    assert_eq!(
        changes.len(),
        1,
        "what came and went is not worth a line: {changes:?}"
    );
    messages.were_kept();
    assert!(messages.changes().is_empty());
    // Through the disk and back.
    let kept = changes.into_iter().map(|(id, message)| {
        let text = serde_json::to_string(&message.unwrap()).unwrap();
        (id, serde_json::from_str(&text).unwrap())
    });
    let mut again = Messages::of(kept);
    assert_eq!(
        count(&mut again, &bounced("AAAAA1", "a@b.test"), &town),
        (vec![], 0)
    );
    assert_eq!(
        count(&mut again, &bounced("AAAAA1", "b@b.test"), &town),
        (of_alice(1, 0), 0)
    );
    count(&mut again, "qmgr[1]: AAAAA1: removed", &town);
    assert_eq!(again.changes(), [("AAAAA1".to_owned(), None)]);
}

#[test]
fn mail_of_different_hours_stays_apart() {
    let mut sums = Sums::default();
    for (at, hard) in [
        ("2026-11-22T09:59:59Z", 1),
        ("2026-11-22T10:00:00Z", 2),
        ("2026-11-22T10:30:00Z", 3),
    ] {
        sums.add("alice".into(), (hard, 0), at.parse().unwrap());
    }
    let all: Vec<(u64, String)> = sums
        .iter()
        .map(|(_, sum)| (sum.hard, sum.sent.to_string()))
        .collect();
    assert_eq!(
        all,
        [
            (1, "2026-11-22T09:59:59Z".into()),
            (5, "2026-11-22T10:30:00Z".into())
        ]
    );
}
