//! Counters: what happened to a tenant's attempts, and what went wrong in the kernel.

use crate::{assert_layout, limit::bpf_spin_lock, verdict::Reason};

/// How long a tenant's refusals for one reason are summed up before the next event, ns: a second.
pub const SUMMARY_NS: u64 = 1_000_000_000;
/// The pause that ends an episode, ns: a minute.
pub const EPISODE_PAUSE_NS: u64 = 60_000_000_000;

/// A tenant's counters since it was created, and where its episode of refusals stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stats {
    /// Held while the counters below `sent` change.
    pub lock: bpf_spin_lock,
    /// The kinds of refusal reported in the current second, a bit each: see [`Stats::report`].
    pub kinds: u32,
    /// Attempts that went out. Counted without the lock, atomically.
    pub allowed: u64,
    /// What can have been mail: allowed attempts at ports of the group smtp, and recipients of
    /// messages that went in through the node's own mail server. Counted without the lock, atomically.
    pub sent: u64,
    /// Attempts that were refused.
    pub denied: u64,
    /// Attempts that were sent to the local MTA.
    pub redirected: u64,
    /// Attempts that went out and would have been refused.
    pub would_deny: u64,
    /// How many of `denied + redirected + would_deny` events have told of (`repeated`, summed).
    pub reported: u64,
    /// When the current second of summing up began, ns of the kernel's clock.
    pub summary_since_ns: u64,
    /// When the last refusal came, ns of the kernel's clock.
    pub last_ns: u64,
}
assert_layout!(Stats, 72, 8);

impl Stats {
    /// How many attempts were not simply allowed.
    #[must_use]
    #[inline(always)]
    pub const fn notable(&self) -> u64 {
        self.denied
            .wrapping_add(self.redirected)
            .wrapping_add(self.would_deny)
    }

    /// Decides, for an attempt already counted, whether an event is due: the first of its kind (a
    /// reason and a uid) in a second is told at once, and with it all that were not told before.
    /// Kinds are told apart by 32 bits, so a tenant never has more than 32 events a second.
    /// Returns how many attempts the event stands for, 0 if it is not due.
    #[inline(always)]
    pub fn report(&mut self, now_ns: u64, reason: Reason, uid: u32) -> u64 {
        // Fibonacci hashing: neighbouring uids are spread over all bits.
        let kind = uid
            .wrapping_add((reason as u32) << 16)
            .wrapping_mul(0x9e37_79b9)
            >> 27;
        let bit = 1_u32 << kind;
        self.last_ns = now_ns;
        if now_ns.wrapping_sub(self.summary_since_ns) >= SUMMARY_NS {
            self.summary_since_ns = now_ns;
            self.kinds = 0;
        }
        if self.kinds & bit != 0 {
            return 0;
        }
        self.kinds |= bit;
        let untold = self.notable().wrapping_sub(self.reported);
        self.reported = self.reported.wrapping_add(untold);
        untold
    }
}

/// What went wrong in the kernel, counted by CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Health {
    /// Events that did not fit into the ring buffer.
    pub events_lost: u64,
    /// Allowed attempts that did not fit into the ring buffer.
    pub attempts_lost: u64,
    /// Look-ups that failed although they cannot, and other impossibilities.
    pub internal: u64,
    /// Attempts judged under changing policy more often than is tried.
    pub contended: u64,
}
assert_layout!(Health, 32, 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_summed_up_and_nothing_is_lost() {
        let mut stats = Stats::default();
        let mut told = 0;
        let mut events = 0;
        // 10,000 refusals in 5 seconds.
        for n in 0..10_000_u64 {
            stats.denied += 1;
            let repeated = stats.report(10 * SUMMARY_NS + n * 500_000, Reason::DirectSmtp, 2001);
            if repeated > 0 {
                events += 1;
                told += repeated;
            }
        }
        assert_eq!(events, 5, "one event a second");
        assert_eq!(
            told + (stats.notable() - stats.reported),
            10_000,
            "every refusal is told or due"
        );
    }

    #[test]
    fn another_reason_is_told_at_once() {
        let mut stats = Stats {
            denied: 1,
            ..Stats::default()
        };
        assert_eq!(stats.report(5 * SUMMARY_NS, Reason::Limit, 2001), 1);
        stats.denied += 1;
        assert_eq!(stats.report(5 * SUMMARY_NS + 1, Reason::Limit, 2001), 0);
        stats.denied += 1;
        assert_eq!(
            stats.report(5 * SUMMARY_NS + 2, Reason::Submission, 2001),
            2
        );
    }

    #[test]
    fn another_uid_is_told_at_once() {
        let mut told = 0;
        let mut stats = Stats::default();
        for uid in 0..24 {
            stats.denied += 1;
            let mine = stats.report(5 * SUMMARY_NS, Reason::DirectSmtp, 2_000 + uid * 37);
            told += u32::from(mine > 0);
        }
        assert!(told >= 12, "most of 24 uids are told apart: {told}");
        for uid in 0..10_000 {
            stats.denied += 1;
            told += u32::from(stats.report(5 * SUMMARY_NS + 1, Reason::DirectSmtp, uid) > 0);
        }
        assert!(told <= 32, "never more than 32 a second");
    }
}
