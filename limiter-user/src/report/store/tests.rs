//! The history on real files.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use limiter_common::verdict::{Layer, Reason, Verdict};
use tempfile::TempDir;

use super::{
    EventFilter, Losses, Reader, Store, StoreError, StoreOptions,
    day::{Kind, day_of},
};
use crate::report::{
    attempt::AttemptRecord,
    event::{Endpoint, EventRecord},
    problem::Severity,
};

const DAY: Duration = Duration::from_secs(86_400);

fn options() -> StoreOptions {
    StoreOptions::new(30 * DAY)
}

fn event(tenant: &str, n: u64) -> EventRecord {
    EventRecord {
        time: Timestamp::now(),
        node: "web-17".into(),
        tenant: Some(tenant.into()),
        verdict: Verdict::Denied,
        reason: Reason::Limit,
        layer: Layer::Connect,
        uid: Some(2001),
        pid: Some(4711),
        comm: Some("php\u{1b}[2J".into()),
        exe: None,
        cwd: None,
        cgroup: None,
        interface: None,
        source: None,
        destination: Endpoint {
            address: "2001:db8::5".parse().unwrap(),
            port: Some(25),
        },
        limit: None,
        repeated: n,
        estimated: false,
    }
}

fn attempt(tenant: &str, n: u32) -> AttemptRecord {
    AttemptRecord {
        time: Timestamp::now(),
        moment: u64::from(n),
        tenant: Some(tenant.into()),
        uid: 2001,
        pid: n,
        layer: Layer::Connect,
        source: n.is_multiple_of(2).then(|| Endpoint {
            address: "2001:db8::7".parse().unwrap(),
            port: Some(40_000),
        }),
        destination: Endpoint {
            address: "203.0.113.5".parse().unwrap(),
            port: Some(25),
        },
        departure: n == 4,
    }
}

fn today(directory: &Path, kind: Kind) -> PathBuf {
    kind.path(&directory.join("events"), day_of(Timestamp::now()))
}

fn repeated(store_dir: &Path, filter: &EventFilter) -> Vec<u64> {
    Reader::new(store_dir)
        .history(filter)
        .unwrap()
        .map(|event| event.unwrap().repeated)
        .collect()
}

fn filled(events: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options()).unwrap();
    for n in 1..=events {
        store.record(Arc::new(event("alice", n)));
    }
    drop(store);
    directory
}

#[test]
fn events_come_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options()).unwrap();
    let original = event("alice", 7);
    store.record(Arc::new(original.clone()));
    let back: Vec<_> = store
        .history(&EventFilter::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(back, [original], "at once, while the store is open");
    assert_eq!(store.losses(), Losses::default());
    assert!(store.problems().is_empty());
}

#[test]
fn filters_by_tenant_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options()).unwrap();
    let mut old = event("alice", 1);
    old.time -= SignedDuration::from_hours(3);
    store.record(Arc::new(old));
    store.record(Arc::new(event("alice", 2)));
    store.record(Arc::new(event("bob", 3)));
    drop(store);
    let filter = |hours: Option<i64>, tenant: Option<&str>| EventFilter {
        since: hours.map(|hours| Timestamp::now() - SignedDuration::from_hours(hours)),
        tenant: tenant.map(str::to_owned),
    };
    let path = directory.path();
    assert_eq!(repeated(path, &filter(None, None)), [1, 2, 3]);
    assert_eq!(repeated(path, &filter(Some(1), None)), [2, 3]);
    assert_eq!(repeated(path, &filter(Some(4), Some("alice"))), [1, 2]);
    assert!(repeated(path, &filter(Some(1), Some("carol"))).is_empty());
}

#[test]
fn only_root_can_read_it() {
    let directory = filled(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory.path().join("events")), 0o700);
    for kind in [Kind::Events, Kind::Attempts, Kind::Names] {
        assert_eq!(mode(&today(directory.path(), kind)), 0o600, "{kind:?}");
    }
}

#[test]
fn a_line_cut_off_by_a_crash_costs_only_itself() {
    let directory = filled(3);
    let path = today(directory.path(), Kind::Events);
    let length = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length - 10).unwrap();
    let all = EventFilter::default();
    assert_eq!(repeated(directory.path(), &all), [1, 2], "without an agent");
    let store = Store::open(directory.path(), options()).unwrap();
    store.record(Arc::new(event("alice", 4)));
    drop(store);
    assert_eq!(repeated(directory.path(), &all), [1, 2, 4]);
}

