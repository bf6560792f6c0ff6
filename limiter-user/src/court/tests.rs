//! The court with a kernel that is only told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use limiter_common::sanction::Sanction as InKernel;
use serde_json::json;

mod later;
mod lost;

use super::*;
use crate::{
    ledger::{Ledger, Position},
    notice::Lane,
    offence::{Book, Moment, Reading, Sanction, Severity, Signal, Span, State, Word, step},
};

const START: u64 = 1_800_000_000_000;

/// What the kernel of this test enforces, and whether it refuses to be told.
#[derive(Default)]
struct Enforced {
    wanted: BTreeMap<String, Wanted>,
    refuses: bool,
    found: Vec<Found>,
}

#[derive(Clone, Default)]
struct Fake {
    told: Arc<Mutex<Enforced>>,
    passed: Arc<Mutex<u64>>,
    /// What the clocks show, if not this.
    boot: Arc<Mutex<Option<Reading>>>,
    /// Whether they go on by themselves.
    runs: Arc<Mutex<bool>>,
}

impl Bailiff for Fake {
    fn enforce(&mut self, tenant: &str, wanted: &Wanted) -> Result<(), BailiffError> {
        let mut told = self.told.lock().unwrap();
        if told.refuses {
            return Err(BailiffError::Failed("the map is full".to_owned()));
        }
        told.wanted.insert(tenant.to_owned(), wanted.clone());
        Ok(())
    }

    fn in_force(&self) -> Result<Vec<Found>, BailiffError> {
        Ok(self.told.lock().unwrap().found.clone())
    }
}

impl Clocks for Fake {
    fn read(&self) -> Reading {
        if let Some(reading) = &*self.boot.lock().unwrap() {
            return reading.clone();
        }
        let passed = {
            let mut passed = self.passed.lock().unwrap();
            *passed += u64::from(*self.runs.lock().unwrap());
            *passed
        };
        Reading {
            wall: Moment(START + passed),
            boot: "a boot".to_owned(),
            up: Span(100_000 + passed),
            trusted: true,
        }
    }
}

struct Stage {
    directory: tempfile::TempDir,
    fake: Fake,
}

impl Stage {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            fake: Fake::default(),
        }
    }

    fn open(&self) -> Court {
        self.open_after(Vec::new())
    }

    fn open_after(&self, later: Vec<Submission>) -> Court {
        self.open_with(later, Box::new(testing::Everywhere))
    }

    fn open_with(&self, later: Vec<Submission>, herald: Box<dyn Herald>) -> Court {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/hostup.yaml");
        let ladder = crate::policy::load_ladder(path.as_ref()).ladder.unwrap();
        let book = Book {
            everybody: [ladder.name.clone()].into(),
            ladders: [(ladder.name.clone(), ladder)].into(),
            tenants: [("alice".to_owned(), Default::default())].into(),
        };
        let setting = Setting {
            ledger: Ledger::open(self.directory.path()).unwrap(),
            book,
            clocks: Box::new(self.fake.clone()),
            bailiff: Box::new(self.fake.clone()),
            herald,
            later,
        };
        Court::open(setting).unwrap()
    }

    fn pass(&self, time: Duration) {
        *self.fake.passed.lock().unwrap() += u64::try_from(time.as_millis()).unwrap();
    }

    /// What the kernel enforces against alice.
    fn suffers(&self) -> Vec<InKernel> {
        let told = self.fake.told.lock().unwrap();
        let wanted = told.wanted.get("alice");
        wanted.map_or_else(Vec::new, |wanted| wanted.kernel.keys().copied().collect())
    }
}

fn offence(severity: Severity) -> Submission {
    let signal = Signal::Offence {
        tenant: "alice".to_owned(),
        severity,
        reason: "an open relay".to_owned(),
        by: "root".to_owned(),
        happened: Moment(u64::MAX),
    };
    Submission::by(signal, json!({ "uid": 0 }), Some("seen".to_owned()))
}

fn word(word: Word) -> Submission {
    Submission::of(Signal::Word {
        tenant: "alice".to_owned(),
        word,
        by: "root".to_owned(),
    })
}

fn due(court: &Court) -> Vec<crate::ledger::Due> {
    let wall = Moment(START + 1_000_000_000_000);
    court.due(Lane::Mail, wall, Span::days(1), 10).unwrap()
}

