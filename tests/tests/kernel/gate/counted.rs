//! A message counts once however often a mail server asks, and what does not go out is given back.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use limiter_user::submission::{Answer, Gate as _, Key};

use super::{Place, by_login, by_uid, instance, place, queued, used};
use crate::lab::in_lab;

#[test]
fn a_message_counts_once_however_often_it_is_asked_for() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let envelope = by_login("info@shop.example", "news@shop.example");
        let (asked, id) = (instance("1.2.3"), queued("4F"));
        for to in ["a@x.example", "b@x.example", "A@X.example", "a@x.example"] {
            assert_eq!(gate.recipient(&asked, &envelope, to), Answer::Accept);
        }
        assert_eq!(
            gate.message(&asked, &envelope, Some(2), Some(&id)),
            Answer::Accept
        );
        assert_eq!(
            gate.message(&asked, &envelope, Some(2), Some(&id)),
            Answer::Accept
        );
        gate.watched(&id);
        let all = ["a@x.example", "b@x.example"].map(str::to_owned);
        assert_eq!(gate.whole(&id, &envelope, &all, None), Answer::Accept);
        // Postfix's policy conversation goes on to another message: a milter watches this one.
        gate.dropped(&asked);
        gate.taken(&id);
        gate.dropped(&id);
        assert_eq!(
            (used(lab, "alice/shop.example"), used(lab, "alice")),
            (2, 1)
        );
        assert_eq!(used(lab, "reseller"), 2);
        // One message, to two: what comes back is held against them, one by one.
        let counters = lab.counters("alice/shop.example");
        assert_eq!((counters.allowed, counters.sent), (1, 2));
    });
}

#[test]
fn what_does_not_go_out_is_given_back() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let envelope = by_login("alice", "x@shop.example");
        // Never came to DATA.
        for to in ["a@x.example", "b@x.example"] {
            gate.recipient(&instance("1"), &envelope, to);
        }
        assert_eq!(used(lab, "alice/shop.example"), 2);
        gate.dropped(&instance("1"));
        assert_eq!(used(lab, "alice/shop.example"), 0);
        // A filter refuses it at its end.
        gate.recipient(&instance("2"), &envelope, "a@x.example");
        gate.message(&instance("2"), &envelope, Some(1), Some(&queued("Q2")));
        gate.watched(&queued("Q2"));
        assert_eq!(
            (used(lab, "alice/shop.example"), used(lab, "alice")),
            (1, 1)
        );
        gate.dropped(&instance("2"));
        assert_eq!(used(lab, "alice/shop.example"), 1, "nobody knows yet");
        gate.dropped(&queued("Q2"));
        assert_eq!(
            (used(lab, "alice/shop.example"), used(lab, "alice")),
            (0, 0)
        );
        // Nobody watches it, and it came to DATA: it went.
        gate.recipient(&instance("3"), &envelope, "a@x.example");
        gate.message(&instance("3"), &envelope, Some(1), Some(&queued("Q3")));
        gate.dropped(&instance("3"));
        assert_eq!(
            (used(lab, "alice/shop.example"), used(lab, "alice")),
            (1, 1)
        );
    });
}

