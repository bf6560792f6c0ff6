//! Whose mail is: nobody spends another's budget, or escapes a sanction by what he writes or leaves out.

use limiter_common::sanction::Sanction;
use limiter_user::submission::{
    Answer, Envelope, Gate as _, Key, directory::Owner, gate::NodeGate,
};

use super::{Place, by_login, by_socket, by_uid, instance, place, place_in, used};
use crate::lab::{Lab, in_lab};

#[test]
fn nobody_spends_his_neighbours_budget() {
    in_lab(|lab| {
        let Place { gate, sockets, .. } = place(lab, "");
        let owner = |port, uid| {
            let owner = Owner { uid, cgroup: None };
            sockets.0.lock().unwrap().insert(port, owner);
        };
        owner(1_001, Some(2001));
        owner(1_002, Some(2002));
        owner(1_109, Some(109));
        owner(1_099, None);
        let mut turn = 0;
        let mut send = |envelope: &Envelope| {
            turn += 1;
            let key = instance(&turn.to_string());
            gate.recipient(&key, envelope, "a@x.example")
        };
        // Bob writes Alice's domain: it is his, by every way.
        let mut login = by_login("bob", "x@shop.example");
        login.uid = Some(2001);
        for envelope in [
            by_socket(1_002, "x@shop.example"),
            by_uid(2002, "x@shop.example"),
            by_login("bob", "x@shop.example"),
            by_login("info@bob.example", "x@shop.example"),
            login,
        ] {
            assert_eq!(send(&envelope), Answer::Accept, "{envelope:?}");
        }
        assert_eq!(used(lab, "alice/shop.example"), 0);
        // All of it his only domain's, which has no limit of its own.
        assert_eq!(used(lab, "bob"), 5);
        // Hers, by the socket, by her address, and a bounce.
        send(&by_socket(1_001, "x@shop.example"));
        let mut addressed = by_socket(0, "x@blog.example");
        addressed.client = Some("192.0.2.7:999".parse().unwrap());
        send(&addressed);
        assert_eq!(used(lab, "alice/shop.example"), 1);
        assert_eq!(used(lab, "alice/blog.example"), 1);
        // What comes in from the world, and what the mail server itself brings, nobody pays for.
        let mut inbound = by_socket(0, "x@shop.example");
        inbound.client = Some("203.0.113.77:999".parse().unwrap());
        assert_eq!(send(&inbound), Answer::Accept);
        assert_eq!(send(&by_socket(1_109, "x@shop.example")), Answer::Accept);
        assert_eq!(used(lab, "alice/shop.example"), 1);
        // A login that nobody knows is the default's.
        let nobody = by_login("nobody@elsewhere.example", "x@shop.example");
        assert_eq!(send(&nobody), Answer::Accept);
        // Whose socket nobody holds any more, is not let through for nothing.
        for envelope in [
            by_socket(1_099, "x@shop.example"),
            by_socket(1_777, "x@shop.example"),
        ] {
            let answer = send(&envelope);
            assert!(
                matches!(answer, Answer::Defer(_)),
                "{envelope:?}: {answer:?}"
            );
        }
    });
}

#[test]
fn nobody_leaves_his_domain_by_saying_nothing() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let mut turn = 0;
        let mut ask = |uid: u32, sender: &str| {
            turn += 1;
            let key = instance(&turn.to_string());
            gate.recipient(&key, &by_uid(uid, sender), "a@x.example")
        };
        // Bob has one domain: all of it is that one's.
        let suspend = |lab: &mut Lab, domain: &str| {
            let (mirror, kernel) = lab.both();
            let suspend = Sanction::SuspendMail;
            mirror.sanction(domain, suspend, None, kernel).unwrap();
        };
        let senders = ["", "x@gmail.example", "bob@node.example", "bob"];
        for sender in senders {
            assert_eq!(ask(2002, sender), Answer::Accept, "{sender}");
            assert_eq!(ask(2001, sender), Answer::Accept, "{sender}");
        }
        suspend(lab, "bob/bob.example");
        suspend(lab, "alice/blog.example");
        for sender in senders {
            for uid in [2001, 2002] {
                let answer = ask(uid, sender);
                assert!(matches!(answer, Answer::Refuse(_)), "{sender}: {answer:?}");
            }
        }
        // Whose domain is known, and is another.
        assert_eq!(ask(2001, "x@shop.example"), Answer::Accept);
        assert!(matches!(ask(2001, "x@blog.example"), Answer::Refuse(_)));
    });
}

