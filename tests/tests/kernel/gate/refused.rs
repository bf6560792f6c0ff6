//! What is over a limit or a pace: what is answered, and what is told.

use limiter_user::submission::{Answer, Gate as _, Key, gate::NodeGate};

use super::{Place, by_uid, instance, place, queued, used};
use crate::lab::in_lab;

#[test]
fn recipient_three_hundred_and_one_is_refused_with_the_reason() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let envelope = by_uid(2001, "x@shop.example");
        let list: Vec<String> = (0..300).map(|it| format!("c{it}@x.example")).collect();
        assert_eq!(
            gate.whole(&queued("A"), &envelope, &list, None),
            Answer::Accept
        );
        gate.taken(&queued("A"));
        let answer = gate.recipient(&instance("B"), &envelope, "one@x.example");
        let Answer::Defer(reply) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            reply
                .text
                .starts_with("alice/shop.example has used up 300 recipients in 1h; try again "),
            "{reply:?}"
        );
        assert_eq!(reply.code(), 450);
        // A list that never fits is refused for good, and counts nothing.
        let long: Vec<String> = (0..301).map(|it| format!("c{it}@x.example")).collect();
        let answer = gate.whole(&queued("C"), &by_uid(2001, "x@blog.example"), &long, None);
        assert!(matches!(answer, Answer::Refuse(_)), "{answer:?}");
        assert_eq!(used(lab, "alice/blog.example"), 0);
        assert_eq!(lab.counters("alice/shop.example").denied, 1);
    });
}

#[test]
fn different_recipients_are_told_of_or_refused() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let list = |from: u32, to: u32| -> Vec<String> {
            (from..to).map(|it| format!("c{it}@x.example")).collect()
        };
        let send = |gate: &NodeGate, key: &str, list: &[String]| {
            let answer = gate.whole(&queued(key), &by_uid(2002, "x@bob.example"), list, None);
            if answer == Answer::Accept {
                gate.taken(&queued(key));
            } else {
                gate.dropped(&queued(key));
            }
            answer
        };
        assert_eq!(send(&gate, "1", &list(0, 90)), Answer::Accept);
        assert_eq!(lab.counters("bob/bob.example").would_deny, 0);
        // More than a hundred: the operator is told, and it goes.
        assert_eq!(send(&gate, "2", &list(50, 130)), Answer::Accept);
        assert_eq!(lab.counters("bob/bob.example").would_deny, 1);
        let kept = gate.distinct(|distinct| serde_json::to_vec(distinct).unwrap());
        drop(gate);

        let Place { gate, .. } = place(lab, "distinct_recipients: refuse");
        assert!(!kept.is_empty());
        assert_eq!(send(&gate, "3", &list(0, 80)), Answer::Accept);
        assert!(matches!(
            send(&gate, "4", &list(80, 140)),
            Answer::Refuse(_)
        ));
        assert_eq!(
            send(&gate, "5", &list(20, 60)),
            Answer::Accept,
            "the same again"
        );
    });
}

#[test]
fn who_is_only_observed_holds_no_child_back() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "distinct_recipients: refuse");
        let list: Vec<String> = (0..5).map(|it| format!("c{it}@list.example")).collect();
        let envelope = by_uid(2004, "x@carol.example");
        assert_eq!(
            gate.whole(&queued("1"), &envelope, &list, None),
            Answer::Accept
        );
        // It is told all the same.
        assert_eq!(lab.counters("carol").would_deny, 1);
    });
}

#[test]
fn too_fast_waits_or_comes_back() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let whole = |gate: &NodeGate, key: &Key| {
            gate.whole(
                key,
                &by_uid(2003, "slow"),
                &["a@x.example".to_owned()],
                None,
            )
        };
        let ask = |gate: &NodeGate, key: &str| whole(gate, &queued(key));
        assert_eq!(ask(&gate, "1"), Answer::Accept);
        assert_eq!(ask(&gate, "2"), Answer::Accept);
        let Answer::Defer(reply) = ask(&gate, "3") else {
            panic!("too fast");
        };
        assert_eq!(
            reply.text,
            "slow sends too fast (2 messages every 50s); try again in 50 s"
        );
        // What Postfix tries again each minute is no refusal more.
        for again in ["4", "5"] {
            assert_eq!(ask(&gate, again), Answer::Defer(reply.clone()));
        }
        assert_eq!(lab.counters("slow").denied, 1);
        drop(gate);
        let Place { gate, .. } = place(lab, "too_fast: {action: delay, cap: 60s}");
        let Answer::Wait(wait) = whole(&gate, &Key::Exim("6".to_owned())) else {
            panic!("held");
        };
        assert!((45..=50).contains(&wait.as_secs()), "{wait:?}");
        // Everybody's `sendmail` waits behind one that is held.
        assert!(matches!(ask(&gate, "7"), Answer::Defer(_)));
    });
}

#[test]
fn a_message_to_many_takes_its_turns_and_goes() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let envelope = by_uid(2005, "x@dave.example");
        let list: Vec<String> = (0..3).map(|it| format!("c{it}@list.example")).collect();
        assert_eq!(
            gate.whole(&queued("1"), &envelope, &list, None),
            Answer::Accept
        );
        let Answer::Defer(reply) = gate.whole(&queued("2"), &envelope, &list[..1], None) else {
            panic!("the turns are taken");
        };
        assert!(
            reply.text.contains("try again in 3 min") || reply.text.contains("150 s"),
            "{reply:?}"
        );
    });
}

#[test]
fn what_sendmail_left_is_not_tried_again_for_an_hour() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let ask = |key: &Key| {
            let to: Vec<String> = (0..200).map(|it| format!("{it}@x.example")).collect();
            gate.whole(key, &by_uid(2001, "x@shop.example"), &to, None)
        };
        assert_eq!(ask(&queued("1")), Answer::Accept);
        let why = "alice/shop.example has used up 300 recipients in 1h";
        match ask(&queued("2")) {
            Answer::Refuse(reply) => assert!(reply.text.starts_with(why), "{reply:?}"),
            other => panic!("{other:?}"),
        }
        // Whoever waits for the answer may try again.
        assert!(matches!(
            ask(&Key::Exim("3".to_owned())),
            Answer::Defer(reply) if reply.text.starts_with(why)
        ));
    });
}
