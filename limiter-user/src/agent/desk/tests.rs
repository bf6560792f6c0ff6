//! The desk, with a node that recorded what a test says.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::{
    complaint::{
        Limits, Trust,
        attribute::{About, Facts, FactsError, Owner, Sighting},
        log::{Account, LogFound, LogQuery},
    },
    control::{
        node::NodeError,
        routes_complaints::{ComplaintDesk as _, ComplaintFilter, ComplaintWord},
    },
    court::{Bailiff, BailiffError, Clocks, Found, Herald, Setting, Told, Wanted},
    ledger::Ledger,
    notice::Planned,
    offence::{Book, Reading, Subject},
    report::{complaint::ComplaintSummary, event::Endpoint},
};

const POLICY: &str = "
policy: reports
offences:
  - {when: {complaints: {at_least: 1, in: 24h}}, severity: minor}
forget_after: 365d
steps:
  - {severity: minor, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
complaints:
  require: [headers]
  acknowledge_within: 8h
  act_within: 24h
";
const START: &str = "2026-11-20T12:00:00Z";

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

/// Everything that the court and the desk ask for.
#[derive(Clone, Default)]
struct Fake {
    /// How many minutes passed.
    passed: Arc<Mutex<i64>>,
    /// How many minutes the wall clock was set forward.
    ahead: Arc<Mutex<i64>>,
    seen: Arc<Mutex<Vec<Sighting>>>,
    told: Arc<Mutex<Vec<Notice>>>,
}

impl Clocks for Fake {
    fn read(&self) -> Reading {
        let passed = *self.passed.lock().unwrap();
        let millis = |minutes: i64| at(minutes).as_millisecond().unsigned_abs();
        Reading {
            wall: Moment(millis(passed + *self.ahead.lock().unwrap())),
            boot: "a boot".to_owned(),
            up: Span(millis(passed) - millis(0) + 100_000),
            trusted: false,
        }
    }
}

impl Bailiff for Fake {
    fn enforce(&mut self, _: &str, _: &Wanted) -> Result<(), BailiffError> {
        Ok(())
    }

    fn in_force(&self) -> Result<Vec<Found>, BailiffError> {
        Ok(Vec::new())
    }
}

impl Herald for Fake {
    fn plan(&self, told: &[Told<'_>], _: &Book) -> Vec<(i64, Planned)> {
        let mut all = self.told.lock().unwrap();
        all.extend(told.iter().map(|told| told.notice.clone()));
        Vec::new()
    }
}

impl Facts for Fake {
    fn owner(&self, address: IpAddr) -> Owner {
        if address == "203.0.113.2".parse::<IpAddr>().unwrap() {
            Owner::Node
        } else {
            Owner::Foreign
        }
    }

    fn tenant_of_domain(&self, _: &str) -> Option<String> {
        None
    }

    fn tenant_of_account(&self, _: &Account) -> Option<String> {
        None
    }

    fn parent(&self, _: &str) -> Option<String> {
        None
    }

    fn is_own_name(&self, _: &str) -> bool {
        false
    }

    fn sightings(
        &self,
        (from, until): (Timestamp, Timestamp),
        _: &About,
    ) -> Result<Vec<Sighting>, FactsError> {
        let seen = self.seen.lock().unwrap();
        let within = seen.iter().filter(|it| (from..=until).contains(&it.time));
        Ok(within.cloned().collect())
    }

    fn log(&self, _: &LogQuery) -> Result<LogFound, FactsError> {
        Ok(LogFound::default())
    }
}

impl Around for Fake {
    fn rules(&self) -> (Limits, Trust) {
        (Limits::default(), Trust::default())
    }

    fn facts(&self) -> Box<dyn Facts> {
        Box::new(self.clone())
    }

    fn knows(&self, tenant: &str) -> Result<(), NodeError> {
        match tenant {
            "alice" | "bob" => Ok(()),
            name => Err(NodeError::UnknownTenant {
                name: name.to_owned(),
            }),
        }
    }
}

impl Fake {
    fn sees(&self, tenant: &str, minute: i64, to: &str) {
        self.seen.lock().unwrap().push(Sighting {
            time: at(minute),
            tenant: Some(tenant.to_owned()),
            source: Some(Endpoint {
                address: "203.0.113.2".parse().unwrap(),
                port: Some(41_234),
            }),
            destination: Endpoint {
                address: to.parse().unwrap(),
                port: Some(25),
            },
        });
    }

    fn pass(&self, minutes: i64) {
        *self.passed.lock().unwrap() += minutes;
    }
}

fn desk(state: &Path, fake: &Fake) -> Desk {
    let path = state.join("reports.yaml");
    fs::write(&path, POLICY).unwrap();
    let ladder = crate::policy::load_ladder(&path).ladder.unwrap();
    let tenants = ["alice", "bob"].map(|name| (name.to_owned(), Subject::default()));
    let book = Book {
        everybody: [ladder.name.clone()].into(),
        ladders: [(ladder.name.clone(), ladder)].into(),
        tenants: tenants.into(),
    };
    let court = Court::open(Setting {
        ledger: Ledger::open(state).unwrap(),
        book,
        clocks: Box::new(fake.clone()),
        bailiff: Box::new(fake.clone()),
        herald: Box::new(fake.clone()),
        later: Vec::new(),
    });
    Desk::new(Arc::new(court.unwrap()), Box::new(fake.clone()))
}

/// A report that a mail of the node's arrived at `receiver` in that minute.
struct Arf<'a> {
    kind: &'a str,
    from: &'a str,
    receiver: &'a str,
    minute: i64,
    message_id: &'a str,
    subject: &'a str,
}

impl Default for Arf<'_> {
    fn default() -> Self {
        Self {
            kind: "abuse",
            from: "abuse@mx.example",
            receiver: "203.0.113.5",
            minute: 0,
            message_id: "1@alice.example",
            subject: "Buy now",
        }
    }
}

