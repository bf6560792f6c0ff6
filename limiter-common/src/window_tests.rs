use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The slow, obviously right model: it keeps the time of every unit.
#[derive(Default)]
struct Model {
    admitted: Vec<(u64, u32)>,
}

impl Model {
    fn in_window(&self, end: u64, window: u64) -> u64 {
        self.admitted
            .iter()
            .filter(|(at, _)| *at <= end && end - *at < window)
            .map(|(_, units)| u64::from(*units))
            .sum()
    }
}

fn attempt(slot: &mut Slot, now: u64, width: u64, units: u32, max: u32) -> bool {
    slot.advance(now, width);
    let admitted = slot.admits(units, max);
    if admitted {
        slot.count(units);
    }
    admitted
}

/// Attempts as (gap since the last, units), gaps of every scale around the bucket width.
fn attempts(width: u64) -> impl Strategy<Value = Vec<(u64, u32)>> {
    let gap = prop_oneof![
        4 => 0..=width,
        2 => 0..=width * 4,
        1 => width * 20..=width * 40,
        1 => Just(width * 32),
        1 => Just(width * 33),
        1 => 0..=width * 200,
    ];
    prop::collection::vec((gap, 1_u32..5), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// P1: never more than `max` in any window, and capacity back at most a 32nd late.
    #[test]
    fn exact_and_at_most_a_32nd_late(
        (window, attempts) in (32_u64..5_000).prop_flat_map(|window| (Just(window), attempts(width_of(window)))),
        max in 1_u32..40,
        start in 0_u64..1_000_000,
    ) {
        let width = width_of(window);
        let mut slot = Slot::default();
        let mut model = Model::default();
        let mut now = start;
        for (gap, units) in attempts {
            now += gap;
            let admitted = attempt(&mut slot, now, width, units, max);
            if admitted {
                model.admitted.push((now, units));
                // Every window that could have become too full ends here.
                prop_assert!(model.in_window(now, window) <= u64::from(max));
            } else {
                // Refused only if the units admitted within 33 widths leave no room.
                let late = model.in_window(now, width * 33 + 1);
                prop_assert!(late + u64::from(units) > u64::from(max), "refused without need");
            }
            prop_assert_eq!(u64::from(slot.total),
                u64::from(slot.current) + slot.ring.iter().map(|n| u64::from(*n)).sum::<u64>());
        }
    }

    /// A clock that goes back by less than a bucket on another CPU never admits too much.
    #[test]
    fn a_clock_behind_frees_nothing(
        steps in prop::collection::vec((0_u64..30, 0_u64..8), 1..300), max in 1_u32..20,
    ) {
        let window = 320;
        let width = width_of(window);
        let mut slot = Slot::default();
        let mut model = Model::default();
        let mut now = 10_000;
        for (gap, behind) in steps {
            now += gap;
            if attempt(&mut slot, now - behind, width, 1, max) {
                model.admitted.push((now, 1));
            }
            // In true time a unit stamped behind is younger than it says; the window measured in
            // the kernel's clock still holds, to the tick by which the clocks differ.
            prop_assert!(model.in_window(now, window - 8) <= u64::from(max));
        }
    }

    /// Changing the length never frees units early: after the change the state counts at least
    /// what the model says was admitted within the new window, as far as the old one remembers.
    #[test]
    fn reshaping_never_frees_early(
        old in 32_u64..5_000, new in 32_u64..5_000, later in 0_u64..10_000,
        gaps in prop::collection::vec(0_u64..600, 1..200), max in 1_u32..60,
    ) {
        let (old_width, new_width) = (width_of(old), width_of(new));
        let mut slot = Slot::default();
        let mut model = Model::default();
        let mut now = 50_000;
        for gap in gaps {
            now += gap;
            if attempt(&mut slot, now, old_width, 1, max) {
                model.admitted.push((now, 1));
            }
        }
        now += later % 1_000;
        let before = slot.used(now, old_width);
        slot.reshape(now, old_width, new_width);
        prop_assert!(slot.total <= before, "a change must not invent units");
        prop_assert_eq!(slot.total, slot.current + slot.ring.iter().sum::<u32>());
        let end = now + later;
        let still = slot.used(end, new_width);
        // What was within both windows at the change, and is within the new one at `end`.
        let due: u64 = model.admitted.iter()
            .filter(|(at, _)| now - at < old && end - at < new)
            .map(|(_, units)| u64::from(*units)).sum();
        prop_assert!(u64::from(still) >= due, "{still} counted, {due} due");
    }

    /// Carried to the clock of another boot, which may be younger than the units are, nothing is
    /// freed before its time, whatever of the time between is known; and it is freed at most two
    /// widths late, and as much as is not known.
    #[test]
    fn a_reboot_frees_nothing_early(
        window in 32_u64..5_000, gaps in prop::collection::vec(0_u64..600, 1..200),
        max in 1_u32..60, later in 0_u64..8_000, down in 0_u64..9_000, unknown in 0_u64..3_000,
        boot in 0_u64..9_000, more in prop::collection::vec(0_u64..600, 0..60),
    ) {
        let width = width_of(window);
        let mut slot = Slot::default();
        let mut model = Model::default();
        let mut now = 50_000;
        for gap in gaps {
            now += gap;
            if attempt(&mut slot, now, width, 1, max) {
                model.admitted.push((now, 1));
            }
        }
        now += later % 1_000;
        let known = down.saturating_sub(unknown);
        let ages = slot.ages(now, width).map(|(age, units)| (age + known, units));
        // The old clock goes on in the model; the new one shows `boot` then.
        let (then, mut slot) = (now + down, Slot::from_ages(&ages, boot, width));
        prop_assert_eq!(slot.total, slot.current + slot.ring.iter().sum::<u32>());
        let mut passed = 0;
        for gap in more {
            passed += gap;
            if attempt(&mut slot, boot + passed, width, 1, max) {
                model.admitted.push((then + passed, 1));
                prop_assert!(model.in_window(then + passed, window) <= u64::from(max));
            } else {
                let late = model.in_window(then + passed, width * 34 + 1 + (down - known));
                prop_assert!(late + 1 > u64::from(max), "refused without need");
            }
        }
        // Nor does another length of the window in the new boot.
        let now = boot + passed;
        slot.reshape(now, width, width * 2);
        let end = now + later;
        let due: u64 = model.admitted.iter()
            .filter(|(at, _)| then + passed - at < window && then + passed + later - at < window * 2)
            .map(|(_, units)| u64::from(*units)).sum();
        prop_assert!(u64::from(slot.used(end, width * 2)) >= due);
    }

    /// The forecast is right: refused just before, admitted at it.
    #[test]
    fn the_forecast_is_right(
        gaps in prop::collection::vec(0_u64..40, 1..200), units in 1_u32..4, max in 4_u32..20,
    ) {
        let width = 10;
        let mut slot = Slot::default();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            attempt(&mut slot, now, width, 1, max);
        }
        let at = slot.admits_at(now, width, units, max).unwrap();
        let mut then = slot;
        then.advance(at, width);
        prop_assert!(then.admits(units, max));
        if at > now {
            let mut before = slot;
            before.advance(at - 1, width);
            prop_assert!(!before.admits(units, max));
        }
    }
}