#[test]
fn lines_that_are_no_events_are_skipped() {
    let directory = filled(1);
    let path = today(directory.path(), Kind::Events);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\n{}\n\xff\xfe\nnull\n").unwrap();
    file.write_all(&vec![b'x'; 300_000]).unwrap();
    file.write_all(b"\n").unwrap();
    let store = Store::open(directory.path(), options()).unwrap();
    store.record(Arc::new(event("alice", 2)));
    assert!(store.flush());
    let mut history = store.history(&EventFilter::default()).unwrap();
    let back: Vec<u64> = history.by_ref().map(|e| e.unwrap().repeated).collect();
    assert_eq!(back, [1, 2]);
    assert!(history.skipped() >= 5);
}

#[test]
fn old_days_go_when_their_last_record_is_too_old() {
    let directory = filled(1);
    let events = directory.path().join("events");
    let now = Timestamp::now();
    let days_ago = |days: i64| day_of(now - SignedDuration::from_hours(24 * days));
    for days in [1, 2, 3, 400] {
        for kind in [Kind::Events, Kind::Attempts, Kind::Names] {
            fs::write(kind.path(&events, days_ago(days)), "").unwrap();
        }
    }
    fs::write(events.join("notes.txt"), "mine").unwrap();
    let options = StoreOptions::new(2 * DAY);
    let store = Store::open(directory.path(), options).unwrap();
    store.record(Arc::new(event("alice", 2)));
    assert!(store.flush());
    for kind in [Kind::Events, Kind::Attempts, Kind::Names] {
        for (days, kept) in [(0, true), (1, true), (2, true), (3, false), (400, false)] {
            let path = kind.path(&events, days_ago(days));
            assert_eq!(path.exists(), kept, "{}", path.display());
        }
    }
    assert!(events.join("notes.txt").exists(), "nothing else is deleted");
}

#[test]
fn the_oldest_days_go_first_where_all_take_too_much() {
    let directory = filled(1);
    let events = directory.path().join("events");
    let now = Timestamp::now();
    let days_ago = |days: i64| day_of(now - SignedDuration::from_hours(24 * days));
    for days in [1, 2, 3] {
        for kind in [Kind::Events, Kind::Attempts] {
            fs::write(kind.path(&events, days_ago(days)), vec![b'\n'; 50_000]).unwrap();
        }
    }
    let options = StoreOptions::new(30 * DAY).within(220_000);
    assert_eq!(options.most_bytes_a_day, 55_000);
    let store = Store::open(directory.path(), options).unwrap();
    store.record(Arc::new(event("alice", 2)));
    assert!(store.flush());
    for (days, kept) in [(0, true), (1, true), (2, true), (3, false)] {
        let path = Kind::Events.path(&events, days_ago(days));
        assert_eq!(path.exists(), kept, "{}", path.display());
    }
    assert!(!Kind::Attempts.path(&events, days_ago(3)).exists());
    let problems = store.problems();
    let said = format!("1 days of them, up to {}", days_ago(3));
    assert!(
        problems.iter().any(|it| it.problem.contains(&said)),
        "{problems:?}"
    );
    // Today's files stay, whatever they take.
    drop(store);
    let tight = StoreOptions {
        most_bytes: 1,
        ..options
    };
    let store = Store::open(directory.path(), tight).unwrap();
    store.record(Arc::new(event("alice", 3)));
    assert!(store.flush());
    assert!(Kind::Events.path(&events, days_ago(0)).exists());
    assert!(!Kind::Events.path(&events, days_ago(1)).exists());
}

#[test]
fn two_agents_do_not_write_one_history() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path(), options()).unwrap();
    let second = Store::open(directory.path(), options()).unwrap_err();
    assert!(matches!(second, StoreError::Busy { .. }), "{second}");
    drop(first);
    Store::open(directory.path(), options()).unwrap();
}