impl Arf<'_> {
    fn text(&self) -> Vec<u8> {
        let Self {
            kind,
            from,
            receiver,
            minute,
            message_id,
            subject,
        } = self;
        let time = at(*minute)
            .strftime("%a, %d %b %Y %H:%M:%S +0000")
            .to_string();
        format!(
            "From: {from}\r\nTo: abuse@node.example\r\nSubject: report\r\nDate: {time}\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; \
             boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSpam.\r\n--b\r\n\
             Content-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nVersion: 1\r\n\
             User-Agent: test/1\r\nArrival-Date: {time}\r\nSource-IP: 203.0.113.2\r\nSource-Port: 41234\r\n\
             Reporting-MTA: dns; mx.example ({receiver})\r\n\r\n--b\r\n\
             Content-Type: message/rfc822\r\n\r\n\
             Received: from node.example (node.example [203.0.113.2]) by mx.example with ESMTP id \
             q1; {time}\r\nFrom: news@alice.example\r\nTo: you@mx.example\r\nSubject: {subject}\r\n\
             Date: {time}\r\nMessage-ID: <{message_id}>\r\n\r\nBuy now.\r\n--b--\r\n"
        )
        .into_bytes()
    }
}

fn peer() -> Peer {
    Peer {
        uid: 0,
        user: Some("root".to_owned()),
        login_uid: None,
        login_user: None,
        pid: None,
    }
}

fn taken(desk: &Desk, report: &Arf<'_>) -> ComplaintOutcome {
    desk.take_in(&report.text(), None).unwrap().outcome
}

/// How many complaints the engine heard about a tenant.
fn counted(desk: &Desk, tenant: &str) -> usize {
    desk.court.record(tenant).0.heard.len()
}

fn all(desk: &Desk) -> Vec<ComplaintSummary> {
    desk.list(&ComplaintFilter::default()).unwrap()
}

