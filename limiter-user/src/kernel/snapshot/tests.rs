//! Counts that are carried over a reboot, without a kernel.

use limiter_common::{verdict::PortGroup, window};

use super::*;
use crate::{
    kernel::limits::{defs, lay_out},
    offence::{Moment, Span},
    policy::image::ImageLimit,
};
use limiter_common::{command::SlotChange, limit::LimitSet, window::Slot};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

fn limit(kind: Kind, max: u32, span_ns: u64) -> ImageLimit {
    ImageLimit {
        unit: Unit::Connections,
        kind,
        max,
        span_ns,
        groups: PortGroup::Smtp.bit(),
    }
}

fn reading(boot: &str, wall_s: u64, up_s: u64, trusted: bool) -> Reading {
    Reading {
        wall: Moment(wall_s * 1_000),
        boot: boot.to_owned(),
        up: Span::seconds(up_s),
        trusted,
    }
}

/// Three units five hours ago and one just now, in a day; a pace that is five hours ahead.
fn snapshot() -> Snapshot {
    let limits = [limit(Kind::Window, 5, DAY), limit(Kind::Pace, 10, HOUR)];
    let set = lay_out(&limits, &LimitSet::default(), 0).set;
    Snapshot {
        taken: reading("one", 1_000_000, 90_000, true),
        plans: vec![defs(&set).iter().filter_map(KeptLimit::of).collect()],
        tenants: vec![KeptTenant(
            "alice".to_owned(),
            0,
            vec![
                Counts::Window(vec![(0, 1), (5 * 3_600, 3)]),
                Counts::Pace(5 * 3_600),
            ],
        )],
    }
}

/// What alice's limits begin with at `up_s` of another clock, by their order.
fn inherited(limits: &[ImageLimit], now: &Reading, up_s: u64) -> Vec<Slot> {
    let inheritance = Inheritance::new(snapshot(), now, up_s * SECOND);
    let layout = lay_out(limits, &LimitSet::default(), 0);
    assert!(inheritance.slots("bob", limits, &layout).is_none());
    let slots: Vec<SlotChange> = inheritance.slots("alice", limits, &layout).unwrap();
    let places = defs(&layout.set).iter().map(|def| usize::from(def.slot));
    places.map(|place| slots[place].state).collect()
}

fn used(slot: &Slot, now_s: u64, window_ns: u64) -> u32 {
    slot.used(now_s * SECOND, window::width_of(window_ns))
}

#[test]
fn unknown_downtime_is_none() {
    let now = reading("two", 1_100_000, 20, false);
    let limits = [limit(Kind::Window, 5, DAY), limit(Kind::Pace, 10, HOUR)];
    let [day, pace] = inherited(&limits, &now, 20)[..] else {
        panic!("two limits");
    };
    assert_eq!(used(&day, 20, DAY), 4);
    // Nineteen hours and a thirty-second later the three are gone, and not before.
    assert_eq!(used(&day, 20 + 19 * 3_600 - 2, DAY), 4);
    assert_eq!(used(&day, 20 + 19 * 3_600 + 2 * 2_700, DAY), 1);
    assert_eq!(used(&day, 20 + 24 * 3_600 - 2, DAY), 1);
    assert_eq!(used(&day, 20 + 26 * 3_600, DAY), 0);
    assert_eq!(pace.epoch, (20 + 5 * 3_600) * SECOND);
}

#[test]
fn downtime_counts_where_the_wall_clock_is_right_both_times() {
    let now = reading("two", 1_000_000 + 20 * 3_600, 20, true);
    let limits = [limit(Kind::Window, 5, DAY), limit(Kind::Pace, 10, HOUR)];
    let slots = inherited(&limits, &now, 20);
    assert_eq!(used(&slots[0], 20, DAY), 1, "25 hours ago");
    assert_eq!(slots[1].epoch, 20 * SECOND, "long over");
    // A wall clock that was wrong then says nothing.
    let mut wrong = snapshot();
    wrong.taken.trusted = false;
    let inheritance = Inheritance::new(wrong, &now, 20 * SECOND);
    assert!(inheritance.elapsed().is_zero());
    // Nor does one that went back.
    let before = reading("two", 900_000, 20, true);
    assert_eq!(used(&inherited(&limits, &before, 20)[0], 20, DAY), 4);
}

#[test]
fn within_a_boot_the_boot_clock_says() {
    let now = reading("one", 5, 90_000 + 20 * 3_600, false);
    let limits = [limit(Kind::Window, 5, DAY)];
    let at_s = 90_000 + 20 * 3_600;
    assert_eq!(used(&inherited(&limits, &now, at_s)[0], at_s, DAY), 1);
}

#[test]
fn other_limits_begin_with_what_is_known() {
    let now = reading("two", 0, 20, false);
    let limits = [
        limit(Kind::Window, 9, HOUR),
        limit(Kind::Window, 3, 2 * HOUR),
        limit(Kind::Window, 9, 10 * DAY),
        limit(Kind::Pace, 2, HOUR),
    ];
    let slots = inherited(&limits, &now, 20);
    assert_eq!(slots[0], Slot::EMPTY, "an hour is not kept");
    assert_eq!(used(&slots[1], 20, 2 * HOUR), 1);
    assert_eq!(used(&slots[2], 20, 10 * DAY), 4);
    assert_eq!(slots[3].epoch, (20 + 2 * 3_600) * SECOND, "a burst at most");
}

#[test]
fn what_is_long() {
    let def = |limit| lay_out(&[limit], &LimitSet::default(), 0).set.defs[0];
    assert!(!is_long(&def(limit(Kind::Window, 9, HOUR))));
    assert!(is_long(&def(limit(Kind::Window, 9, HOUR + SECOND))));
    assert!(!is_long(&def(limit(Kind::Pace, 4, 15 * 60 * SECOND))));
    assert!(is_long(&def(limit(Kind::Pace, 5, 15 * 60 * SECOND))));
}

#[test]
fn bytes_are_whole_or_refused() {
    let bytes = encode(&snapshot()).unwrap();
    assert_eq!(decode(&bytes).unwrap(), snapshot());
    for length in 0..bytes.len() {
        decode(&bytes[..length]).unwrap_err();
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        decode(&changed).unwrap_err();
    }
    let text = String::from_utf8(bytes).unwrap();
    decode(text.replacen("counts 1", "counts 2", 1).as_bytes()).unwrap_err();
}

#[test]
fn files_are_replaced_whole() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    assert!(load(&state_dir).unwrap().is_none());
    let length = keep(&state_dir, &snapshot()).unwrap();
    keep(&state_dir, &snapshot()).unwrap();
    assert_eq!(load(&state_dir).unwrap(), Some(snapshot()));
    let file = std::fs::read(path(&state_dir)).unwrap();
    assert_eq!(file.len(), length);
    std::fs::write(path(&state_dir), &file[..length / 2]).unwrap();
    let broken = load(&state_dir).unwrap_err();
    assert!(matches!(broken, SnapshotError::Broken { .. }), "{broken}");
    let aside = set_aside(&state_dir).unwrap();
    assert!(aside.exists() && load(&state_dir).unwrap().is_none());
}
