//! The sliding window: at most `max` units in any span, with 33 buckets of a 32nd of the span.
//!
//! Time is cut into epochs of `width_ns`, a 32nd of the window rounded up. A unit admitted in
//! epoch *b* counts until the clock reaches epoch *b* + 33. At a time in epoch *n* the units that
//! no longer count were admitted in epoch *n* − 33 or before, that is more than 32 widths ago: no
//! window of the configured length, wherever it starts, ever holds more than `max`. A unit stops
//! counting at most one width, a 32nd of the window, later than it could.
//!
//! Counts can be carried from one clock to another by their ages ([`Slot::ages`]), also to one that
//! is younger than they are. Changing a window's length moves each bucket's units to the latest moment at which they can
//! have been admitted, so that a change never frees capacity early.

use core::ops::{Deref, DerefMut};

use crate::assert_layout;

/// How many past buckets are kept beside the current one.
pub const BUCKETS: usize = 32;
const MASK: u64 = BUCKETS as u64 - 1;

/// The shortest window, in nanoseconds: a second.
pub const MIN_WINDOW_NS: u64 = 1_000_000_000;
/// The longest window, in nanoseconds: 31 days.
pub const MAX_WINDOW_NS: u64 = 31 * 24 * 3600 * 1_000_000_000;

/// The width of a bucket, in nanoseconds, for a window of `window_ns`.
#[must_use]
pub const fn width_of(window_ns: u64) -> u64 {
    window_ns.div_ceil(BUCKETS as u64)
}

/// The window, in nanoseconds, whose buckets are `width_ns` wide, for people: widths are rounded up,
/// and nobody writes windows with fractions of a millisecond.
#[must_use]
pub const fn window_of(width_ns: u64) -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    let window = width_ns.saturating_mul(BUCKETS as u64);
    let odd = window % MILLISECOND;
    if odd < BUCKETS as u64 {
        window - odd
    } else {
        window
    }
}

/// What is asked of a limit's state every time. For a window all fields are used; for a pace `epoch`
/// holds the theoretical arrival time (see [`crate::pace`]) and the rest is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Head {
    /// The newest epoch seen.
    pub epoch: u64,
    /// Units admitted in the newest epoch.
    pub current: u32,
    /// Units that count, `current` included.
    pub total: u32,
}
assert_layout!(Head, 16, 8);

/// Units admitted in the 32 epochs before the newest, by epoch modulo 32. Touched only where there are
/// some, and the epoch changes.
pub type Ring = [u32; BUCKETS];

impl Head {
    /// The state in which nothing was ever admitted.
    pub const EMPTY: Self = Self {
        epoch: 0,
        current: 0,
        total: 0,
    };

    /// Whether `units` more fit below `max`, after [`State::advance`].
    #[must_use]
    #[inline(always)]
    pub const fn admits(&self, units: u32, max: u32) -> bool {
        match self.total.checked_add(units) {
            Some(total) => total <= max,
            None => false,
        }
    }

    /// Counts `units` in the current bucket, after [`admits`](Self::admits) said yes.
    #[inline(always)]
    pub fn count(&mut self, units: u32) {
        self.current = self.current.wrapping_add(units);
        self.total = self.total.wrapping_add(units);
    }
}

/// The two parts of a limit's state, wherever they stand.
#[derive(Debug)]
pub struct State<'a> {
    /// What is asked every time.
    pub head: &'a mut Head,
    /// The past.
    pub ring: &'a mut Ring,
}