#[test]
fn what_is_proved_counts_once_whatever_comes_again() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -61, "203.0.113.5");
    let report = Arf {
        minute: -60,
        ..Arf::default()
    };
    let first_desk = desk(state.path(), &fake);
    fake.pass(1);
    let first = taken(&first_desk, &report);
    assert_eq!(first.state, ComplaintState::Attributed, "{first:?}");
    assert_eq!(first.tenant.as_deref(), Some("alice"));
    assert!(
        first
            .followed
            .iter()
            .any(|line| line.contains("case reports/1")),
        "{first:?}"
    );
    let signals = |desk: &Desk| {
        let heard = |ledger: &Ledger| ledger.signals("alice", Moment(0), 10);
        desk.court.ledger(heard).unwrap()
    };
    let heard = signals(&first_desk);
    assert_eq!(heard.len(), 1);
    let happened = heard[0].body["complaint"]["happened"].as_i64().unwrap();
    assert_eq!(happened, at(-61).as_millisecond());
    assert_eq!(heard[0].evidence[0]["kind"], "complaint");
    // Again, and again after a crash: the file was not moved.
    assert!(taken(&first_desk, &report).known);
    drop(first_desk);
    let again = desk(state.path(), &fake);
    let outcome = taken(&again, &report);
    assert!(outcome.known && outcome.state == ComplaintState::Attributed);
    assert_eq!(signals(&again).len(), 1);
    assert_eq!(counted(&again, "alice"), 1);
    let listed = all(&again);
    assert_eq!(listed.len(), 1);
    assert!(listed[0].clocks.iter().all(|clock| clock.due.is_some()));
    assert!(!listed[0].clocks.is_empty());
}

#[test]
fn a_header_that_is_changed_makes_no_second_complaint() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    let first = taken(&desk, &Arf::default());
    let changed = Arf {
        subject: "Buy  it now",
        from: "somebody@else.example",
        ..Arf::default()
    };
    let second = taken(&desk, &changed);
    assert_eq!(second.state, ComplaintState::Duplicate, "{second:?}");
    assert!(second.why.contains(&first.id) && second.id != first.id);
    assert_eq!(counted(&desk, "alice"), 1);
    // Who gives another mail the same Message-ID is not sheltered: it was another connection.
    fake.sees("alice", 30, "203.0.113.5");
    fake.pass(60);
    let another = Arf {
        minute: 30,
        ..Arf::default()
    };
    assert_eq!(taken(&desk, &another).state, ComplaintState::Attributed);
    assert_eq!(counted(&desk, "alice"), 2);
}

#[test]
fn of_one_reporter_only_so_many_count() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    let ids: Vec<String> = (0..8).map(|n| format!("{n}@alice.example")).collect();
    let states: Vec<ComplaintState> = ids
        .iter()
        .map(|id| {
            let report = Arf {
                message_id: id,
                ..Arf::default()
            };
            taken(&desk, &report).state
        })
        .collect();
    let counts = states
        .iter()
        .filter(|state| **state == ComplaintState::Attributed);
    assert_eq!(counts.count(), 5);
    assert_eq!(states[5..], [ComplaintState::NotCounted; 3]);
    assert_eq!(counted(&desk, "alice"), 5);
    // Another reporter's counts, and so does one that an operator hands in, and one of tomorrow.
    let other = Arf {
        message_id: "9@alice.example",
        from: "abuse@other.example",
        ..Arf::default()
    };
    assert_eq!(taken(&desk, &other).state, ComplaintState::Attributed);
    let sixth = Arf {
        message_id: &ids[5],
        ..Arf::default()
    };
    let by_hand = desk.take_in(&sixth.text(), Some(&peer())).unwrap().outcome;
    assert_eq!(by_hand.state, ComplaintState::Attributed, "{by_hand:?}");
    fake.pass(25 * 60);
    fake.sees("alice", 25 * 60 - 1, "203.0.113.5");
    let tomorrow = Arf {
        message_id: "10@alice.example",
        minute: 25 * 60,
        ..Arf::default()
    };
    assert_eq!(taken(&desk, &tomorrow).state, ComplaintState::Attributed);
}

