//! Counts kept outside the kernel: whole while programs count, and put into new maps.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Instant,
};

use limiter_common::{
    limit::{BLOCK_SLOTS, Block},
    settings::Settings,
    window::{self, BUCKETS, Head},
};
use limiter_user::{
    kernel::{
        Mirror, Needs, clock,
        maps::{Maps, TypedArray},
        pins::Pins,
        snapshot::{Counts, Inheritance, Snapshot, Taking, decode, encode, keep, load},
    },
    offence::Reading,
    policy::image::NODE_NAME,
    system::clock::MachineClock,
};

use crate::{
    images::{Draft, HOUR, pace, window as limit},
    lab::{Lab, NEEDS, charge, in_lab, in_netns},
};

/// Sets the clock right when a test is over.
struct RightClock;

impl Drop for RightClock {
    fn drop(&mut self) {
        clock::set_offset_ns(0);
    }
}

fn take(mirror: &Mirror, blocks: &TypedArray<Block>) -> Snapshot {
    let mut taking = Taking::default();
    while mirror.snapshot_some(&mut taking, blocks, 1).unwrap() {}
    taking.finish(MachineClock::new(None).reading())
}

/// The clocks in another boot, of which nobody knows when it began.
fn another_boot() -> Reading {
    Reading {
        boot: "another".to_owned(),
        trusted: false,
        ..MachineClock::new(None).reading()
    }
}

fn units(counts: &Counts) -> u32 {
    match counts {
        Counts::Window(ages) => ages.iter().map(|(_, units)| units).sum(),
        Counts::Pace(_) => panic!("a window"),
    }
}

