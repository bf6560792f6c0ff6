//! The agent goes and comes back: what is pinned goes on counting, and the gate is never open.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use limiter_common::{abi, verdict::Permission};
use limiter_user::{
    kernel::{Changes, Kernel, Wanted},
    policy::{image::NODE_NAME, model::Exempt},
};

use crate::{
    images::{Draft, HOUR, SECOND, pace, window},
    lab::{NEEDS, in_lab},
    senders::Senders,
};

#[test]
fn a_new_agent_finds_everything_as_it_was() {
    in_lab(|lab| {
        let exempt = Exempt {
            to: "198.51.100.25/32".parse().unwrap(),
            ports: vec![25],
        };
        let draft = Draft::new()
            .node(&[window(9_000, 24 * HOUR)])
            .tenant(
                "reseller",
                NODE_NAME,
                &[window(500, HOUR), pace(SECOND, 600)],
            )
            .tenant("alice", "reseller", &[window(300, HOUR)])
            .exempt("alice", exempt)
            .uid(2001, "alice")
            .uid(300_000, "reseller")
            .cgroup(lab.cgroup(), 1, "alice");
        lab.apply(&draft.0);
        assert_eq!(lab.apply(&draft.0), Changes::default());
        let mut senders = Senders::fork(lab.cgroup(), &[2001], 40);
        senders.start();
        assert_eq!(senders.finish(), (40, 0));

        for round in 1..4 {
            lab.stop();
            // Nobody there: the pins enforce and count.
            let mut senders = Senders::fork(lab.cgroup(), &[2001], 10);
            senders.start();
            assert_eq!(senders.finish(), (10, 0));
            lab.start();
            assert!(lab.kernel().adopted);
            assert_eq!(lab.apply(&draft.0), Changes::default(), "round {round}");
            let used = 40 + 10 * round;
            assert_eq!(lab.used("alice"), [used]);
            assert_eq!(lab.used("reseller")[0], used);
            assert_eq!(lab.used(NODE_NAME), [used]);
            assert_eq!(lab.counters("alice").allowed, u64::from(used));
        }
        // One tenant less: its index, slots and names are free again, also for a new agent.
        let mut smaller = Draft::new().tenant("reseller", NODE_NAME, &[window(500, HOUR)]);
        let changes = lab.apply(&smaller.0);
        assert_eq!(changes.removed, 1);
        lab.stop();
        lab.start();
        assert_eq!(lab.apply(&smaller.0), Changes::default());
        smaller = smaller.tenant("carol", NODE_NAME, &[window(5, HOUR)]);
        assert_eq!(lab.apply(&smaller.0).added, 1);
        assert_eq!(lab.used("carol"), [0], "nothing is inherited");
        assert_eq!(lab.counters("carol").allowed, 0);
        lab.assert_sound();
    });
}

#[test]
fn programs_are_replaced_fifty_times_under_load_and_nothing_leaks() {
    in_lab(|lab| {
        let draft = Draft::new()
            .tenant("blocked", NODE_NAME, &[])
            .direct_smtp("blocked", Permission::Block)
            .uid(2001, "blocked")
            .uid(2002, "blocked");
        lab.apply(&draft.0);
        let cgroup = lab.cgroup().to_owned();
        // Loaded once, while it is quiet; they take turns behind the link.
        let (mut other, _reports) = Kernel::load(lab.pin_dir(), NEEDS).unwrap();
        let mut senders = Senders::fork(&cgroup, &[2001, 2002], 0);
        senders.start();
        let start = Instant::now();
        for _ in 0..25 {
            for kernel in [&mut other, lab.kernel()] {
                kernel.attach(&cgroup).unwrap();
                // On few CPUs the senders need a moment to be there at all.
                thread::sleep(Duration::from_millis(10));
            }
        }
        let took = start.elapsed();
        // And a whole restart.
        drop(other);
        lab.stop();
        lab.start();
        assert_eq!(lab.apply(&draft.0), Changes::default());
        let (leaked, denied) = senders.stop();
        println!("50 replacements in {took:?}: {leaked} of {denied} attempts leaked");
        assert_eq!(leaked, 0);
        assert!(
            denied > 10_000,
            "too few attempts to mean anything: {denied}"
        );
        assert_eq!(lab.counters("blocked").denied, denied);
        lab.assert_sound();
    });
}

#[test]
fn another_versions_pins_enforce_until_this_version_does() {
    in_lab(|lab| {
        let draft = Draft::new()
            .tenant("blocked", NODE_NAME, &[window(5, HOUR)])
            .direct_smtp("blocked", Permission::Block)
            .uid(2001, "blocked");
        lab.apply(&draft.0);
        lab.stop();
        // What an agent with another layout would have left.
        let old = lab.pin_dir().join("v0");
        let now = lab.pin_dir().join(format!("v{}", abi::VERSION));
        fs::rename(&now, &old).unwrap();
        let cgroup = lab.cgroup().to_owned();
        let mut senders = Senders::fork(&cgroup, &[2001], 0);
        senders.start();

        lab.load(NEEDS).unwrap();
        assert!(
            !lab.kernel().adopted,
            "another layout is not taken for ours"
        );
        assert_eq!(lab.apply(&draft.0).added, draft.0.tenants.len());
        assert!(old.join("links").exists(), "it goes only after ours holds");
        lab.kernel().attach(&cgroup).unwrap();
        lab.kernel().reconcile(&Wanted::default());
        assert!(!old.exists(), "it is gone");
        let counted = lab.counters("blocked").denied;
        thread::sleep(Duration::from_millis(100));
        let (leaked, denied) = senders.stop();
        assert_eq!(leaked, 0);
        let ours = lab.counters("blocked").denied;
        assert!(
            ours > counted && denied > ours,
            "first theirs refused, then ours"
        );
        lab.assert_sound();
    });
}