impl State<'_> {
    /// Moves the state forward to the clock `now_ns`. A clock that went back (CPUs differ by a
    /// tick) changes nothing: what was seen later is the truth.
    ///
    /// `width_ns` is the bucket width, not 0.
    #[inline(always)]
    pub fn advance(&mut self, now_ns: u64, width_ns: u64) {
        if width_ns == 0 {
            return;
        }
        let epoch = now_ns / width_ns;
        if epoch <= self.head.epoch {
            return;
        }
        // Of no bucket is asked whether it is too old: that is computed, so that the verifier finds
        // one way through, whatever the state. Clocks are below 2^63 ns.
        let steps = epoch - self.head.epoch;
        // Of whoever seldom sends the buckets are empty, and need not be touched.
        let mut index = if self.head.total == self.head.current {
            BUCKETS
        } else {
            0
        };
        while index < BUCKETS {
            // How far the clock has to move until this bucket falls out of the window, less one.
            let left = (index as u64).wrapping_sub(self.head.epoch) & MASK;
            let place = &raw mut self.ring[index];
            // SAFETY: fields of an exclusively borrowed value, in bounds. Volatile: kept in a
            // register the sum would be another for the verifier after every round.
            unsafe {
                let units = core::ptr::read_volatile(place);
                let gone = units & below(left, steps);
                core::ptr::write_volatile(place, units.wrapping_sub(gone));
                let total = core::ptr::read_volatile(&raw const self.head.total);
                core::ptr::write_volatile(&raw mut self.head.total, total.wrapping_sub(gone));
            }
            index += 1;
        }
        // Where the oldest was stands what was the current one, unless that is too old as well.
        let past = self.head.current & below(steps, BUCKETS as u64 + 1);
        if past != 0 {
            self.ring[(self.head.epoch & MASK) as usize] = past;
        }
        self.head.total = self
            .head
            .total
            .wrapping_sub(self.head.current.wrapping_sub(past));
        self.head.current = 0;
        self.head.epoch = epoch;
    }

    /// Takes back `units` that were counted at `at_ns`, as far as their bucket still holds any. What
    /// was counted while the clock was a tick behind may stand in the next bucket, and stays.
    #[inline(always)]
    pub fn give_back(&mut self, at_ns: u64, width_ns: u64, units: u32) {
        if width_ns == 0 {
            return;
        }
        let behind = self.head.epoch.wrapping_sub(at_ns / width_ns);
        let held = if behind == 0 {
            &mut self.head.current
        } else if behind <= BUCKETS as u64 {
            &mut self.ring[(self.head.epoch.wrapping_sub(behind) & MASK) as usize]
        } else {
            return;
        };
        let back = if units < *held { units } else { *held };
        *held -= back;
        self.head.total = self.head.total.wrapping_sub(back);
    }
}

/// The state of one limit in one piece, as it is read, converted and kept.
///
/// The all-zero state is a window in which nothing was ever admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// What is asked every time.
    pub head: Head,
    /// The past.
    pub ring: Ring,
}
assert_layout!(Slot, 144, 8);

impl Deref for Slot {
    type Target = Head;

    #[inline(always)]
    fn deref(&self) -> &Head {
        &self.head
    }
}

impl DerefMut for Slot {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl Slot {
    /// The state in which nothing was ever admitted.
    pub const EMPTY: Self = Self {
        head: Head::EMPTY,
        ring: [0; BUCKETS],
    };

    /// Its parts.
    #[inline(always)]
    pub fn parts(&mut self) -> State<'_> {
        State {
            head: &mut self.head,
            ring: &mut self.ring,
        }
    }

    /// [`State::advance`].
    #[inline(always)]
    pub fn advance(&mut self, now_ns: u64, width_ns: u64) {
        self.parts().advance(now_ns, width_ns);
    }

    /// [`State::give_back`].
    #[inline(always)]
    pub fn give_back(&mut self, at_ns: u64, width_ns: u64, units: u32) {
        self.parts().give_back(at_ns, width_ns, units);
    }

