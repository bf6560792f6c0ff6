//! Pacing: one unit per `every_ns` on average, at most `burst` at once.
//!
//! The generic cell rate algorithm: the state is the theoretical arrival time (TAT), the moment
//! at which the next unit would be due if all came evenly. A unit is admitted if it is not more
//! than `burst − 1` intervals early.
//!
//! What comes as one (a message to many recipients) and is more than a burst would never fit, and its
//! sender try for ever. It goes when a whole burst may, and takes all its turns: whoever comes next
//! waits for them, so that the average holds.

/// The shortest interval, in nanoseconds: a millisecond.
pub const MIN_EVERY_NS: u64 = 1_000_000;
/// The longest interval, in nanoseconds: 31 days.
pub const MAX_EVERY_NS: u64 = 31 * 24 * 3600 * 1_000_000_000;
/// The largest burst.
pub const MAX_BURST: u32 = 1_000_000;

/// How many turns are taken at most by what is more than a burst; times the longest interval they fit
/// into 64 bits.
pub const MOST_TURNS: u32 = 4_096;

/// The longest stretch that a burst can stand for (`every` times `burst`), ns: a hundred years.
/// It keeps every product here far below `u64::MAX`.
pub const MAX_SPREAD_NS: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// Whether a pace is within its bounds. To be asked once, when a policy is checked: the rest of
/// this module relies on it.
#[must_use]
pub const fn is_sound(every_ns: u64, burst: u32) -> bool {
    let spread_ok = match every_ns.checked_mul(burst as u64) {
        Some(spread) => spread <= MAX_SPREAD_NS,
        None => false,
    };
    every_ns >= MIN_EVERY_NS
        && every_ns <= MAX_EVERY_NS
        && burst >= 1
        && burst <= MAX_BURST
        && spread_ok
}

/// How early, in nanoseconds, a unit may come. Cannot overflow, see [`is_sound`].
#[must_use]
#[inline(always)]
const fn slack(every_ns: u64, units_at_once: u64) -> u64 {
    every_ns.wrapping_mul(units_at_once)
}

/// As many of `units` as there is room for.
#[must_use]
#[inline(always)]
const fn at_once(units: u32, room: u32) -> u32 {
    if units > room { room } else { units }
}

/// Whether `units` may go at `now_ns` when the TAT is `tat_ns`.
#[must_use]
#[inline(always)]
pub const fn admits(tat_ns: u64, now_ns: u64, every_ns: u64, burst: u32, units: u32) -> bool {
    if units == 0 {
        return true;
    }
    // The last of the units is due `units − 1` intervals after the first.
    let early = tat_ns.saturating_sub(now_ns);
    early <= slack(every_ns, (burst - at_once(units, burst)) as u64)
}

/// The TAT after `units` went at `now_ns`, for units that [`admits`] let go.
#[must_use]
#[inline(always)]
pub const fn count(tat_ns: u64, now_ns: u64, every_ns: u64, burst: u32, units: u32) -> u64 {
    let from = if tat_ns > now_ns { tat_ns } else { now_ns };
    let most = if burst > MOST_TURNS {
        burst
    } else {
        MOST_TURNS
    };
    let turns = at_once(units, most);
    from.saturating_add(slack(every_ns, turns as u64))
}

/// The first moment at which `units` may go.
#[must_use]
pub const fn admits_at(tat_ns: u64, now_ns: u64, every_ns: u64, burst: u32, units: u32) -> u64 {
    if admits(tat_ns, now_ns, every_ns, burst, units) {
        return now_ns;
    }
    tat_ns.saturating_sub(slack(every_ns, (burst - at_once(units, burst)) as u64))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn one_every_fifteen_seconds() {
        // R3: no more than one e-mail every 15 seconds.
        let every = 15 * SECOND;
        let start = 1_000 * SECOND;
        assert!(admits(0, start, every, 1, 1));
        let tat = count(0, start, every, 1, 1);
        assert!(!admits(tat, start, every, 1, 1));
        assert!(!admits(tat, start + every - 1, every, 1, 1));
        assert!(admits(tat, start + every, every, 1, 1));
        assert_eq!(admits_at(tat, start + 1, every, 1, 1), start + every);
        // One message to three goes when one may, and takes three turns.
        assert_eq!(admits_at(tat, start, every, 1, 3), start + every);
        let then = start + every;
        assert!(admits(tat, then, every, 1, 3));
        let tat = count(tat, then, every, 1, 3);
        assert!(!admits(tat, then + 3 * every - 1, every, 1, 1));
        assert!(admits(tat, then + 3 * every, every, 1, 1));
    }

    #[test]
    fn no_message_is_so_large_that_it_comes_out_small() {
        let tat = count(0, 1, MAX_EVERY_NS, 1, u32::MAX);
        assert_eq!(tat, 1 + MAX_EVERY_NS * u64::from(MOST_TURNS));
        let late = count(u64::MAX - 1, 1, MAX_EVERY_NS, 1, u32::MAX);
        assert_eq!(late, u64::MAX);
        let every = MAX_SPREAD_NS / u64::from(MAX_BURST);
        assert_eq!(
            count(0, 0, every, MAX_BURST, u32::MAX),
            every * u64::from(MAX_BURST)
        );
    }

    #[test]
    fn bounds() {
        assert!(is_sound(15 * SECOND, 1));
        assert!(!is_sound(0, 1) && !is_sound(SECOND, 0));
        assert!(
            !is_sound(MAX_EVERY_NS, MAX_BURST),
            "a burst of 84,000 years"
        );
        assert!(!is_sound(u64::MAX, u32::MAX));
    }

    proptest! {
        /// In any stretch of time *t* at most `burst + t / every` units go, whatever is tried, but for
        /// what is more than a burst in the last message: checked between every pair of admitted
        /// attempts.
        #[test]
        fn never_faster_than_the_pace(
            every in 1_u64..50, burst in 1_u32..8,
            attempts in prop::collection::vec((0_u64..120, 1_u32..12), 1..120),
        ) {
            let mut now = 1_000;
            let mut tat = 0;
            let mut gone: Vec<(u64, u32)> = Vec::new();
            for (gap, units) in attempts {
                now += gap;
                if admits(tat, now, every, burst, units) {
                    tat = count(tat, now, every, burst, units);
                    gone.push((now, units));
                }
                for units in [burst, burst + 3] {
                    let at = admits_at(tat, now, every, burst, units);
                    prop_assert!(admits(tat, at, every, burst, units));
                }
            }
            for (first, (start, _)) in gone.iter().enumerate() {
                let mut sum = 0_u64;
                for (end, units) in &gone[first..] {
                    let together = sum + u64::from((*units).min(burst));
                    prop_assert!(together <= u64::from(burst) + (end - start) / every);
                    sum += u64::from(*units);
                }
            }
        }

        /// A sender that keeps to the pace is never refused.
        #[test]
        fn the_patient_are_never_refused(every in 1_u64..1_000, burst in 1_u32..5, n in 1_u64..50) {
            let mut tat = 0;
            for step in 0..n {
                let now = 10_000 + step * every;
                prop_assert!(admits(tat, now, every, burst, 1));
                tat = count(tat, now, every, burst, 1);
            }
        }
    }
}