#[test]
fn whom_the_mail_server_refused_afterwards_is_given_back() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "distinct_recipients: refuse");
        let list = |from: u32, to: u32| -> Vec<String> {
            (from..to).map(|it| format!("c{it}@x.example")).collect()
        };
        let envelope = by_login("bob", "x@bob.example");
        // Ninety of a hundred are dead: only the mail server knows.
        for to in &list(0, 100) {
            assert_eq!(
                gate.recipient(&instance("1"), &envelope, to),
                Answer::Accept
            );
        }
        assert_eq!(used(lab, "bob"), 100);
        let id = queued("Q1");
        let begins = || gate.message(&instance("1"), &envelope, Some(10), Some(&id));
        assert_eq!(begins(), Answer::Accept);
        assert_eq!(used(lab, "bob"), 10);
        assert_eq!(begins(), Answer::Accept);
        assert_eq!(used(lab, "bob"), 10);
        gate.watched(&id);
        // Who hears the whole list says who they are: the others are no contacts.
        let living = list(90, 100);
        assert_eq!(gate.whole(&id, &envelope, &living, None), Answer::Accept);
        gate.dropped(&instance("1"));
        gate.taken(&id);
        assert_eq!(used(lab, "bob"), 10);
        let more = |key: &str, list: &[String]| gate.whole(&queued(key), &envelope, list, None);
        assert_eq!(more("Q2", &list(100, 190)), Answer::Accept);
        gate.taken(&queued("Q2"));
        assert!(matches!(more("Q3", &list(190, 191)), Answer::Refuse(_)));
        // A list alone says it too, and none is counted twice that was written in another way before.
        for to in ["c91@x.example", "c92@x.example", "\"c93\"@x.example"] {
            gate.recipient(&instance("4"), &by_login("alice", "x@shop.example"), to);
        }
        gate.message(&instance("4"), &envelope, None, Some(&queued("Q4")));
        assert_eq!(used(lab, "alice/shop.example"), 3);
        assert_eq!(more("Q4", &list(92, 94)), Answer::Accept);
        assert_eq!(used(lab, "alice/shop.example"), 2);
        gate.dropped(&queued("Q4"));
        assert_eq!(used(lab, "alice/shop.example"), 0);
        assert_eq!(used(lab, "bob"), 100);
    });
}

#[test]
fn a_hundred_sessions_get_exactly_what_there_is() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let got = AtomicU32::new(0);
        thread::scope(|scope| {
            for session in 0..100 {
                let (gate, got) = (&gate, &got);
                scope.spawn(move || {
                    let envelope = by_login("info@shop.example", "x@shop.example");
                    let key = instance(&session.to_string());
                    for to in 0..10 {
                        let to = format!("{session}.{to}@x.example");
                        if gate.recipient(&key, &envelope, &to) == Answer::Accept {
                            got.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(got.load(Ordering::Relaxed), 300);
        assert_eq!(used(lab, "alice/shop.example"), 300);
        lab.assert_sound();
    });
}

#[test]
fn exims_count_is_the_least_that_is_counted() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let key = Key::Exim("1".to_owned());
        let list = ["a@x", "A@x", "aA@x", "Aa@x"].map(str::to_owned);
        let envelope = by_uid(2001, "x@shop.example");
        assert_eq!(gate.whole(&key, &envelope, &list, Some(6)), Answer::Accept);
        assert_eq!(used(lab, "alice/shop.example"), 6);
    });
}

#[test]
fn who_was_written_to_is_not_forgotten_with_another_message() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "distinct_recipients: refuse");
        let envelope = by_login("bob", "x@bob.example");
        let mut refused = None;
        for turn in 0..101 {
            let to = format!("c{turn}@x.example");
            let (first, second) = (instance(&format!("a{turn}")), instance(&format!("b{turn}")));
            if gate.recipient(&first, &envelope, &to) != Answer::Accept {
                refused = Some(turn);
                break;
            }
            // The one that was first never goes out, the other does.
            assert_eq!(gate.recipient(&second, &envelope, &to), Answer::Accept);
            gate.message(&second, &envelope, Some(1), None);
            gate.dropped(&second);
            gate.dropped(&first);
        }
        assert_eq!(refused, Some(100));
    });
}

#[test]
fn who_asks_by_halves_is_found_out() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let envelope = by_login("info@shop.example", "news@shop.example");
        for it in 0..3 {
            let asked = instance(&format!("1.{it}"));
            assert_eq!(
                gate.recipient(&asked, &envelope, "a@x.example"),
                Answer::Accept
            );
            gate.dropped(&asked);
        }
        assert_eq!(gate.halves(), 3);
        assert_eq!(used(lab, "alice/shop.example"), 0);
        // One that is asked about whole: the others just went away.
        let asked = instance("2.1");
        assert_eq!(
            gate.recipient(&asked, &envelope, "a@x.example"),
            Answer::Accept
        );
        assert_eq!(
            gate.message(&asked, &envelope, Some(1), None),
            Answer::Accept
        );
        gate.dropped(&asked);
        assert_eq!(gate.halves(), 0);
        assert_eq!(used(lab, "alice/shop.example"), 1);
    });
}
