//! Mail of the node's own mail server, counted by the kernel's own decision: one budget with what
//! the layers count, exact from many threads, and given back by a receipt.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use limiter_common::{
    limit::{Kind, Unit},
    sanction::Sanction,
    verdict::Reason,
};
use limiter_user::{
    kernel::charge::{Charged, Charger, From, Load, Receipt, Refusal},
    policy::image::{ImageLimit, NODE_NAME},
};

use crate::{
    images::{Draft, HOUR, SECOND, pace, window},
    lab::{Lab, in_lab},
};

fn messages(max: u32) -> ImageLimit {
    ImageLimit {
        unit: Unit::Messages,
        ..window(max, HOUR)
    }
}

fn recipients(max: u32) -> ImageLimit {
    ImageLimit {
        unit: Unit::Recipients,
        ..window(max, HOUR)
    }
}

/// A domain of 300 recipients an hour, its account of 20 messages and 400 recipients, a neighbour.
fn draft() -> Draft {
    Draft::new()
        .tenant("account", NODE_NAME, &[messages(20), recipients(400)])
        .tenant("domain", "account", &[recipients(300)])
        .tenant("neighbour", NODE_NAME, &[recipients(5)])
}

fn mail(messages: u32, recipients: u32) -> Load {
    Load {
        messages,
        recipients,
    }
}

fn counted(charger: &Charger, index: u32, load: Load) -> Receipt {
    match charger.count(index, load, From::default()).unwrap() {
        Charged::Counted(receipt, None) => receipt,
        other => panic!("{other:?}"),
    }
}

fn refused(charger: &Charger, index: u32, load: Load) -> Refusal {
    match charger.count(index, load, From::default()).unwrap() {
        Charged::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_levels_or_none_and_back_by_a_receipt() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let charger = lab.loaded().charger().unwrap();
        let (domain, account) = (lab.index("domain"), lab.index("account"));
        let used = |lab: &Lab| (lab.used("domain"), lab.used("account"));

        let receipt = counted(&charger, domain, mail(1, 300));
        assert_eq!(used(lab), (vec![300], vec![1, 300]));
        let refusal = refused(&charger, domain, mail(0, 1));
        let full = refusal.full.unwrap();
        assert_eq!(refusal.reason, Reason::Limit);
        assert_eq!(
            (full.owner, full.unit, full.kind, full.max),
            (domain, Unit::Recipients, Kind::Window, 300)
        );
        // The message would fit and its recipients do not: neither is counted.
        refused(&charger, domain, mail(1, 1));
        assert_eq!(used(lab), (vec![300], vec![1, 300]));
        // The account itself has room for others of its domains.
        counted(&charger, account, mail(1, 100));
        let refusal = refused(&charger, account, mail(0, 1));
        assert_eq!(refusal.full.unwrap().max, 400);

        assert!(charger.give_back(receipt).unwrap());
        assert_eq!(used(lab), (vec![0], vec![1, 100]));
        // Twice takes from nobody more than is there, and from no other bucket.
        assert!(charger.give_back(receipt).unwrap());
        assert_eq!(lab.used("domain"), [0]);
        let asked = charger.would(domain, mail(1, 300)).unwrap();
        assert_eq!(asked, None);
        assert_eq!(lab.used("domain"), [0], "a question counts nothing");
        lab.assert_sound();
    });
}