#[test]
fn what_is_decided_is_in_force_and_survives() {
    let stage = Stage::new();
    let court = stage.open();
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    assert_eq!(due(&court).len(), 3, "contact, parent, operator");
    drop(court);
    // The node was switched off: the kernel knows nothing.
    stage.fake.told.lock().unwrap().wanted.clear();
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    stage.pass(Duration::from_secs(1));
    court.hear(vec![word(Word::Review)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
    assert!(stage.suffers().is_empty());
    let cases = court
        .ledger(|ledger| ledger.cases(Some("alice"), false))
        .unwrap();
    assert_eq!(cases.len(), 1);
    assert!(cases[0].case.closed.is_some());
    let suffered = court
        .ledger(|ledger| ledger.sanctions("alice", Moment(0)))
        .unwrap();
    assert_eq!(suffered.len(), 1);
    assert!(suffered[0].lifted.is_some());
}

#[test]
fn nobody_hears_of_what_is_not_in_force() {
    let stage = Stage::new();
    let court = stage.open();
    stage.fake.told.lock().unwrap().refuses = true;
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    assert!(due(&court).is_empty());
    assert!(court.problems()[0].problem.contains("the map is full"));
    stage.fake.told.lock().unwrap().refuses = false;
    court.tick();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    assert_eq!(due(&court).len(), 3);
    assert!(court.problems().is_empty());
}

#[test]
fn what_comes_twice_is_heard_once() {
    let stage = Stage::new();
    let court = stage.open();
    let keyed = || Submission {
        key: Some("a".to_owned()),
        ..offence(Severity::Minor)
    };
    let first = court.hear(vec![keyed(), keyed()], &[]).unwrap();
    let second = court.hear(vec![keyed()], &[]).unwrap();
    assert_eq!(
        [first[0].duplicate, first[1].duplicate, second[0].duplicate],
        [false, true, true]
    );
    assert_eq!(first[0].id, second[0].id);
}

#[test]
fn what_cannot_be_recorded_did_not_happen() {
    let stage = Stage::new();
    let court = stage.open();
    court.hear(vec![offence(Severity::Minor)], &[]).unwrap();
    let before = court.record("alice").0;
    court.ledger(|ledger| ledger.fill_up(true));
    let position = Position {
        tenant: "alice".to_owned(),
        what: "refusals",
        epoch: "1".to_owned(),
        total: 7,
    };
    let many = |n: usize| {
        let mut big = offence(Severity::Severe);
        big.reason = Some("x".repeat(n));
        vec![big]
    };
    let error = court.hear(many(1 << 20), std::slice::from_ref(&position));
    let error = error.unwrap_err();
    assert!(error.remedy().contains("make room"), "{error}");
    assert_eq!(court.record("alice").0, before);
    assert!(stage.suffers().is_empty());
    assert!(!court.problems().is_empty());
    court.ledger(|ledger| ledger.fill_up(false));
    court
        .hear(many(1 << 20), std::slice::from_ref(&position))
        .unwrap();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    assert!(court.problems().is_empty());
    let kept = court.ledger(|ledger| ledger.positions("refusals")).unwrap();
    assert_eq!(kept, [position]);
}

#[test]
fn what_the_kernel_enforces_unknown_is_taken_over() {
    let stage = Stage::new();
    stage.fake.told.lock().unwrap().found = vec![Found {
        tenant: "alice".to_owned(),
        sanction: InKernel::BlockSmtp,
        left: Some(Duration::from_secs(60)),
    }];
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::BlockSmtp]);
    let record = court.record("alice").0;
    assert!(record.own.contains_key(&Sanction::BlockSmtp));
    drop(court);
    // Lifted, and killed before the kernel heard of it: the record holds.
    let court = stage.open();
    stage.pass(Duration::from_secs(1));
    court.hear(vec![word(Word::Reinstate)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
    drop(court);
    stage.fake.told.lock().unwrap().wanted.clear();
    let _court = stage.open();
    assert!(stage.suffers().is_empty());
    assert!(stage.fake.told.lock().unwrap().wanted.contains_key("alice"));
}

/// What alice is found to be under at the next start.
fn found(sanction: InKernel, left: Option<Duration>) -> Vec<Found> {
    vec![Found {
        tenant: "alice".to_owned(),
        sanction,
        left,
    }]
}

#[test]
fn what_no_record_ever_knew_is_taken_over_and_what_was_lifted_is_not() {
    let stage = Stage::new();
    let court = stage.open();
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.hear(vec![word(Word::Review)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
    drop(court);
    // Lifted, and killed before the kernel heard of it: although alice has a record, that ends.
    stage.fake.told.lock().unwrap().found = found(InKernel::SuspendNetwork, None);
    drop(stage.open());
    assert!(stage.suffers().is_empty());
    stage.pass(Duration::from_secs(60));
    // But nothing ever said of this: it was said when nothing could be recorded.
    stage.fake.told.lock().unwrap().found = found(InKernel::BlockSmtp, None);
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::BlockSmtp]);
    drop(court);
    // Nor of this, since the lift was carried out long ago.
    stage.fake.told.lock().unwrap().found = found(InKernel::SuspendNetwork, None);
    let _court = stage.open();
    assert_eq!(
        stage.suffers(),
        [InKernel::BlockSmtp, InKernel::SuspendNetwork]
    );
}

#[test]
fn what_was_said_without_a_court_is_heard_when_it_opens() {
    let stage = Stage::new();
    let court = stage.open();
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    drop(court);
    stage.pass(Duration::from_secs(1));
    // Meanwhile it was lifted in the kernel: it does not come back, not even for a moment.
    stage.fake.told.lock().unwrap().wanted.clear();
    let said = vec![word(Word::Reinstate)];
    let court = stage.open_after(said);
    assert!(court.problems().is_empty());
    stage.pass(Duration::from_secs(1));
    court.tick();
    assert!(stage.suffers().is_empty());
    let record = court.record("alice").0;
    assert!(record.effective.is_empty(), "{record:?}");
}

#[test]
fn replaying_what_was_heard_gives_the_same_records() {
    let stage = Stage::new();
    let court = stage.open();
    for round in 0..40_u64 {
        let one = match round % 4 {
            0 => offence(Severity::Moderate),
            1 => word(Word::Contact),
            2 => word(Word::Review),
            _ => offence(Severity::Minor),
        };
        court.hear(vec![one], &[]).unwrap();
        stage.pass(Duration::from_secs(3_600 * round));
        court.tick();
    }
    let book = court.book();
    let heard = court.ledger(Ledger::replay).unwrap();
    let mut state = State::default();
    for (signal, reading) in &heard {
        step(&mut state, &book, signal, reading);
    }
    let kept = court.ledger(Ledger::state).unwrap();
    assert_eq!(state.records, kept.records);
    assert!(heard.len() >= 40);
}

#[test]
fn old_records_are_forgotten_and_open_cases_are_not() {
    let stage = Stage::new();
    let court = stage.open();
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    let later = Moment(START).plus(Span::days(1));
    court.forget_before(later).unwrap();
    let signals = court
        .ledger(|ledger| ledger.signals("alice", Moment(0), 10))
        .unwrap();
    assert_eq!(signals.len(), 1, "its case is open");
    stage.pass(Duration::from_secs(1));
    court.hear(vec![word(Word::Review)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
    court.forget_before(later).unwrap();
    let signals = court
        .ledger(|ledger| ledger.signals("alice", Moment(0), 10))
        .unwrap();
    assert!(signals.is_empty());
    assert!(
        court
            .ledger(|ledger| ledger.cases(None, false))
            .unwrap()
            .is_empty()
    );
}

fn violations(count: u64, refused: bool, engine: u64) -> Submission {
    let signal = Signal::Violations {
        tenant: "alice".to_owned(),
        reason: "limit".to_owned(),
        count,
        refused,
        source: None,
        happened: Moment(engine),
        around: Default::default(),
    };
    Submission {
        evidence: vec![crate::ledger::Evidence {
            kind: "event",
            body: json!({ "count": count }),
        }],
        ..Submission::of(signal)
    }
}

#[test]
fn what_only_counted_is_forgotten_earlier_and_what_a_case_rests_on_is_not() {
    let stage = Stage::new();
    let court = stage.open();
    let kinds = || -> Vec<(String, usize)> {
        let signals = court.ledger(|ledger| ledger.signals("alice", Moment(0), 100));
        let signals = signals.unwrap().into_iter();
        signals
            .map(|signal| (signal.kind, signal.evidence.len()))
            .collect()
    };
    let kind = |kind: &str, evidence| (kind.to_owned(), evidence);
    let sent = || {
        Submission::of(Signal::Sent {
            tenant: "alice".to_owned(),
            messages: 5_000,
        })
    };
    // Long ago; then what a case rests on, an hour before it is opened.
    let long_ago = vec![violations(3, true, START), sent()];
    court.hear(long_ago, &[]).unwrap();
    stage.pass(Duration::from_secs(10 * 86_400));
    court.hear(vec![sent()], &[]).unwrap();
    stage.pass(Duration::from_secs(3_600));
    let hard = Signal::Bounces {
        tenant: "alice".to_owned(),
        hard: 400,
        soft: 0,
        happened: Moment(u64::MAX),
    };
    court.hear(vec![Submission::of(hard)], &[]).unwrap();
    assert_eq!(stage.suffers(), [InKernel::BlockSmtp]);
    stage.pass(Duration::from_secs(1));
    let records = || court.ledger(Ledger::state).unwrap().records;
    let before = records();
    let now = || Moment(START + *stage.fake.passed.lock().unwrap());
    let all = vec![
        kind("violations", 1),
        kind("sent", 0),
        kind("sent", 0),
        kind("bounces", 0),
    ];
    assert_eq!(kinds(), all);
    court
        .forget_counts_before(Moment(START), Span::days(1))
        .unwrap();
    assert_eq!(kinds(), all, "none is so old");
    court.forget_counts_before(now(), Span::days(1)).unwrap();
    assert_eq!(kinds(), all[2..], "the case is open");
    // Closed, the case keeps what it rests on as long as it is kept itself.
    court.hear(vec![word(Word::Review)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
    stage.pass(Duration::from_secs(3_600));
    court.hear(vec![sent()], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.forget_counts_before(now(), Span::days(1)).unwrap();
    assert_eq!(
        kinds(),
        [kind("sent", 0), kind("bounces", 0), kind("word", 0)]
    );
    // The engine goes on with what it knows, also the next one.
    assert_eq!(before["alice"].ladders["hostup"].cases, 1);
    let known = records();
    drop(court);
    let court = stage.open();
    assert_eq!(court.ledger(Ledger::state).unwrap().records, known);
}
