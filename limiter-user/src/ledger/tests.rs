//! The record book alone.

use std::collections::BTreeSet;

use super::*;
use crate::offence::{Moment, Span};

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

/// Fills a book so that it has many pages, and gives the pages on which a table stands.
fn filled(directory: &Path, table: &str) -> (u64, Vec<u64>) {
    let mut ledger = Ledger::open(directory).unwrap();
    let page = ledger.begin().unwrap();
    for number in 0..2_000 {
        let tenant = format!("customer-{number}");
        page.record(&tenant, &Record::default()).unwrap();
        page.note(&NoteRow {
            tenant,
            policy: "p".to_owned(),
            number: 1,
            wall: 0,
            by: serde_json::Value::Null,
            text: "x".repeat(500),
        })
        .unwrap();
    }
    page.commit().unwrap();
    let number = |sql: &str| -> u64 {
        let found: i64 = ledger.db.query_row(sql, [], |row| row.get(0)).unwrap();
        u64::try_from(found).unwrap()
    };
    let size = number("PRAGMA page_size");
    let root = number(&format!(
        "SELECT rootpage FROM sqlite_schema WHERE name = '{table}'"
    ));
    ledger
        .db
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    // Interior pages begin with 2 or 5 and name their children; the root of many is one.
    let bytes = std::fs::read(directory.join(FILE)).unwrap();
    let at = usize::try_from((root - 1) * size).unwrap();
    assert!([2, 5].contains(&bytes[at]), "the root has children");
    let cells = u16::from_be_bytes([bytes[at + 3], bytes[at + 4]]);
    let children = (0..usize::from(cells)).map(|cell| {
        let place = at + 12 + 2 * cell;
        let cell = at + usize::from(u16::from_be_bytes([bytes[place], bytes[place + 1]]));
        let child = <[u8; 4]>::try_from(&bytes[cell..cell + 4]).unwrap();
        u64::from(u32::from_be_bytes(child))
    });
    (size, children.collect())
}

/// Writes over one of these pages, as a dying disk does.
fn damage(directory: &Path, (size, pages): (u64, Vec<u64>)) {
    use std::os::unix::fs::FileExt as _;
    let file = OpenOptions::new()
        .write(true)
        .open(directory.join(FILE))
        .unwrap();
    file.write_all_at(&[0x5a; 512], (pages[0] - 1) * size)
        .unwrap();
}

