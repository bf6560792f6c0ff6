//! The window in the kernel against a model that keeps the time of every unit, and against the
//! same arithmetic on this side.

use std::{
    thread,
    time::{Duration, Instant},
};

use limiter_common::window::{Slot, width_of};
use limiter_user::{kernel::clock::monotonic_ns, policy::image::NODE_NAME};

use crate::{
    images::{Draft, SECOND, window},
    lab::in_lab,
};

/// The clock that moves with the timer's tick: what the programs read where they can. A busy
/// machine's ticks come late, so how far it is behind is read, not assumed.
fn coarse_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    assert_eq!(result, 0);
    u64::try_from(now.tv_sec).unwrap() * SECOND + u64::try_from(now.tv_nsec).unwrap()
}

/// An admission: it happened between the two, ns.
struct Admitted {
    earliest_ns: u64,
    latest_ns: u64,
    units: u32,
}

/// One tenant with one window.
struct Watched {
    name: &'static str,
    window_ns: u64,
    max: u32,
    admitted: Vec<Admitted>,
    slot: Slot,
    refused: usize,
}

impl Watched {
    fn new(name: &'static str, window_ns: u64, max: u32) -> Self {
        Self {
            name,
            window_ns,
            max,
            admitted: Vec::new(),
            slot: Slot::EMPTY,
            refused: 0,
        }
    }

    /// The units of those admissions.
    fn sum(&self, within: impl Fn(&Admitted) -> bool) -> u64 {
        let units = self.admitted.iter().filter(|one| within(one));
        units.map(|one| u64::from(one.units)).sum()
    }

    fn check(
        &mut self,
        admitted: bool,
        units: u32,
        earliest_ns: u64,
        latest_ns: u64,
        kernel: Slot,
    ) {
        let width = width_of(self.window_ns);
        // The same arithmetic: the kernel's epoch says at which time it decided.
        self.slot.advance(kernel.epoch * width, width);
        assert_eq!(self.slot.admits(units, self.max), admitted, "{}", self.name);
        if admitted {
            self.slot.count(units);
        }
        assert_eq!(self.slot, kernel, "{}", self.name);
        assert!((earliest_ns..=latest_ns + width).contains(&((kernel.epoch + 1) * width)));

        if admitted {
            self.admitted.push(Admitted {
                earliest_ns,
                latest_ns,
                units,
            });
            // Every window that could have become too full ends here.
            let certain = self.sum(|one| latest_ns - one.earliest_ns < self.window_ns);
            assert!(certain <= u64::from(self.max), "{}: {certain}", self.name);
        } else {
            self.refused += 1;
            let late_ns = width * 33;
            let perhaps = self.sum(|one| earliest_ns.saturating_sub(one.latest_ns) <= late_ns);
            assert!(
                perhaps + u64::from(units) > u64::from(self.max),
                "{}: refused with {perhaps} of {} in the window",
                self.name,
                self.max
            );
        }
    }
}

/// Numbers that are the same in every run.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).unwrap()
    }
}

#[test]
fn every_decision_is_the_models() {
    in_lab(|lab| {
        let mut all = [
            Watched::new("one second", SECOND, 100),
            Watched::new("one and a half", SECOND + SECOND / 2 + 7, 40),
            Watched::new("three", 3 * SECOND, 1_000),
        ];
        let mut draft = Draft::new();
        for one in &all {
            draft = draft.tenant(one.name, NODE_NAME, &[window(one.max, one.window_ns)]);
        }
        lab.apply(&draft.0);
        let mut sequence = Sequence(0x9e37_79b9_7f4a_7c15);
        let end = Instant::now() + Duration::from_secs(6);
        let mut decisions = 0;
        while Instant::now() < end {
            let one = &mut all[usize::try_from(sequence.below(3)).unwrap()];
            let units = 1 + sequence.below(one.max / 12);
            let earliest_ns = coarse_ns();
            let admitted = lab.charge(one.name, units);
            let latest_ns = monotonic_ns();
            one.check(
                admitted,
                units,
                earliest_ns,
                latest_ns,
                lab.slot(one.name, 0),
            );
            decisions += 1;
            // Bursts, short gaps, and now and then one longer than the shortest window.
            let pause = match sequence.below(40) {
                0 => 300 + sequence.below(900),
                1..10 => sequence.below(30),
                _ => 0,
            };
            thread::sleep(Duration::from_millis(u64::from(pause)));
        }
        for one in &all {
            println!(
                "{}: {} admitted, {} refused of {decisions} decisions",
                one.name,
                one.admitted.len(),
                one.refused
            );
            assert!(one.admitted.len() > 10 && one.refused > 10, "{}", one.name);
        }
        lab.assert_sound();
    });
}
