//! The record book is lost, and what was in force is so again by its copy.

use std::fs;

use super::*;
use crate::court::spare::{FILE, InForce};

impl Stage {
    fn copy(&self) -> InForce {
        FILE.load(self.directory.path()).unwrap().unwrap()
    }

    fn copied(&self) -> Vec<(String, Sanction)> {
        let copy = self.copy().sanctions.into_iter();
        copy.map(|kept| (kept.tenant, kept.sanction)).collect()
    }

    /// The node is off, and its record book is gone when it comes back.
    fn lose(&self) {
        for entry in fs::read_dir(self.directory.path()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("ledger.db") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        self.forget();
    }

    /// The kernel knows nothing.
    fn forget(&self) {
        let mut told = self.fake.told.lock().unwrap();
        told.wanted.clear();
        told.found.clear();
    }

    fn left(&self) -> Option<Duration> {
        let told = self.fake.told.lock().unwrap();
        told.wanted["alice"].kernel[&InKernel::BlockSmtp]
    }
}

fn suspend(sanction: Sanction, length: Option<Duration>) -> Submission {
    let signal = Signal::Suspend {
        tenant: "alice".to_owned(),
        sanction,
        length: length.map(Span::from),
        reason: "she asked for it".to_owned(),
        by: "root".to_owned(),
    };
    Submission::by(signal, json!({ "uid": 0 }), None)
}

fn say(stage: &Stage, court: &Court, what: Word) {
    stage.pass(Duration::from_secs(1));
    court.hear(vec![word(what)], &[]).unwrap();
    stage.pass(Duration::from_secs(1));
    court.tick();
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_lost_book_frees_nobody() {
    let stage = Stage::new();
    let court = stage.open();
    assert!(court.problems().is_empty());
    court.hear(vec![offence(Severity::Severe)], &[]).unwrap();
    let kept = stage.copy().sanctions.remove(0);
    assert_eq!(kept.cases, ["hostup/1"]);
    assert!(kept.reason.contains("severe"), "{kept:?}");
    drop(court);
    stage.lose();
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    let problem = &court.problems()[0];
    assert!(problem.problem.contains("was lost"), "{problem:?}");
    assert!(problem.problem.contains("hostup/1"), "{problem:?}");
    assert!(problem.remedy.contains("ledger.db"), "{problem:?}");
    let own = court.record("alice").0.own;
    let reason = &own[&Sanction::SuspendNetwork].reason;
    assert!(reason.contains("case hostup/1: severe"), "{reason}");
    // Lost twice in a row, and lifted then.
    drop(court);
    stage.lose();
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
    say(&stage, &court, Word::Review);
    assert!(stage.suffers().is_empty());
    drop(court);
    let court = stage.open();
    assert!(court.problems().is_empty(), "the next start forgets it");
}

#[test]
fn what_was_lifted_or_is_over_does_not_come_back() {
    let stage = Stage::new();
    let court = stage.open();
    let network = suspend(Sanction::SuspendNetwork, None);
    let smtp = suspend(Sanction::BlockSmtp, Some(HOUR));
    court.hear(vec![network, smtp], &[]).unwrap();
    assert_eq!(stage.copied().len(), 2);
    say(&stage, &court, Word::Lift(Sanction::SuspendNetwork));
    assert_eq!(
        stage.copied(),
        [("alice".to_owned(), Sanction::BlockSmtp)],
        "when it is lifted, and not some time later"
    );
    drop(court);
    stage.lose();
    stage.pass(HOUR / 2);
    let court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::BlockSmtp]);
    assert_eq!(stage.left(), Some(HOUR / 2 - Duration::from_secs(2)));
    drop(court);
    stage.lose();
    stage.pass(HOUR);
    let court = stage.open();
    assert!(stage.suffers().is_empty());
    let problems = court.problems();
    assert!(problems[0].problem.contains("nothing was in force"));
    assert!(stage.copied().is_empty());
}

#[test]
fn a_forged_clock_ends_nothing_early() {
    let stage = Stage::new();
    let court = stage.open();
    let smtp = suspend(Sanction::BlockSmtp, Some(HOUR * 24));
    court.hear(vec![smtp], &[]).unwrap();
    stage.pass(HOUR);
    // The clock in the copy is kept, though nothing else changes.
    court.tick();
    drop(court);
    stage.lose();
    // Another boot, half an hour old, and a wall clock that is years ahead and nobody vouches for.
    *stage.fake.boot.lock().unwrap() = Some(Reading {
        wall: Moment(START * 2),
        boot: "another".to_owned(),
        up: Span::from(HOUR / 2),
        trusted: false,
    });
    let _court = stage.open();
    assert_eq!(stage.left(), Some(HOUR * 22 + HOUR / 2));
}

#[test]
fn a_book_that_is_put_back_from_a_backup_frees_nobody() {
    let stage = Stage::new();
    let court = stage.open();
    let smtp = suspend(Sanction::BlockSmtp, None);
    court.hear(vec![smtp], &[]).unwrap();
    drop(court);
    let path = stage.directory.path().join(crate::ledger::FILE);
    let backup = fs::read(&path).unwrap();
    stage.pass(HOUR);
    let court = stage.open();
    let network = suspend(Sanction::SuspendNetwork, None);
    court.hear(vec![network], &[]).unwrap();
    drop(court);
    stage.lose();
    fs::write(&path, backup).unwrap();
    let court = stage.open();
    assert_eq!(
        stage.suffers(),
        [InKernel::BlockSmtp, InKernel::SuspendNetwork]
    );
    assert!(court.problems()[0].problem.contains("older than the copy"));
    let own = court.record("alice").0.own;
    assert_eq!(own[&Sanction::BlockSmtp].reason, "she asked for it");
}

#[test]
fn a_copy_that_is_broken_is_made_anew() {
    let stage = Stage::new();
    let court = stage.open();
    court
        .hear(vec![suspend(Sanction::BlockSmtp, None)], &[])
        .unwrap();
    drop(court);
    let path = FILE.path(stage.directory.path());
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let court = stage.open();
    assert!(court.problems()[0].problem.contains("is not whole"));
    assert_eq!(stage.copied(), [("alice".to_owned(), Sanction::BlockSmtp)]);
    assert_eq!(fs::read(path.with_extension("broken")).unwrap(), bytes);
}

#[test]
fn what_cannot_be_copied_is_said_and_tried_again() {
    let stage = Stage::new();
    let court = stage.open();
    // Not even root writes a file where a directory is.
    let in_the_way = FILE.path(stage.directory.path()).with_extension("new");
    fs::create_dir(&in_the_way).unwrap();
    court
        .hear(vec![suspend(Sanction::BlockSmtp, None)], &[])
        .unwrap();
    assert_eq!(stage.suffers(), [InKernel::BlockSmtp]);
    assert!(court.problems()[0].problem.contains("cannot be written"));
    fs::remove_dir(&in_the_way).unwrap();
    court.tick();
    assert!(court.problems().is_empty());
    assert_eq!(stage.copied(), [("alice".to_owned(), Sanction::BlockSmtp)]);
}

#[test]
fn what_could_not_be_recorded_is_copied() {
    let stage = Stage::new();
    let court = Arc::new(stage.open());
    court.ledger(|ledger| ledger.fill_up(true));
    let mut network = suspend(Sanction::SuspendNetwork, None);
    network.reason = Some("x".repeat(1 << 20));
    court.hear(vec![network.clone()], &[]).unwrap_err();
    court.owe(network);
    drop(court);
    stage.lose();
    let _court = stage.open();
    assert_eq!(stage.suffers(), [InKernel::SuspendNetwork]);
}
