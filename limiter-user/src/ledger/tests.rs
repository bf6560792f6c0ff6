//! The record book alone.

use super::*;

fn ledger() -> (tempfile::TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    (directory, ledger)
}

#[test]
fn a_newer_one_is_left_alone() {
    let (directory, ledger) = ledger();
    ledger.db.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let error = Ledger::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("format 99"), "{error}");
    assert!(Ledger::read_only(directory.path()).is_err());
}

#[test]
fn a_damaged_one_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), [7_u8; 8_192]).unwrap();
    let error = Ledger::open(directory.path()).unwrap_err();
    assert!(
        error.remedy().contains("aside"),
        "{error}: {}",
        error.remedy()
    );
}

#[test]
fn nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, mut ledger) = ledger();
    let page = ledger.begin().unwrap();
    page.clock(&Default::default()).unwrap();
    page.commit().unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn a_page_that_is_not_committed_was_never_written() {
    let (_directory, mut ledger) = ledger();
    let page = ledger.begin().unwrap();
    page.record("alice", &Record::default()).unwrap();
    drop(page);
    assert!(ledger.record("alice").unwrap().is_none());
}