#[test]
fn nothing_is_missing_while_programs_count() {
    in_lab(|lab| {
        let _right = RightClock;
        let span = 2 * HOUR;
        let limits = [limit(u32::MAX, span)];
        lab.apply(&Draft::new().tenant("a", NODE_NAME, &limits).0);
        let index = lab.index("a");
        let mut settings = Maps::open(&Pins::new(lab.pin_dir())).unwrap().settings;
        let (mirror, kernel) = lab.both();
        let (mirror, kernel) = (&*mirror, &*kernel);
        let (admitted, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(charge(kernel, index, 1));
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
            });
            // A new bucket for each round, and none falls out.
            for round in 1..=30 {
                let clock_offset_ns = round * window::width_of(span);
                clock::set_offset_ns(clock_offset_ns);
                let now = settings.get(0).unwrap();
                let ahead = Settings {
                    clock_offset_ns,
                    ..now
                };
                settings.set(0, ahead).unwrap();
                for _ in 0..50 {
                    let before = admitted.load(Ordering::SeqCst);
                    let taken = take(mirror, &kernel.maps.blocks);
                    // One may be counted and not yet be told of.
                    let after = admitted.load(Ordering::SeqCst) + 1;
                    let counted = taken.tenants.first().map_or(0, |kept| units(&kept.2[0]));
                    assert!(
                        (before..=after).contains(&counted),
                        "{counted}, not within {before} and {after}: {taken:?}"
                    );
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(admitted.into_inner() > 1_000);
        lab.assert_sound();
    });
}

#[test]
fn new_maps_go_on_with_what_was_kept() {
    in_netns(|| {
        let reseller = [limit(7, 24 * HOUR), limit(9, HOUR)];
        let image = Draft::new()
            .node(&[limit(8, 48 * HOUR)])
            .tenant("reseller", NODE_NAME, &reseller)
            .tenant("a", "reseller", &[limit(5, 24 * HOUR), pace(HOUR, 6)])
            .tenant("b", "reseller", &[])
            .0;
        let mut first = Lab::new();
        first.start();
        first.apply(&image);
        assert!(first.charge("a", 3) && first.charge("b", 1));
        let (mirror, kernel) = first.both();
        let kept = take(mirror, &kernel.maps.blocks);
        let names: Vec<&str> = kept.tenants.iter().map(|kept| kept.0.as_str()).collect();
        assert_eq!(names, [NODE_NAME, "reseller", "a"]);
        drop(first);

        let mut second = Lab::new();
        second.load(NEEDS).unwrap();
        let kept = decode(&encode(&kept).unwrap()).unwrap();
        let inheritance = Inheritance::new(kept, &another_boot(), clock::monotonic_ns());
        second.both().0.inherit(inheritance);
        second.apply(&image);
        assert_eq!(second.used(NODE_NAME), [4]);
        assert_eq!(second.used("reseller"), [4, 0]);
        assert_eq!(second.used("a"), [3, 3]);
        assert!(!second.charge("a", 3), "five in a day");
        assert!(second.charge("a", 2));
        assert!(!second.charge("b", 2), "seven of the reseller's");
        assert!(second.charge("b", 1));
        // A later change of the policy goes on from there, and nobody inherits twice.
        let longer = Draft::new()
            .node(&[limit(8, 72 * HOUR)])
            .tenant("reseller", NODE_NAME, &[limit(7, 30 * HOUR)])
            .tenant("c", "reseller", &[limit(5, 24 * HOUR)])
            .0;
        second.apply(&longer);
        assert_eq!(second.used(NODE_NAME), [7]);
        assert_eq!(second.used("reseller"), [7]);
        second.apply(&image);
        assert_eq!(second.used("a"), [0, 0]);
        second.assert_sound();
    });
}

#[test]
fn a_hundred_thousand_busy_tenants_are_kept() {
    const TENANTS: usize = 100_000;
    in_netns(|| {
        let span = 24 * HOUR;
        let mut draft = Draft::new();
        for at in 0..TENANTS {
            let name = format!("customer-{at}");
            draft = draft.tenant(&name, NODE_NAME, &[limit(300, span)]);
        }
        let image = draft.0;
        let needs = Needs {
            tenants: TENANTS + 2,
            slots: TENANTS,
        };
        let mut lab = Lab::new();
        lab.load(needs).unwrap();
        let started = Instant::now();
        lab.apply(&image);
        let plain = started.elapsed();
        // Everybody sent in every bucket.
        let head = Head {
            epoch: clock::monotonic_ns() / window::width_of(span),
            current: 9,
            total: 9 * 33,
        };
        let block = Block {
            heads: [head; BLOCK_SLOTS],
            rings: [[9; BUCKETS]; BLOCK_SLOTS],
        };
        let (mirror, kernel) = lab.both();
        for at in 0..kernel.maps.blocks.len() {
            kernel.maps.blocks.set(at, block).unwrap();
        }

        let started = Instant::now();
        let mut taking = Taking::default();
        let mut parts = Vec::new();
        let mut more = true;
        while more {
            let part = Instant::now();
            let blocks = &kernel.maps.blocks;
            more = mirror.snapshot_some(&mut taking, blocks, 1_000).unwrap();
            parts.push(part.elapsed());
        }
        let read = started.elapsed();
        let taken = taking.finish(MachineClock::new(None).reading());
        assert_eq!(taken.tenants.len(), TENANTS);
        assert_eq!(parts.len(), 100);
        parts.sort_unstable();
        // Of the hundred some may have waited for a processor.
        let long = parts[89];
        let directory = tempfile::tempdir().unwrap();
        let length = keep(directory.path(), &taken).unwrap();
        let kept = started.elapsed();
        drop(lab);

        let started = Instant::now();
        let found = load(directory.path()).unwrap().unwrap();
        let loaded = started.elapsed();
        let mut lab = Lab::new();
        lab.load(needs).unwrap();
        let started = Instant::now();
        let inheritance = Inheritance::new(found, &another_boot(), clock::monotonic_ns());
        lab.both().0.inherit(inheritance);
        lab.apply(&image);
        let restored = started.elapsed();
        eprintln!(
            "100,000 tenants, every bucket used: read in {read:?} (nine parts of ten within {long:?}), with writing {kept:?}, {length} \
             bytes; read again in {loaded:?}; a start with it {restored:?}, without {plain:?}"
        );
        for name in ["customer-0", "customer-99999"] {
            let used = lab.used(name)[0];
            assert!((288..=297).contains(&used), "{used}");
            assert!(!lab.charge(name, 13));
        }
        // A few hundred bytes each, and the agent is soon there for others again.
        assert!(length < TENANTS * 512, "{length}");
        assert!(read.as_secs() < 10, "{read:?}");
        // Whoever waits for the agent's state waits for one part of a hundred.
        assert!(long < read / 10, "{long:?} of {read:?}");
    });
}
