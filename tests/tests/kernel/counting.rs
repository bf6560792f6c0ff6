//! P1 and P5: never more than a limit allows, and every attempt counted once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use limiter_user::policy::image::NODE_NAME;

use crate::{
    images::{Draft, HOUR, SECOND, pace, window},
    lab::{charge, in_lab},
    senders::Senders,
};

#[test]
fn forty_thousand_attempts_on_all_cpus_and_exactly_a_thousand_go_out() {
    in_lab(|lab| {
        let uids = [2001, 2002, 2003, 2004];
        let mut draft = Draft::new().tenant("alice", NODE_NAME, &[window(1_000, HOUR)]);
        for uid in uids {
            draft = draft.uid(uid, "alice");
        }
        lab.apply(&draft.0);
        let mut senders = Senders::fork(lab.cgroup(), &uids, 10_000);
        senders.start();
        assert_eq!(senders.finish(), (1_000, 39_000));

        let counters = lab.counters("alice");
        assert_eq!((counters.allowed, counters.denied), (1_000, 39_000));
        assert_eq!((counters.redirected, counters.would_deny), (0, 0));
        assert_eq!(lab.used("alice"), [1_000]);
        assert_eq!(lab.counters("(default)").denied, 0);
        lab.assert_sound();
    });
}

#[test]
fn a_tenant_by_cgroup_whatever_the_uid() {
    in_lab(|lab| {
        let draft = Draft::new()
            .tenant("shop", NODE_NAME, &[window(10, HOUR)])
            .tenant("other", NODE_NAME, &[])
            .uid(2001, "other")
            .cgroup(lab.cgroup(), 1, "shop");
        lab.apply(&draft.0);
        let mut senders = Senders::fork(lab.cgroup(), &[2001, 2002], 50);
        senders.start();
        assert_eq!(senders.finish(), (10, 90));
        assert_eq!(lab.counters("other").allowed, 0);
        assert_eq!(lab.counters("shop").denied, 90);
        lab.assert_sound();
    });
}

#[test]
fn charges_and_connects_share_one_budget() {
    in_lab(|lab| {
        const MAX: u64 = 20_000;
        let uids = [2001, 2002];
        let draft = Draft::new()
            .tenant("alice", NODE_NAME, &[window(20_000, HOUR)])
            .uid(2001, "alice")
            .uid(2002, "alice");
        lab.apply(&draft.0);
        let mut senders = Senders::fork(lab.cgroup(), &uids, 15_000);
        let charged = AtomicU64::new(0);
        let refused = AtomicU64::new(0);
        let (kernel, index) = (lab.loaded(), lab.index("alice"));
        senders.start();
        while senders.allowed() < 500 {
            thread::yield_now();
        }
        thread::scope(|scope| {
            for units in [1, 2, 3] {
                let (charged, refused) = (&charged, &refused);
                scope.spawn(move || {
                    for _ in 0..4_000 {
                        if charge(kernel, index, units) {
                            charged.fetch_add(u64::from(units), Ordering::SeqCst);
                        } else {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        let (allowed, denied) = senders.finish();
        // Single units fill what the larger ones left over.
        assert_eq!(allowed + charged.load(Ordering::SeqCst), MAX);
        assert_eq!(allowed + denied, 30_000);
        assert_eq!(lab.used("alice"), [20_000]);
        let counters = lab.counters("alice");
        assert_eq!((counters.allowed, counters.denied), (allowed, denied));
        println!("{allowed} connects and {charged:?} charged, {refused:?} charges refused");
        lab.assert_sound();
    });
}

#[test]
fn a_pace_is_kept() {
    in_lab(|lab| {
        const EVERY: Duration = Duration::from_millis(100);
        let draft = Draft::new().tenant("alice", NODE_NAME, &[pace(SECOND / 10, 3)]);
        lab.apply(&draft.0);
        let burst: Vec<bool> = (0..5).map(|_| lab.charge("alice", 1)).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        // The kernel's clock may be a tick behind ours.
        thread::sleep(EVERY + Duration::from_millis(8));
        assert!(lab.charge("alice", 1));
        assert!(!lab.charge("alice", 1));
        thread::sleep(EVERY * 2 + Duration::from_millis(8));
        assert!(!lab.charge("alice", 4), "more than a burst never goes");
        assert!(!lab.charge("alice", 3), "two intervals, two units");
        assert!(lab.charge("alice", 2));
        lab.assert_sound();
    });
}

#[test]
fn of_several_limits_each_holds_and_a_refusal_counts_in_none() {
    in_lab(|lab| {
        let limits = [window(10, SECOND), window(15, HOUR), pace(1_000_000, 1_000)];
        let draft = Draft::new().tenant("alice", NODE_NAME, &limits);
        lab.apply(&draft.0);
        assert!(lab.charge("alice", 7));
        assert!(!lab.charge("alice", 4), "eleven in a second");
        assert!(lab.charge("alice", 3));
        assert_eq!(lab.used("alice")[..2], [10, 10]);
        let before = (lab.slot("alice", 1), lab.slot("alice", 2).epoch);
        for _ in 0..100 {
            assert!(!lab.charge("alice", 1));
        }
        let after = (lab.slot("alice", 1), lab.slot("alice", 2).epoch);
        assert_eq!(before.0.total, after.0.total);
        assert_eq!(before.1, after.1, "the pace was not charged either");
        thread::sleep(Duration::from_millis(1_000 + 32 + 8));
        assert!(!lab.charge("alice", 6), "sixteen in an hour");
        assert_eq!(lab.used("alice")[..2], [0, 10]);
        assert!(lab.charge("alice", 5));
        assert!(!lab.charge("alice", 1));
        assert_eq!(lab.used("alice")[..2], [5, 15]);
        lab.assert_sound();
    });
}

#[test]
fn nobody_is_charged_for_nothing() {
    in_lab(|lab| {
        let draft = Draft::new().tenant("alice", NODE_NAME, &[window(1, HOUR)]);
        lab.apply(&draft.0);
        let index = lab.index("alice");
        lab.apply(&Draft::new().0);
        for missing in [index, 77, u32::MAX] {
            let charged = lab.loaded().charge(
                missing,
                limiter_common::limit::Unit::Connections,
                limiter_common::verdict::PortGroup::Smtp,
                1,
            );
            assert!(charged.is_err(), "tenant {missing} does not exist");
        }
        lab.assert_sound();
    });
}