#[test]
fn forged_senders_are_refused_where_that_is_wanted() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "sender_mismatch: refuse");
        let ask = |number: u32, sender: &str| {
            gate.recipient(
                &instance(&number.to_string()),
                &by_uid(2002, sender),
                "a@x.example",
            )
        };
        for (number, sender) in [
            (1, "x@bob.example"),
            (2, "bob@node.example"),
            (3, ""),
            (4, "bob"),
        ] {
            assert_eq!(ask(number, sender), Answer::Accept, "{sender}");
        }
        for (number, sender) in [(5, "x@shop.example"), (6, "ceo@bank.example")] {
            let Answer::Refuse(reply) = ask(number, sender) else {
                panic!("{sender}");
            };
            assert_eq!(
                reply.text,
                "bob/bob.example may not send under this sender address"
            );
        }
        assert_eq!(lab.counters("bob/bob.example").denied, 2);
    });
}

#[test]
fn a_client_that_somebody_made_up_hides_nobody() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        // `exim -bs` of Bob's, on a socket that leads anywhere.
        let mut envelope = by_socket(0, "x@bob.example");
        envelope.client = Some("203.0.113.77:999".parse().unwrap());
        for (uid, expected) in [(0, 0), (109, 0), (2002, 1)] {
            envelope.uid = Some(uid);
            let key = Key::Exim(uid.to_string());
            assert_eq!(
                gate.recipient(&key, &envelope, "a@x.example"),
                Answer::Accept
            );
            assert_eq!(used(lab, "bob"), expected, "{uid}");
        }
    });
}

#[test]
fn nobody_pays_for_who_had_his_number_before() {
    in_lab(|lab| {
        let place = place(lab, "");
        let gate = &place.gate;
        let envelope = by_login("info@shop.example", "x@shop.example");
        let ask = |to: &str| gate.recipient(&instance("1"), &envelope, to);
        assert_eq!(ask("a@x.example"), Answer::Accept);
        let (shop, blog) = ("alice/shop.example", "alice/blog.example");
        // Reloaded, and the numbers are others'.
        gate.set_directory(place.directory(|name| {
            let name = if name == shop { blog } else { name };
            Some(lab.index(name))
        }));
        assert_eq!(ask("b@x.example"), Answer::Accept);
        assert_eq!((used(lab, shop), used(lab, blog)), (1, 1));
        // It is gone: nobody pays.
        gate.set_directory(place.directory(|name| (name != shop).then(|| lab.index(name))));
        assert!(matches!(ask("c@x.example"), Answer::Defer(_)));
        assert_eq!((used(lab, shop), used(lab, blog)), (1, 1));
    });
}

#[test]
fn where_nothing_is_refused_nobody_has_to_be_known() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        // A login that nobody claims is the default's.
        let stranger = by_login("info@nobody.example", "info@nobody.example");
        assert_eq!(
            gate.recipient(&instance("1"), &stranger, "a@x.example"),
            Answer::Accept
        );
        // A socket that nobody holds.
        let gone = by_socket(40_001, "x@bob.example");
        assert!(matches!(
            gate.recipient(&instance("2"), &gone, "a@x.example"),
            Answer::Defer(_)
        ));
        drop(gate);
        let Place { gate, .. } = place_in(lab, "", "observe");
        assert_eq!(
            gate.recipient(&instance("2"), &gone, "a@x.example"),
            Answer::Accept
        );
    });
}

#[test]
fn mailboxes_are_closed_by_the_sanctions_that_close_them() {
    in_lab(|lab| {
        let Place { gate, .. } = place(lab, "");
        let logins = ["alice", "info@shop.example", "bob"];
        let closed = |gate: &NodeGate| logins.map(|login| gate.is_suspended(login));
        assert_eq!(closed(&gate), [false; 3]);
        for (sanction, expected) in [
            (Sanction::BlockSmtp, [false; 3]),
            (Sanction::SuspendMail, [true, true, false]),
        ] {
            let (mirror, kernel) = lab.both();
            mirror.sanction("alice", sanction, None, kernel).unwrap();
            assert_eq!(closed(&gate), expected, "{sanction:?}");
        }
        assert!(!gate.is_suspended("nobody@elsewhere.example"));
        // A domain alone: its own, and the account's where that has no other.
        let (mirror, kernel) = lab.both();
        mirror.reinstate("alice", None, kernel).unwrap();
        for domain in ["alice/blog.example", "bob/bob.example"] {
            let (mirror, kernel) = lab.both();
            let suspend = Sanction::SuspendMail;
            mirror.sanction(domain, suspend, None, kernel).unwrap();
        }
        assert_eq!(closed(&gate), [false, false, true]);
        assert!(gate.is_suspended("info@BLOG.example"));
    });
}
