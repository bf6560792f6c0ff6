//! The record book takes nothing, or does not answer: what operators say holds, and is recorded later.

use std::{sync::mpsc, thread, time::Instant};

use super::*;
use crate::notice::Planned;

const NETWORK: Sanction = Sanction::SuspendNetwork;

fn said(signal: Signal, reason: &str) -> Submission {
    Submission::by(signal, json!({ "uid": 0 }), Some(reason.to_owned())).once()
}

fn suspend(reason: &str, length: Option<Duration>) -> Submission {
    let signal = Signal::Suspend {
        tenant: "alice".to_owned(),
        sanction: NETWORK,
        length: length.map(Span::from),
        reason: reason.to_owned(),
        by: "root".to_owned(),
    };
    said(signal, reason)
}

fn lift(reason: &str) -> Submission {
    said(word(Word::Lift(NETWORK)).signal, reason)
}

/// With clocks that go on.
fn running() -> Stage {
    let stage = Stage::new();
    *stage.fake.runs.lock().unwrap() = true;
    stage
}

/// The reasons of what operators said, by the record book.
fn recorded(court: &Court) -> Vec<String> {
    let signals = court.ledger(|ledger| ledger.signals("alice", Moment(0), 100));
    let signals = signals.unwrap().into_iter();
    signals.filter_map(|signal| signal.reason).collect()
}

/// What the agent does where a word cannot be recorded.
fn insist(stage: &Stage, court: &Arc<Court>, word: Submission) -> bool {
    court.hear_soon(word.clone()).unwrap_err();
    let foreseen = court.foresee("alice", &word);
    court.say_later(word.clone());
    let wanted = Wanted::of(&foreseen.record, foreseen.now);
    let mut kernel = stage.fake.clone();
    kernel.enforce("alice", &wanted).unwrap();
    court.owe(word)
}

fn problems(court: &Court) -> String {
    let problems = court.problems().into_iter();
    problems.map(|it| it.problem).collect::<Vec<_>>().join("\n")
}

/// Until the book takes it: time passes, and it is looked.
fn tick(stage: &Stage, court: &Court) {
    for _ in 0..3 {
        stage.pass(Duration::from_secs(1));
        court.tick();
    }
}

/// The next page does not fit into a full book.
fn big(reason: &str) -> String {
    format!("{reason} {}", "x".repeat(60_000))
}

#[test]
fn with_a_full_disk_who_was_suspended_by_mistake_is_free_and_stays_so() {
    let stage = running();
    let court = Arc::new(stage.open());
    court.hear_soon(suspend("wrong one", None)).unwrap();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    court.ledger(|ledger| ledger.fill_up(true));
    stage.pass(Duration::from_secs(1));
    assert!(insist(&stage, &court, lift(&big("my mistake"))), "kept");
    assert!(stage.suffers().is_empty());
    // Nothing brings it back while it is not recorded.
    tick(&stage, &court);
    court.reconcile();
    assert!(stage.suffers().is_empty());
    assert_eq!(recorded(&court), ["wrong one"]);
    let told = problems(&court);
    assert!(told.contains("1 words of operators hold"), "{told}");
    assert!(
        told.contains("by root") && told.contains("my mistake"),
        "{told}"
    );
    assert!(told.contains("after a restart and a reboot too"), "{told}");
    // The node is switched off.
    drop(court);
    stage.fake.told.lock().unwrap().wanted.clear();
    let court = Arc::new(stage.open());
    tick(&stage, &court);
    assert!(stage.suffers().is_empty());
    assert_eq!(recorded(&court).len(), 2);
    assert!(court.record("alice").0.effective.is_empty());
    assert!(court.problems().is_empty());
    // It is said once, also by the next one.
    drop(court);
    let court = Arc::new(stage.open());
    tick(&stage, &court);
    assert_eq!(recorded(&court).len(), 2);
}

#[test]
fn words_are_heard_in_their_order() {
    let stage = running();
    let court = Arc::new(stage.open());
    court.ledger(|ledger| ledger.fill_up(true));
    let hour = Duration::from_secs(3_600);
    insist(&stage, &court, suspend(&big("first"), None));
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    stage.pass(Duration::from_secs(1));
    insist(&stage, &court, lift(&big("second")));
    assert!(stage.suffers().is_empty());
    stage.pass(Duration::from_secs(1));
    insist(&stage, &court, suspend("third", Some(hour)));
    stage.pass(Duration::from_secs(600));
    court.ledger(|ledger| ledger.fill_up(false));
    // What is said now comes after them.
    let last = said(word(Word::Contact).signal, "fourth");
    court.hear_soon(last).unwrap();
    tick(&stage, &court);
    let all: Vec<String> = recorded(&court)
        .iter()
        .map(|it| it.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(all, ["first", "second", "third", "fourth"]);
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    // It lasts from when it was said.
    let (record, now, _) = court.record("alice");
    let left = record.effective[&NETWORK].unwrap().since(now);
    assert!(left <= Span(3_600_000 - 600_000), "{left:?}");
    assert!(court.problems().is_empty());
}

/// A book that does not answer: whoever writes into it waits here, as for a disk.
struct Slow {
    hangs: Arc<Mutex<bool>>,
    reached: mpsc::Sender<()>,
}

impl Herald for Slow {
    fn plan(&self, _: &[Told<'_>], _: &Book) -> Vec<(i64, Planned)> {
        while *self.hangs.lock().unwrap() {
            let _ = self.reached.send(());
            thread::sleep(Duration::from_millis(5));
        }
        Vec::new()
    }
}

#[test]
fn a_disk_that_hangs_keeps_nobody() {
    let stage = running();
    let hangs = Arc::new(Mutex::new(false));
    let (sender, reached) = mpsc::channel();
    let herald = Slow {
        hangs: Arc::clone(&hangs),
        reached: sender,
    };
    let court = Arc::new(stage.open_with(Vec::new(), Box::new(herald)));
    court.hear_soon(suspend("before", None)).unwrap();
    stage.pass(Duration::from_secs(1));
    *hangs.lock().unwrap() = true;
    // The word's own writing hangs.
    let started = Instant::now();
    insist(&stage, &court, lift("by mistake"));
    reached.recv().unwrap();
    assert!(stage.suffers().is_empty());
    // The next ones, and whoever looks, wait for nobody.
    let looked = Instant::now();
    assert!(court.is_hanging());
    insist(&stage, &court, suspend("after", None));
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    let (record, ..) = court.record("alice");
    assert_eq!(record.own.len(), 1);
    assert_eq!(court.study(|study| study.records.len()), 1);
    assert!(court.ledger_soon(|_| ()).is_none());
    let told = problems(&court);
    assert!(told.contains("does not answer"), "{told}");
    assert!(told.contains("2 words of operators"), "{told}");
    assert!(
        looked.elapsed() < Duration::from_secs(2),
        "{:?}",
        looked.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    // It answers again: each is recorded once, in their order.
    *hangs.lock().unwrap() = false;
    tick(&stage, &court);
    assert_eq!(recorded(&court), ["before", "by mistake", "after"]);
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    assert!(court.problems().is_empty(), "{}", problems(&court));
}