#[test]
fn damage_is_found_where_it_matters_at_once_and_elsewhere_later() {
    let directory = tempfile::tempdir().unwrap();
    damage(directory.path(), filled(directory.path(), "records"));
    let error = Ledger::open(directory.path()).unwrap_err();
    assert!(error.remedy().contains("aside"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let pages = filled(directory.path(), "notes");
    Ledger::open(directory.path()).unwrap().check().unwrap();
    damage(directory.path(), pages);
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(ledger.state().unwrap().records.len(), 2_000);
    let beside = Ledger::read_only(directory.path()).unwrap().unwrap();
    let error = beside.check().unwrap_err();
    assert!(error.remedy().contains("aside"), "{error}");
}

#[test]
fn of_a_tenant_the_oldest_goes_first_and_what_waits_is_told() {
    use crate::{
        notice::{Channel, Context, Facts, Lane, Planned},
        offence::{Action, Audience, Notice, NoticeEvent, Sanction},
    };
    let (_directory, mut ledger) = ledger();
    let start = Moment(1_800_000_000_000);
    let page = ledger.begin().unwrap();
    let deliver = |tenant: &str, channel: Channel| {
        let notice = Notice {
            to: Audience::Contact,
            tenant: tenant.to_owned(),
            policy: None,
            case: None,
            event: NoticeEvent::Undecided {
                sanction: Sanction::Warn,
            },
        };
        let context = Context {
            id: "1",
            sequence: 1,
            node: "node",
            parent: None,
            operator: &[],
            evidence: &[],
            at: start,
            time: start.timestamp(),
        };
        let facts = Facts::new(&notice, &context);
        let written = page.actions(1, start, start, &[Action::Notify(Box::new(notice))]);
        let planned = Planned { channel, facts };
        page.deliver(written.unwrap()[0].0, &planned, start)
            .unwrap();
    };
    let mail = || Channel::Mail {
        to: "a@b.de".to_owned(),
    };
    for tenant in ["alice", "alice", "bob"] {
        deliver(tenant, Channel::Exec);
        deliver(tenant, mail());
    }
    page.commit().unwrap();
    let due = |ledger: &Ledger, lane, at: Moment| -> Vec<i64> {
        let due = ledger.due(lane, at, Span::days(1), &BTreeSet::new(), 9);
        due.unwrap().into_iter().map(|due| due.id).collect()
    };
    assert_eq!(due(&ledger, Lane::Exec, start), [1, 5]);
    assert_eq!(
        due(&ledger, Lane::Mail, start),
        [2, 4, 6],
        "people wait for nothing"
    );
    // The first of alice's failed: the second waits behind it, and that is told.
    let later = start.plus(Span::hours(1));
    ledger.failed_delivery(1, later, "exit 1").unwrap();
    assert_eq!(due(&ledger, Lane::Exec, start), [5]);
    let backlog = ledger.backlog(Lane::Exec).unwrap();
    assert_eq!(
        (backlog.waiting, backlog.failing, backlog.postponed),
        (3, 1, 0)
    );
    let stuck = backlog.failed.unwrap();
    assert_eq!(
        (stuck.why.as_str(), stuck.until),
        ("exit 1", later.timestamp())
    );
    assert_eq!(due(&ledger, Lane::Exec, later), [1, 5]);
    ledger.delivered(&[1], later, "ok").unwrap();
    assert_eq!(due(&ledger, Lane::Exec, later), [3, 5]);
    // Mails: what went out is known after a restart, and what waits says why.
    ledger.delivered(&[2], start, "250").unwrap();
    ledger.delivered(&[4, 6], later, "250").unwrap();
    let mailed = ledger.mailed(start).unwrap();
    assert_eq!(
        mailed,
        [
            (mail(), "alice".to_owned(), later),
            (mail(), "bob".to_owned(), later)
        ]
    );
    ledger.postponed(&[3], later, "10 mails an hour").unwrap();
    let backlog = ledger.backlog(Lane::Exec).unwrap();
    assert_eq!(backlog.failing, 0);
    assert_eq!(backlog.quota.unwrap().why, "10 mails an hour");
}

#[test]
fn logs_are_kept_with_the_messages_under_way_until_they_are_not_read_any_more() {
    let (_directory, mut ledger) = ledger();
    let mark = |log: &str, position: &str, mail: &[(&str, Option<&str>)]| LogMark {
        log: log.to_owned(),
        position: position.to_owned(),
        mail: mail
            .iter()
            .map(|(id, body)| ((*id).to_owned(), body.map(str::to_owned)))
            .collect(),
    };
    let write = |ledger: &mut Ledger, marks: &[LogMark]| {
        let page = ledger.begin().unwrap();
        for mark in marks {
            page.log(mark).unwrap();
        }
        page.commit().unwrap();
    };
    assert_eq!(ledger.log("a").unwrap(), LogRow::default());
    write(
        &mut ledger,
        &[
            mark("a", "1", &[("X", Some("x")), ("Y", Some("y"))]),
            mark("b", "7", &[("X", Some("b"))]),
        ],
    );
    write(
        &mut ledger,
        &[mark(
            "a",
            "2",
            &[("X", None), ("Y", Some("z")), ("Z", None)],
        )],
    );
    let kept = ledger.log("a").unwrap();
    assert_eq!(kept.position.as_deref(), Some("2"));
    assert_eq!(kept.mail, [("Y".to_owned(), "z".to_owned())]);
    // What is not committed did not happen.
    let page = ledger.begin().unwrap();
    page.log(&mark("a", "3", &[("Y", None)])).unwrap();
    drop(page);
    assert_eq!(ledger.log("a").unwrap(), kept);
    let page = ledger.begin().unwrap();
    page.forget_other_logs(&["b".to_owned()]).unwrap();
    page.commit().unwrap();
    assert_eq!(ledger.log("a").unwrap(), LogRow::default());
    assert_eq!(ledger.log("b").unwrap().mail.len(), 1);
}