#[test]
fn a_hundred_at_once_get_three_hundred_and_no_more() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let charger = lab.loaded().charger().unwrap();
        let domain = lab.index("domain");
        let (got, back) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..100 {
                let (charger, got, back) = (&charger, &got, &back);
                scope.spawn(move || {
                    for turn in 0..50 {
                        let asked = charger.count(domain, mail(0, 1), From::default());
                        let Charged::Counted(receipt, None) = asked.unwrap() else {
                            continue;
                        };
                        // Some of it a filter refuses.
                        if (number + turn) % 7 == 0 {
                            assert!(charger.give_back(receipt).unwrap());
                            back.fetch_add(1, Ordering::Relaxed);
                        } else {
                            got.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(back.load(Ordering::Relaxed) > 0);
        assert_eq!(got.load(Ordering::Relaxed), 300);
        assert_eq!(
            (lab.used("domain"), lab.used("account")[1]),
            (vec![300], 300)
        );
        lab.assert_sound();
    });
}

#[test]
fn a_receipt_of_another_policy_gives_nothing_back() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let charger = lab.loaded().charger().unwrap();
        let domain = lab.index("domain");
        let receipt = counted(&charger, domain, mail(1, 7));
        let other = Draft::new()
            .tenant("account", NODE_NAME, &[messages(20), recipients(500)])
            .tenant("domain", "account", &[recipients(300)])
            .tenant("neighbour", NODE_NAME, &[recipients(5)]);
        lab.apply(&other.0);
        assert!(!charger.give_back(receipt).unwrap());
        assert_eq!(
            (lab.used("domain"), lab.used("account")),
            (vec![7], vec![1, 7])
        );
    });
}

#[test]
fn a_pace_holds_and_is_told_from_a_limit() {
    in_lab(|lab| {
        let slow = ImageLimit {
            unit: Unit::Recipients,
            ..pace(15 * SECOND, 1)
        };
        lab.apply(&Draft::new().tenant("slow", NODE_NAME, &[slow]).0);
        let charger = lab.loaded().charger().unwrap();
        let index = lab.index("slow");
        counted(&charger, index, mail(1, 1));
        let refusal = refused(&charger, index, mail(1, 1));
        assert_eq!(refusal.reason, Reason::Pace);
        assert_eq!(refusal.full.unwrap().span_ns, 15 * SECOND);
    });
}

#[test]
fn who_is_sanctioned_or_observed() {
    in_lab(|lab| {
        let mut draft = draft();
        let place = draft.0.tenants.len();
        draft = draft.tenant("watched", NODE_NAME, &[recipients(5)]);
        draft.0.tenants[place].enforce = false;
        lab.apply(&draft.0);
        let charger = lab.loaded().charger().unwrap();
        let (domain, watched) = (lab.index("domain"), lab.index("watched"));

        let load = mail(1, 6);
        let asked = charger.count(watched, load, From::default()).unwrap();
        let Charged::Counted(_, Some(would)) = asked else {
            panic!("{asked:?}");
        };
        assert_eq!(would.reason, Reason::Limit);
        assert_eq!(
            lab.used("watched"),
            [0],
            "only what enforcement would admit"
        );
        assert_eq!(lab.counters("watched").would_deny, 1);

        let (mirror, kernel) = lab.both();
        mirror
            .sanction("account", Sanction::BlockSmtp, None, kernel)
            .unwrap();
        let refusal = refused(&charger, domain, mail(1, 1));
        assert_eq!((refusal.reason, refusal.full), (Reason::Suspended, None));
        assert_eq!(lab.used("domain"), [0]);
        assert_eq!(lab.counters("domain").denied, 1);
        counted(&charger, lab.index("neighbour"), mail(1, 1));

        assert!(
            charger
                .refused(domain, Reason::SenderMismatch, From::default())
                .unwrap()
        );
        assert!(
            !charger
                .refused(watched, Reason::SenderMismatch, From::default())
                .unwrap()
        );
        assert_eq!(lab.counters("domain").denied, 2);
        charger.went(domain, 3).unwrap();
        let counters = lab.counters("domain");
        assert_eq!((counters.allowed, counters.sent), (1, 3));
        assert!(
            charger.count(9_999, load, From::default()).is_err(),
            "nobody"
        );
    });
}

#[test]
fn it_takes_no_time() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let charger = lab.loaded().charger().unwrap();
        let domain = lab.index("domain");
        let mut times: Vec<Duration> = (0..2_000)
            .map(|_| {
                let start = Instant::now();
                let receipt = counted(&charger, domain, mail(1, 1));
                assert!(charger.give_back(receipt).unwrap());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        eprintln!("counted and given back: median {:?}", times[1_000]);
        assert!(
            times[1_000] < Duration::from_micros(200),
            "{:?}",
            times[1_000]
        );
    });
}
