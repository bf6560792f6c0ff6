//! Policies that change while attempts are made: what was counted stays counted.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use limiter_common::verdict::Permission;
use limiter_user::{
    kernel::Kernel,
    policy::image::{ImageLimit, NODE_NAME},
};

use crate::{
    images::{Draft, HOUR, pace, window},
    lab::{NEEDS, charge, in_lab},
    senders::Senders,
};

/// What every policy here allows in at least half an hour.
const MAX: u32 = 400_000;

/// `busy` below one of three resellers (or none), and whether the node is limited.
fn draft(limits: &[ImageLimit], parent: &str, node: bool) -> Draft {
    let wide = [window(2 * MAX, HOUR)];
    let mut draft = Draft::new()
        .tenant("one", NODE_NAME, &wide)
        .tenant("two", "one", &wide)
        .tenant("three", NODE_NAME, &[])
        .tenant("busy", parent, limits);
    if node {
        draft = draft.node(&[window(3 * MAX, 24 * HOUR)]);
    }
    draft
}

#[test]
fn limits_change_under_load_and_nothing_is_forgotten() {
    in_lab(|lab| {
        // One connection window of at least half an hour is in all of them; the day's goes first,
        // so that the one that stays moves to other slots.
        let day = window(2 * MAX, 24 * HOUR);
        let quick = pace(1_000_000, 1_000_000);
        let shapes: [&[ImageLimit]; 6] = [
            &[window(MAX, HOUR)],
            &[window(MAX, 2 * HOUR)],
            &[window(MAX, HOUR / 2), quick],
            &[window(MAX, HOUR), day, quick],
            &[day, window(MAX, HOUR)],
            &[
                window(MAX, HOUR),
                day,
                window(2 * MAX, 12 * HOUR),
                quick,
                quick,
            ],
        ];
        let parents = [NODE_NAME, "one", "two", "three"];
        lab.apply(&draft(shapes[0], parents[0], false).0);
        let index = lab.index("busy");
        // The same maps through programs of its own: the agent's are busy with writing.
        let (other, _reports) = Kernel::load(lab.pin_dir(), NEEDS).unwrap();
        assert!(other.adopted);

        let admitted = AtomicU64::new(0);
        let refused = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let rounds = thread::scope(|scope| {
            for units in [1, 2] {
                let (other, admitted, refused, stop) = (&other, &admitted, &refused, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        if charge(other, index, units) {
                            admitted.fetch_add(u64::from(units), Ordering::SeqCst);
                        } else {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            let end = Instant::now() + Duration::from_secs(4);
            let mut round = 0;
            let done = StopAtEnd(&stop);
            while Instant::now() < end {
                let shape = shapes[round % shapes.len()];
                let parent = parents[(round / 2) % parents.len()];
                let known = admitted.load(Ordering::SeqCst);
                lab.apply(&draft(shape, parent, round % 5 > 2).0);
                // Whatever moved where: what had been admitted before still counts.
                let kept = lab.used("busy").into_iter().max().unwrap();
                assert!(
                    u64::from(kept) >= known.min(u64::from(MAX)),
                    "round {round}: {kept} counted, {known} admitted before"
                );
                round += 1;
            }
            drop(done);
            round
        });
        let admitted = admitted.into_inner();
        println!("{rounds} changes, {admitted} units admitted, {refused:?} attempts refused");
        assert!(rounds > 100, "too few changes to mean anything: {rounds}");
        assert!(admitted <= u64::from(MAX), "{admitted}");
        assert!(refused.into_inner() > 0, "the limit was never reached");
        assert_eq!(admitted, u64::from(MAX), "single units fill the limit");
        lab.assert_sound();
    });
}

/// Ends the load, also when a check failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn trees_that_are_joined_again_and_again_still_answer() {
    in_lab(|lab| {
        // Each step hangs the tree so far below a new top, then takes the leaf out again: its
        // lock gives way to another each time.
        let names: Vec<String> = (0..24).map(|n| format!("top{n}")).collect();
        let all = |top: &str| {
            let mut draft = Draft::new();
            for name in &names {
                draft = draft.tenant(name, NODE_NAME, &[window(1_000, HOUR)]);
            }
            draft.tenant("leaf", top, &[window(1_000, HOUR)])
        };
        lab.apply(&all(NODE_NAME).0);
        for (at, name) in names.iter().enumerate() {
            lab.apply(&all(name).0);
            assert!(lab.charge("leaf", 1));
            assert_eq!(lab.used("leaf"), [u32::try_from(at).unwrap() + 1]);
            assert_eq!(lab.used(name), [1]);
        }
        for node in [true, false, true] {
            let mut draft = all("top3");
            if node {
                draft = draft.node(&[window(1_000, HOUR)]);
            }
            lab.apply(&draft.0);
            assert!(lab.charge("leaf", 1) && lab.charge("top0", 1));
        }
        lab.assert_sound();
    });
}

#[test]
fn whose_a_cgroup_is_is_known_while_claims_move_between_depths() {
    in_lab(|lab| {
        let inner = lab.inner_cgroup();
        let blocked = || {
            Draft::new()
                .direct_smtp("(default)", Permission::Allow)
                .tenant("blocked", NODE_NAME, &[])
                .direct_smtp("blocked", Permission::Block)
        };
        let outside = blocked().cgroup(lab.cgroup(), 1, "blocked").0;
        let inside = blocked().cgroup(&inner, 2, "blocked").0;
        lab.apply(&outside);
        let mut senders = Senders::fork(&inner, &[2001, 2002], 0);
        senders.start();
        while senders.denied() < 1_000 {
            thread::yield_now();
        }
        for _ in 0..150 {
            lab.apply(&inside);
            lab.apply(&outside);
        }
        let (leaked, denied) = senders.stop();
        println!("300 changes of claims: {leaked} of {denied} attempts leaked");
        assert_eq!(leaked, 0);
        lab.assert_sound();
    });
}

#[test]
fn a_shorter_maximum_holds_at_once_and_a_longer_window_remembers() {
    in_lab(|lab| {
        lab.apply(&Draft::new().tenant("a", NODE_NAME, &[window(100, HOUR)]).0);
        assert!(lab.charge("a", 60));
        let changes = lab.apply(&Draft::new().tenant("a", NODE_NAME, &[window(50, HOUR)]).0);
        assert_eq!((changes.changed, changes.added, changes.removed), (1, 0, 0));
        assert!(!lab.charge("a", 1));
        assert_eq!(lab.used("a"), [60]);
        lab.apply(
            &Draft::new()
                .tenant("a", NODE_NAME, &[window(70, 24 * HOUR)])
                .0,
        );
        assert_eq!(lab.used("a"), [60]);
        assert!(lab.charge("a", 10) && !lab.charge("a", 1));
        lab.apply(&Draft::new().tenant("a", NODE_NAME, &[]).0);
        assert!(lab.charge("a", 1_000), "no limit, no bound");
        lab.assert_sound();
    });
}
