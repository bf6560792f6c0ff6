//! Who is heard of, and when.

use std::time::Duration;

use jiff::Timestamp;
use limiter_common::verdict::Layer;

use super::*;
use crate::{
    offence::Subject,
    policy::load_ladder,
    report::{
        event::Endpoint,
        store::{Store, StoreOptions},
    },
};

const POLICY: &str = "
policy: few
offences:
  - {when: {spread: {addresses: 4, in: 1h}}, severity: severe}
  - {when: {spread: {addresses: 6, in: 24h}}, severity: severe}
forget_after: 365d
steps:
  - {severity: severe, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
";

/// alice may send from three addresses an hour and five a day, bob from as many as he likes.
fn spread() -> Spread {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("few.yaml");
    std::fs::write(&path, POLICY).unwrap();
    let ladder = load_ladder(&path).ladder.unwrap();
    let bound = Subject {
        policies: ["few".to_owned()].into(),
        ..Subject::default()
    };
    let book = Book {
        ladders: [("few".to_owned(), ladder)].into(),
        tenants: [
            ("alice".to_owned(), bound),
            ("bob".to_owned(), Subject::default()),
        ]
        .into(),
        ..Book::default()
    };
    let mut spread = Spread::default();
    spread.set_book(&book);
    spread
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn from(tenant: &str, source: &str, minute: i64) -> AttemptRecord {
    AttemptRecord {
        time: at(minute),
        moment: 1,
        tenant: Some(tenant.to_owned()),
        uid: 0,
        pid: 0,
        layer: Layer::Uplink,
        source: Some(Endpoint {
            address: source.parse().unwrap(),
            port: Some(40_000),
        }),
        destination: Endpoint {
            address: "198.51.100.1".parse().unwrap(),
            port: Some(25),
        },
        departure: true,
    }
}

/// What is due: tenant, address, minutes. It is told.
fn told(spread: &mut Spread, minute: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for (tenant, sources) in spread.due(at(minute).into()) {
        for (source, moment) in &sources {
            let minutes = (moment.millis() / 1_000 - 1_800_000_000) / 60;
            lines.push(format!("{tenant} {source} {minutes}"));
        }
        spread.told(&tenant, &sources);
    }
    lines
}

#[test]
fn whoever_comes_near_is_heard_with_all_addresses_and_when_they_were_used() {
    let mut spread = spread();
    spread.note(&from("alice", "192.0.2.1", 0));
    assert!(told(&mut spread, 1).is_empty(), "one is what everybody has");
    // Networks of IPv6 are one each; what no uplink saw leave is nobody's.
    spread.note(&from("alice", "2001:db8::1", 2));
    let unseen = AttemptRecord {
        layer: Layer::Guest,
        ..from("alice", "10.0.0.1", 2)
    };
    spread.note(&unseen);
    spread.note(&from("alice", "2001:db8::2", 3));
    assert_eq!(
        told(&mut spread, 4),
        ["alice 192.0.2.1 0", "alice 2001:db8:: 3"]
    );
    assert!(told(&mut spread, 4).is_empty(), "nothing new");
    // Used on, they are heard of now and then.
    spread.note(&from("alice", "192.0.2.1", 2));
    assert!(told(&mut spread, 5).is_empty());
    spread.note(&from("alice", "192.0.2.1", 10));
    assert_eq!(told(&mut spread, 11), ["alice 192.0.2.1 10"]);
    spread.note(&from("alice", "192.0.2.3", 11));
    assert_eq!(told(&mut spread, 11), ["alice 192.0.2.3 11"]);
}

#[test]
fn what_is_old_and_who_is_free_is_forgotten() {
    let mut spread = spread();
    spread.note(&from("bob", "192.0.2.9", 0));
    assert_eq!(spread.total, 0);
    spread.note(&from("alice", "192.0.2.1", 0));
    spread.note(&from("alice", "192.0.2.2", 61));
    // Two in an hour are near, and so are three in a day.
    assert!(told(&mut spread, 62).is_empty());
    spread.note(&from("alice", "192.0.2.3", 200));
    assert_eq!(told(&mut spread, 201).len(), 3);
    assert!(told(&mut spread, 26 * 60).is_empty());
    assert_eq!(spread.total, 1, "of the last day");
    spread.set_book(&Book::default());
    assert_eq!((spread.total, spread.seen.len()), (0, 0));
}

#[test]
fn forged_addresses_fill_no_memory() {
    let mut spread = spread();
    for number in 0..5_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(number).to_string();
        spread.note(&from("alice", &address, 0));
    }
    assert_eq!(spread.total, MOST_ADDRESSES);
    assert_eq!(told(&mut spread, 1).len(), MOST_ADDRESSES);
}

#[test]
fn the_next_agent_reads_back_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(Duration::from_secs(86_400));
    let store = Store::open(directory.path(), options).unwrap();
    let now = clock::timestamp();
    for (number, hours) in [(1, 1), (2, 2), (3, 3), (4, 30)] {
        let attempt = AttemptRecord {
            time: now - SignedDuration::from_hours(hours),
            ..from("alice", &format!("192.0.2.{number}"), 0)
        };
        store.record_attempt(attempt);
    }
    drop(store);
    let shared = SharedSpread::default();
    *shared.lock() = spread();
    shared.recall(Reader::new(directory.path()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while shared.lock().total < 3 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let due = shared.lock().due(Moment::from(now));
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!(due[0].1.len(), 3, "none of yesterday: {due:?}");
}