#[test]
fn attempts_come_back_with_their_tenants_after_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), options()).unwrap();
    let first = attempt("alice", 1);
    store.record_attempt(first.clone());
    store.record_attempt(attempt("bob", 2));
    drop(store);
    let path = today(directory.path(), Kind::Attempts);
    assert_eq!(fs::metadata(&path).unwrap().len(), 144, "72 bytes each");
    // A crash in the middle of a third, and in the middle of its tenant's name.
    for (kind, torn) in [(Kind::Attempts, &[1; 17][..]), (Kind::Names, b"car")] {
        let path = today(directory.path(), kind);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(torn).unwrap();
    }
    let read = |tenant: Option<&str>| -> Vec<AttemptRecord> {
        let attempts = Reader::new(directory.path()).attempts(None, tenant);
        attempts.unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(read(None).len(), 2);
    let store = Store::open(directory.path(), options()).unwrap();
    store.record_attempt(attempt("carol", 3));
    store.record_attempt(attempt("bob", 4));
    drop(store);
    let pids = |tenant| read(tenant).iter().map(|a| a.pid).collect::<Vec<_>>();
    assert_eq!(read(Some("alice")), [first]);
    assert_eq!(pids(Some("bob")), [2, 4]);
    assert_eq!(pids(Some("carol")), [3]);
    let bobs = [attempt("bob", 2), attempt("bob", 4)];
    for (read, wrote) in read(Some("bob")).into_iter().zip(bobs) {
        let time = read.time;
        assert_eq!(read, AttemptRecord { time, ..wrote });
    }
    assert_eq!(pids(None), [1, 2, 3, 4]);
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let later = Reader::new(directory.path()).attempts(Some(hour), None);
    assert_eq!(later.unwrap().count(), 0);
}

#[test]
fn a_flood_is_dropped_and_counted_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        queue: 16,
        ..options()
    };
    let store = Store::open(directory.path(), options).unwrap();
    for n in 1..=20_000 {
        store.record(Arc::new(event("alice", n)));
    }
    let lost = store.losses().events_queue;
    assert!(lost > 0, "faster than any disk");
    assert_eq!(store.problems()[0].severity, Severity::Warning);
    drop(store);
    let kept = repeated(directory.path(), &EventFilter::default()).len();
    assert_eq!(kept as u64 + lost, 20_000, "what is not kept is counted");
}

#[test]
fn a_day_has_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        most_bytes_a_day: 10_000,
        ..options()
    };
    let store = Store::open(directory.path(), options).unwrap();
    for n in 1..=100 {
        store.record(Arc::new(event("alice", n)));
        assert!(store.flush());
    }
    let length = fs::metadata(today(directory.path(), Kind::Events))
        .unwrap()
        .len();
    assert!(length <= 10_000, "{length}");
    let problems = store.problems();
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].problem.contains("10000 bytes"), "{problems:?}");
    let kept = repeated(directory.path(), &EventFilter::default()).len() as u64;
    assert!(kept > 10 && kept + store.losses().events_disk == 100);
}

/// A file system of its own, as small as they come; gone when dropped.
struct Tiny(TempDir);

impl Tiny {
    /// `None` where mounting is not allowed.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(directory.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_outlived() {
    let Some(tiny) = Tiny::mount() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let path = tiny.0.path();
    let store = Store::open(path, options()).unwrap();
    store.record(Arc::new(event("alice", 1)));
    store.record_attempt(attempt("alice", 1));
    assert!(store.flush());
    let ballast = path.join("ballast");
    let _ = fs::write(&ballast, vec![0; 64 * 1024]);
    let mut n = 1;
    while store.losses().events_disk == 0 {
        n += 1;
        assert!(n < 10_000, "the disk never gets full");
        store.record(Arc::new(event("alice", n)));
        assert!(store.flush());
    }
    let problems = store.problems();
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(
        problems[0].problem.contains("No space left"),
        "{problems:?}"
    );
    assert!(problems[0].remedy.contains("make room"), "{problems:?}");

    fs::remove_file(&ballast).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    n += 1;
    store.record(Arc::new(event("alice", n)));
    assert!(store.flush());
    let problems = store.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Warning, "told, and over");
    let lost = store.losses().events_disk;
    let mut history = store.history(&EventFilter::default()).unwrap();
    let back: Vec<u64> = history.by_ref().map(|e| e.unwrap().repeated).collect();
    assert_eq!(back.last(), Some(&n), "recording goes on");
    assert_eq!(history.skipped(), 0, "no torn line is left");
    assert_eq!(back.len() as u64 + lost, n, "what is not kept is counted");
}
