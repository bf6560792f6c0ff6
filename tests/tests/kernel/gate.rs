//! The gate before the real kernel: whose mail is, counted once however often a mail server asks, and
//! given back when it does not go out.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use limiter_common::sanction::Sanction;
use limiter_user::{
    kernel::{maps::Maps, pins::Pins},
    policy::{self, compile::compile_what_holds},
    submission::{
        Answer, Envelope, Gate as _, Key,
        directory::{Directory, Interfaces, Owner, Owners},
        distinct::Distinct,
        gate::NodeGate,
        till::Till,
        who::MailTenants,
    },
    system::{System, Users, interfaces::Way},
};

use crate::lab::{Lab, in_lab};

const CONFIG: &str = "\
mta: {users: [postfix]}
";

const TENANTS: &str = "\
tenant: reseller
limits: [{unit: recipients, max: 1000, window: 1h}]
---
tenant: alice
parent: reseller
match: {users: [alice], cgroups: [], addresses: [192.0.2.7]}
limits: [{unit: messages, max: 50, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 300, window: 1h}]}
  - {name: blog.example, limits: [{unit: recipients, max: 10, window: 1h}]}
---
tenant: bob
match: {users: [bob]}
domains: [{name: bob.example}]
limits:
  - {unit: recipients, max: 500, window: 1h}
  - {unit: distinct_recipients, max: 100, window: 30d}
---
tenant: watched
mode: observe
limits: [{unit: distinct_recipients, max: 2, window: 30d}]
---
tenant: carol
parent: watched
mode: enforce
match: {users: [carol]}
---
tenant: dave
match: {users: [dave]}
pace: [{unit: recipients, every: 50s, burst: 1}]
---
tenant: slow
match: {users: [slow]}
pace: [{unit: messages, every: 50s, burst: 2}]
";

/// Whose sockets on this node are, by the client's port.
#[derive(Clone, Default)]
struct Sockets(Arc<Mutex<HashMap<u16, Owner>>>);

impl Owners for Sockets {
    fn owner_of(&self, client: SocketAddr, _: SocketAddr) -> Option<Owner> {
        self.0.lock().unwrap().get(&client.port()).cloned()
    }

    fn way_to(&self, _: IpAddr) -> Option<Way> {
        Some(Way::default())
    }
}

struct Place {
    gate: NodeGate,
    sockets: Sockets,
    policy: policy::model::Policy,
    image: policy::image::Image,
    users: Users,
}

impl Place {
    /// Who is who, if tenants had these places in the kernel.
    fn directory(&self, place_of: impl Fn(&str) -> Option<u32>) -> Directory {
        directory(&self.policy, &self.image, &self.users, place_of)
    }
}

fn directory(
    policy: &policy::model::Policy,
    image: &policy::image::Image,
    users: &Users,
    place_of: impl Fn(&str) -> Option<u32>,
) -> Directory {
    let who = MailTenants::of(policy, image, users);
    let hosts = vec!["node.example".to_owned()];
    Directory::new(policy, image, who, &Interfaces::default(), hosts, place_of)
}

/// A gate in a lab, by [`CONFIG`] and [`TENANTS`].
fn place(lab: &mut Lab, services: &str) -> Place {
    place_in(lab, services, "enforce")
}

/// The same in another mode of the node.
fn place_in(lab: &mut Lab, services: &str, mode: &str) -> Place {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("limiter.yaml");
    fs::create_dir(files.path().join("tenants.d")).unwrap();
    fs::write(
        &config,
        format!("mode: {mode}\n{CONFIG}services: {{{services}}}\n"),
    )
    .unwrap();
    fs::write(files.path().join("tenants.d/all.yaml"), TENANTS).unwrap();
    let loaded = policy::load(&config);
    let policy = loaded
        .policy
        .unwrap_or_else(|| panic!("{:?}", loaded.faults));
    let mut users = Users::default();
    for (name, uid) in [
        ("root", 0),
        ("postfix", 109),
        ("alice", 2001),
        ("bob", 2002),
        ("slow", 2003),
        ("carol", 2004),
        ("dave", 2005),
    ] {
        users.insert(name, uid);
    }
    let system = System {
        users: users.clone(),
        ..System::default()
    };
    let (image, _) = compile_what_holds(&policy, &system);
    lab.apply(&image);
    let directory = directory(&policy, &image, &users, |name| Some(lab.index(name)));
    let maps = Maps::open(&Pins::new(lab.pin_dir())).unwrap();
    let till = Till::new(lab.loaded().charger().unwrap(), maps);
    let sockets = Sockets::default();
    let gate = NodeGate::new(
        till,
        Box::new(sockets.clone()),
        Distinct::new([1; 32]),
        Box::new(|| Duration::from_secs(1_700_000_000)),
    );
    gate.set_directory(directory);
    Place {
        gate,
        sockets,
        policy,
        image,
        users,
    }
}

fn by_login(login: &str, sender: &str) -> Envelope {
    Envelope {
        login: Some(login.to_owned()),
        client: Some("203.0.113.5:40000".parse().unwrap()),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn by_uid(uid: u32, sender: &str) -> Envelope {
    Envelope {
        uid: Some(uid),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn by_socket(port: u16, sender: &str) -> Envelope {
    Envelope {
        client: Some(([127, 0, 0, 1], port).into()),
        server: Some(([127, 0, 0, 1], 25).into()),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn instance(name: &str) -> Key {
    Key::Instance(name.to_owned())
}

fn queued(name: &str) -> Key {
    Key::Queued(name.to_owned())
}

/// What is used of the first limit of a tenant.
fn used(lab: &Lab, name: &str) -> u32 {
    lab.used(name)[0]
}

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
