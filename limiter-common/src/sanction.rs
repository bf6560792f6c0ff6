//! Sanctions as the kernel reads them: when each ends, by the kernel's own clock, so that they end
//! on time even if nobody looks.

use crate::{
    assert_layout,
    verdict::{PortGroup, wire_enum},
};

wire_enum! {
    /// What a tenant suffers in the kernel, weakest first. Each includes those before it.
    Sanction {
        /// None of its mail leaves: SMTP and submission ports of other hosts.
        BlockSmtp = 0 => "block_smtp",
        /// Mailbox ports too, of other hosts and of its own addresses.
        SuspendMail = 1 => "suspend_mail",
        /// All its traffic but loopback and management.
        SuspendNetwork = 2 => "suspend_network",
        /// Also every packet to and from the addresses and interfaces that it alone owns.
        NullRoute = 3 => "null_route",
    }
}

/// How many sanctions the kernel knows.
pub const SANCTIONS: usize = 4;

/// A sanction that does not end by itself.
pub const WITHOUT_END: u32 = u32::MAX;

/// Until when each sanction holds, in whole seconds of the kernel's monotonic clock, by
/// [`Sanction`]; 0: not in force, [`WITHOUT_END`]: until it is taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sanctions {
    /// By [`Sanction`].
    pub until_s: [u32; SANCTIONS],
}
assert_layout!(Sanctions, 16, 4);

/// A moment of the kernel's clock in whole seconds.
#[must_use]
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "136 years of uptime")]
pub const fn seconds(now_ns: u64) -> u32 {
    (now_ns / 1_000_000_000) as u32
}

impl Sanctions {
    /// No sanctions.
    pub const NONE: Self = Self {
        until_s: [0; SANCTIONS],
    };

    /// Whether any is or was in force.
    #[must_use]
    #[inline(always)]
    pub const fn any(&self) -> bool {
        self.until_s[0] | self.until_s[1] | self.until_s[2] | self.until_s[3] != 0
    }

    /// Whether `sanction` itself is in force at the second `now_s`.
    #[must_use]
    #[inline(always)]
    pub const fn holds(&self, sanction: Sanction, now_s: u32) -> bool {
        self.until_s[sanction as usize] > now_s
    }

    /// The strongest one in force at `now_s`.
    #[must_use]
    #[inline(always)]
    pub const fn strongest(&self, now_s: u32) -> Option<Sanction> {
        if self.holds(Sanction::NullRoute, now_s) {
            Some(Sanction::NullRoute)
        } else if self.holds(Sanction::SuspendNetwork, now_s) {
            Some(Sanction::SuspendNetwork)
        } else if self.holds(Sanction::SuspendMail, now_s) {
            Some(Sanction::SuspendMail)
        } else if self.holds(Sanction::BlockSmtp, now_s) {
            Some(Sanction::BlockSmtp)
        } else {
            None
        }
    }

    /// Whether all traffic is refused at `now_s`.
    #[must_use]
    #[inline(always)]
    pub const fn suspends_network(&self, now_s: u32) -> bool {
        self.holds(Sanction::SuspendNetwork, now_s) || self.holds(Sanction::NullRoute, now_s)
    }

    /// Whether traffic to a port of `group` is refused at `now_s`.
    #[must_use]
    #[inline(always)]
    pub const fn refuses(&self, group: PortGroup, now_s: u32) -> bool {
        if self.suspends_network(now_s) {
            return true;
        }
        match group {
            PortGroup::Smtp | PortGroup::Submission => {
                self.holds(Sanction::SuspendMail, now_s) || self.holds(Sanction::BlockSmtp, now_s)
            }
            PortGroup::Mailbox => self.holds(Sanction::SuspendMail, now_s),
            PortGroup::Other => false,
        }
    }

    /// The later end of each: what holds for a tenant whose ancestor has `other`.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let mut joined = *self;
        for (mine, theirs) in joined.until_s.iter_mut().zip(other.until_s) {
            *mine = (*mine).max(theirs);
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeps_its_own_end_and_includes_the_weaker() {
        let mut sanctions = Sanctions::NONE;
        assert!(!sanctions.any());
        sanctions.until_s[Sanction::SuspendNetwork as usize] = 100;
        sanctions.until_s[Sanction::BlockSmtp as usize] = WITHOUT_END;
        assert_eq!(sanctions.strongest(99), Some(Sanction::SuspendNetwork));
        assert!(sanctions.refuses(PortGroup::Other, 99));
        assert_eq!(sanctions.strongest(100), Some(Sanction::BlockSmtp));
        assert!(!sanctions.refuses(PortGroup::Other, 100));
        assert!(sanctions.refuses(PortGroup::Smtp, u32::MAX - 1));
        assert!(!sanctions.refuses(PortGroup::Mailbox, 100));
    }

    #[test]
    fn an_ancestors_sanction_is_inherited_with_its_end() {
        let mine = Sanctions {
            until_s: [10, 0, 30, 0],
        };
        let parents = Sanctions {
            until_s: [20, 5, 0, 0],
        };
        assert_eq!(mine.joined(&parents).until_s, [20, 5, 30, 0]);
    }
}