#[test]
fn what_is_not_clear_waits_for_a_person() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    // Two sent at that time, and the report does not say who received it.
    fake.sees("alice", -1, "203.0.113.5");
    fake.sees("bob", -1, "203.0.113.9");
    let desk = desk(state.path(), &fake);
    let unclear = Arf {
        receiver: "somewhere",
        ..Arf::default()
    };
    let waits = taken(&desk, &unclear);
    assert_eq!(waits.state, ComplaintState::Ambiguous, "{waits:?}");
    assert_eq!(counted(&desk, "alice") + counted(&desk, "bob"), 0);
    assert!(desk.problems()[0].problem.starts_with("1 complaint waits"));
    // Told once, and again when there is another one and an hour has passed.
    desk.remind().unwrap();
    fake.pass(1);
    desk.remind().unwrap();
    assert_eq!(fake.told.lock().unwrap().len(), 1);
    let other = Arf {
        receiver: "somewhere",
        message_id: "2@alice.example",
        ..Arf::default()
    };
    assert!(taken(&desk, &other).state.waits());
    desk.remind().unwrap();
    assert_eq!(fake.told.lock().unwrap().len(), 1, "within the hour");
    fake.pass(60);
    desk.remind().unwrap();
    desk.remind().unwrap();
    let told = fake.told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    assert!(matches!(
        told[1].event,
        NoticeEvent::Unassigned { waiting: 2, .. }
    ));

    let assign = |id: &str, tenant: &str| {
        let word = ComplaintWord::Assign {
            tenant: tenant.to_owned(),
        };
        desk.say(id, &word, "his newsletter", &peer())
    };
    assert!(matches!(
        assign(&waits.id, "mallory"),
        Err(NodeError::UnknownTenant { .. })
    ));
    let assigned = assign(&waits.id[..12], "bob").unwrap();
    assert_eq!(assigned.state, ComplaintState::Attributed);
    assert_eq!(counted(&desk, "bob"), 1);
    assert!(assign(&waits.id, "bob").is_err(), "it counts already");
    let signals = desk
        .court
        .ledger(|ledger| ledger.signals("bob", Moment(0), 9));
    let signals = signals.unwrap();
    assert_eq!(signals[0].reason.as_deref(), Some("his newsletter"));
    assert_eq!(signals[0].by.as_ref().unwrap()["uid"], 0);
    // The mail comes again: known, and still bob's.
    let again = taken(&desk, &unclear);
    assert!(again.known && again.tenant.as_deref() == Some("bob"));

    let id = all(&desk)
        .into_iter()
        .find(|one| one.state.waits())
        .unwrap()
        .id;
    let dismissed = desk.say(&id, &ComplaintWord::Dismiss, "a rival", &peer());
    assert_eq!(dismissed.unwrap().state, ComplaintState::Dismissed);
    assert!(desk.problems().is_empty());
    assert_eq!(taken(&desk, &other).state, ComplaintState::Dismissed);
    assert_eq!(counted(&desk, "alice"), 0);
}

#[test]
fn one_that_counted_is_taken_back_or_given_to_another() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    let report = Arf::default();
    let id = taken(&desk, &report).id;
    let say = |word: &ComplaintWord| desk.say(&id, word, "a mistake", &peer());
    let assign = |tenant: &str| ComplaintWord::Assign {
        tenant: tenant.to_owned(),
    };
    let kept = |tenant: &str| desk.court.record(tenant).0;
    assert!(kept("alice").ladders["reports"].open.is_some());

    let moved = say(&assign("bob")).unwrap();
    assert!(!moved.known && moved.tenant.as_deref() == Some("bob"));
    assert!(
        moved
            .followed
            .iter()
            .any(|it| it == "it counts no more against alice")
    );
    let acquit = "`limiter case close alice reports/1 --acquit";
    assert!(
        moved.followed.iter().any(|it| it.contains(acquit)),
        "{moved:?}"
    );
    assert!(kept("alice").voided.is_complaint(&id));
    assert!(kept("alice").clocks.values().all(Option::is_none));
    assert!(kept("bob").ladders["reports"].open.is_some());
    let shown = desk.show(&id).unwrap();
    assert!(
        shown
            .followed
            .iter()
            .any(|it| it.contains("of bob is opened"))
    );
    // Not back to whom it was taken from, nor twice to the same.
    for tenant in ["alice", "bob"] {
        let refused = say(&assign(tenant));
        assert!(
            matches!(refused, Err(NodeError::Refused { .. })),
            "{tenant}"
        );
    }

    let dismissed = say(&ComplaintWord::Dismiss).unwrap();
    assert_eq!(dismissed.state, ComplaintState::Dismissed);
    assert!(
        dismissed
            .followed
            .iter()
            .any(|it| it == "it counts no more against bob")
    );
    assert!(kept("bob").voided.is_complaint(&id));
    assert_eq!(taken(&desk, &report).state, ComplaintState::Dismissed);
}

