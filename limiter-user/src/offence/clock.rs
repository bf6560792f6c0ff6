//! The engine's own time, which no change of the wall clock brings forward.
//!
//! The rule: within one boot, time passes as the boot clock does, whatever the wall clock says. A
//! reboot is at least as long as the new boot is old (less where a wall clock that is vouched for
//! says less: the record may come from another machine); the rest of the downtime is credited once,
//! when the wall clock is vouched for (synchronised), and counted against the furthest that the
//! wall clock was ever ahead. So a clock that is set forward, back, or both, ends nothing early; at
//! worst the downtime is not credited and sanctions end that much later. An operator can settle it
//! ([`Word::Settle`](super::Word)). While nothing is recorded, the wall clock is simply taken over.

use serde::{Deserialize, Serialize};

use super::time::{Moment, Span};

/// What the clocks of the machine say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The wall clock.
    pub wall: Moment,
    /// Which boot it is: the kernel's boot id.
    pub boot: String,
    /// How long it runs since it booted, suspension included (`CLOCK_BOOTTIME`).
    pub up: Span,
    /// Whether the wall clock is known to be right, such as synchronised by NTP.
    pub trusted: bool,
}

/// The engine's time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    now: Moment,
    boot: String,
    up: Span,
    /// How far a trusted wall clock was ahead at most.
    ahead: Span,
    /// Whether this boot's downtime was credited.
    credited: bool,
}

impl Clock {
    /// The engine's time at the last reading.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// What the wall clock of `reading` shows when the engine's time is `moment`: for people.
    #[must_use]
    pub const fn wall(&self, moment: Moment, reading: &Reading) -> Moment {
        if reading.wall.0 >= self.now.0 {
            moment.plus(reading.wall.since(self.now))
        } else {
            moment.minus(self.now.since(reading.wall))
        }
    }

    /// The engine's time by `reading`, on a copy of the clock. `blank`: nothing is recorded yet.
    pub fn look(&mut self, reading: &Reading, blank: bool) -> Moment {
        self.read(reading, blank);
        self.now
    }

    /// Reads the clocks. `blank`: nothing is recorded yet.
    pub(super) fn read(&mut self, reading: &Reading, blank: bool) {
        if blank {
            *self = Self {
                now: reading.wall,
                boot: reading.boot.clone(),
                up: reading.up,
                ahead: Span(0),
                credited: true,
            };
            return;
        }
        let passed = if reading.boot == self.boot {
            Span(reading.up.0.saturating_sub(self.up.0))
        } else {
            self.boot.clone_from(&reading.boot);
            self.up = Span(0);
            self.credited = false;
            if reading.trusted {
                reading
                    .up
                    .min(reading.wall.minus(self.ahead).since(self.now))
            } else {
                reading.up
            }
        };
        self.now = self.now.plus(passed);
        self.up = self.up.max(reading.up);
        if reading.trusted {
            if !self.credited {
                self.now = self.now.max(reading.wall.minus(self.ahead));
                self.credited = true;
            }
            self.ahead = self.ahead.max(reading.wall.since(self.now));
        }
    }

    /// The wall clock is right, an operator says: downtime that was not credited is.
    pub(super) fn settle(&mut self, reading: &Reading) {
        self.now = self.now.max(reading.wall);
        self.ahead = Span(0);
        self.credited = true;
    }
}