    /// Changes the width of the buckets from `old_width_ns` to `new_width_ns` at `now_ns`. Each
    /// bucket's units move to the last moment at which they can have been admitted, `now_ns` at
    /// the latest; those that are too old for the new window are dropped. For the agent: the
    /// verifier would follow every way through it.
    pub fn reshape(&mut self, now_ns: u64, old_width_ns: u64, new_width_ns: u64) {
        if old_width_ns == 0 || new_width_ns == 0 {
            return;
        }
        self.advance(now_ns, old_width_ns);
        if old_width_ns == new_width_ns {
            return;
        }
        let ages = self.ages(now_ns, old_width_ns);
        // A clock behind the state's own must not turn its newest units into old ones.
        let newest = self.epoch.saturating_mul(old_width_ns);
        let now = if now_ns > newest { now_ns } else { newest };
        *self = Self::from_ages(&ages, now, new_width_ns);
    }

    /// How long ago, at least, the units that count at `now_ns` were admitted: (age in nanoseconds,
    /// units), youngest first, none older than 33 widths. For the agent.
    #[must_use]
    pub fn ages(&self, now_ns: u64, width_ns: u64) -> [(u64, u32); BUCKETS + 1] {
        let mut copy = *self;
        copy.advance(now_ns, width_ns);
        // The clock may be behind the state's own.
        let into = now_ns.saturating_sub(copy.epoch.saturating_mul(width_ns));
        let mut ages = [(0, copy.current); BUCKETS + 1];
        for (place, steps) in ages[1..].iter_mut().zip(1_u64..) {
            // The bucket was over a nanosecond before the next one began.
            let age = into
                .saturating_add((steps - 1).saturating_mul(width_ns))
                .saturating_add(1);
            let units = copy.ring[(copy.epoch.wrapping_sub(steps) & MASK) as usize];
            *place = (age, units);
        }
        ages
    }

    /// The state in which these units were admitted so long before `now_ns`: (age in nanoseconds,
    /// units). Those that are too old are left out. The clock may be younger than they are: buckets
    /// are told apart by their distance alone. For the agent.
    #[must_use]
    pub fn from_ages(ages: &[(u64, u32)], now_ns: u64, width_ns: u64) -> Self {
        let mut slot = Self::EMPTY;
        if width_ns == 0 {
            return slot;
        }
        let Self { head, ring } = &mut slot;
        head.epoch = now_ns / width_ns;
        let into = now_ns % width_ns;
        for (age, units) in ages {
            let steps = age.saturating_sub(into).div_ceil(width_ns);
            let place = if steps == 0 {
                &mut head.current
            } else if steps <= BUCKETS as u64 {
                &mut ring[(head.epoch.wrapping_sub(steps) & MASK) as usize]
            } else {
                continue;
            };
            // What does not fit any more would be refused anyway.
            let more = if *units > u32::MAX - head.total {
                u32::MAX - head.total
            } else {
                *units
            };
            *place += more;
            head.total += more;
        }
        slot
    }

    /// The units that count at `now_ns`, without changing the state. For reports.
    #[must_use]
    pub fn used(&self, now_ns: u64, width_ns: u64) -> u32 {
        let mut copy = *self;
        copy.advance(now_ns, width_ns);
        copy.total
    }

    /// The first moment, in nanoseconds of the same clock, at which `units` more fit below `max`
    /// if nothing else is admitted; `None` if they never do. For reports.
    #[must_use]
    pub fn admits_at(&self, now_ns: u64, width_ns: u64, units: u32, max: u32) -> Option<u64> {
        if units > max || width_ns == 0 {
            return None;
        }
        let mut copy = *self;
        copy.advance(now_ns, width_ns);
        let mut at = now_ns;
        while !copy.admits(units, max) {
            at = (copy.epoch + 1).checked_mul(width_ns)?;
            copy.advance(at, width_ns);
        }
        Some(at)
    }
}

/// All bits if `a` is less than `b`, none otherwise, for numbers below 2^63: the sign of their
/// difference.
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "all bits are the same")]
const fn below(a: u64, b: u64) -> u32 {
    (a.wrapping_sub(b).cast_signed() >> 63) as u32
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