#[test]
fn what_accuses_nobody_and_what_is_none_is_kept_with_the_reason() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    for kind in ["opt-out", "not-spam", "auth-failure"] {
        let report = Arf {
            kind,
            message_id: kind,
            ..Arf::default()
        };
        let outcome = taken(&desk, &report);
        assert_eq!(outcome.state, ComplaintState::NotCounted, "{outcome:?}");
        assert!(outcome.why.contains(kind));
    }
    assert_eq!(counted(&desk, "alice"), 0);
    // Whoever says first that it was no spam hides nothing.
    let spam = Arf {
        message_id: "not-spam",
        ..Arf::default()
    };
    assert_eq!(taken(&desk, &spam).state, ComplaintState::Attributed);
    let refused = desk
        .take_in(b"Subject: hello\r\n\r\nhello\r\n", None)
        .unwrap();
    assert!(refused.refusal.is_some());
    assert_eq!(refused.outcome.state, ComplaintState::Refused);
    let id = &refused.outcome.id;
    let word = ComplaintWord::Assign {
        tenant: "alice".to_owned(),
    };
    assert!(desk.say(id, &word, "so", &peer()).is_err());
    assert!(desk.show(id).unwrap().raw.contains("hello"));
    assert_eq!(counted(&desk, "alice"), 1);
    assert!(desk.problems().is_empty());
}

#[test]
fn a_clock_stops_when_a_person_says_so() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    let id = taken(&desk, &Arf::default()).id;
    let clocks = all(&desk)[0].clocks.clone();
    let name = clocks[0].clock.clone();
    let handled = |clock: &str| {
        let word = ComplaintWord::Handled {
            clock: clock.to_owned(),
        };
        desk.say(&id, &word, "told them", &peer())
    };
    assert!(matches!(handled("dance"), Err(NodeError::NotFound { .. })));
    handled(&name).unwrap();
    let shown = desk.show(&id).unwrap().complaint.clocks;
    let clock = shown.iter().find(|clock| clock.clock == name).unwrap();
    assert!(clock.due.is_none() && clock.done.is_some());
    // Nothing is overdue then, whatever time passes; the others are.
    fake.pass(60 * 24 * 30);
    desk.court.tick();
    let told = fake.told.lock().unwrap().clone();
    let overdue = told.iter().filter_map(|notice| match &notice.event {
        NoticeEvent::Overdue { clock, .. } => Some(clock.clone()),
        _ => None,
    });
    let overdue: BTreeSet<String> = overdue.collect();
    assert!(!overdue.contains(&name), "{overdue:?}");
    assert_eq!((overdue.len(), clocks.len()), (1, 2));
}

#[test]
fn a_wall_clock_that_was_set_changes_nothing_about_when_it_happened() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::default());
    fake.sees("alice", -1, "203.0.113.5");
    let desk = desk(state.path(), &fake);
    taken(&desk, &Arf::default());
    *fake.ahead.lock().unwrap() = 600;
    fake.pass(100);
    fake.sees("alice", 695, "203.0.113.5");
    let report = Arf {
        minute: 696,
        ..Arf::default()
    };
    assert_eq!(taken(&desk, &report).state, ComplaintState::Attributed);
    let heard = desk
        .court
        .ledger(|ledger| ledger.signals("alice", Moment(0), 9));
    let heard = heard.unwrap();
    let happened = heard[1].body["complaint"]["happened"].as_i64().unwrap();
    assert_eq!(happened, at(95).as_millisecond());
}