#[test]
fn three_hundred_an_hour() {
    // R2: at most 300 an hour.
    const HOUR: u64 = 3_600_000_000_000;
    let width = width_of(HOUR);
    let mut slot = Slot::default();
    let start = 123_456_789;
    for _ in 0..300 {
        assert!(attempt(&mut slot, start, width, 1, 300));
    }
    assert!(!attempt(&mut slot, start, width, 1, 300));
    assert!(!attempt(&mut slot, start + HOUR, width, 1, 300));
    assert!(attempt(&mut slot, start + HOUR + width, width, 1, 300));
}

#[test]
fn the_longest_window_does_not_overflow() {
    let width = width_of(MAX_WINDOW_NS);
    let mut slot = Slot::default();
    assert!(attempt(
        &mut slot,
        u64::MAX / 2,
        width,
        u32::MAX - 1,
        u32::MAX
    ));
    assert!(attempt(&mut slot, u64::MAX / 2, width, 1, u32::MAX));
    assert!(!attempt(&mut slot, u64::MAX / 2, width, 1, u32::MAX));
    assert!(!slot.admits(u32::MAX, u32::MAX));
}

#[test]
fn nothing_fits_where_nothing_is_allowed() {
    let slot = Slot::default();
    assert!(!slot.admits(1, 0));
    assert_eq!(slot.admits_at(5, 10, 1, 0), None);
}

#[test]
fn windows_are_known_by_their_buckets() {
    for seconds in [1, 7, 60, 3_600, 86_400, 31 * 86_400] {
        let window = seconds * 1_000_000_000;
        assert_eq!(window_of(width_of(window)), window);
    }
    assert_eq!(window_of(width_of(1_500_000_000)), 1_500_000_000);
}

proptest! {
    /// What was counted and given back might never have been there.
    #[test]
    fn given_back_is_never_counted(
        steps in proptest::collection::vec((0_u64..40, 1_u32..5, any::<bool>()), 1..60),
        late in 0_u64..10,
    ) {
        let (width, max) = (1_000, 50);
        let (mut with, mut without) = (Slot::default(), Slot::default());
        let mut now = 1_000_000;
        let mut owed = Vec::new();
        for (wait, units, stays) in steps {
            now += wait * 100;
            // Only what both admit: the one that is fuller for a while refuses more.
            if stays {
                if attempt(&mut with, now, width, units, max) {
                    prop_assert!(attempt(&mut without, now, width, units, max));
                }
            } else if attempt(&mut with, now, width, units, max) {
                owed.push((now, units));
            }
        }
        now += late * 1_000;
        with.advance(now, width);
        for (at, units) in owed {
            with.give_back(at, width, units);
        }
        without.advance(now, width);
        prop_assert_eq!(with, without);
    }
}

#[test]
fn nothing_is_given_back_twice_or_of_another_time() {
    let mut slot = Slot::default();
    assert!(attempt(&mut slot, 5_000, 1_000, 3, 10));
    assert!(attempt(&mut slot, 7_000, 1_000, 4, 10));
    slot.give_back(6_000, 1_000, 2);
    assert_eq!(slot.total, 7, "nothing was counted then");
    slot.give_back(5_999, 1_000, 9);
    slot.give_back(5_000, 1_000, 9);
    assert_eq!(slot.total, 4);
    slot.give_back(8_000, 1_000, 9);
    slot.give_back(100_000, 1_000, 9);
    assert_eq!(slot.total, 4, "from what is to come nothing");
    slot.advance(50_000, 1_000);
    slot.give_back(7_000, 1_000, 4);
    let mut empty = Slot::EMPTY;
    empty.epoch = 50;
    assert_eq!(slot, empty);
}
