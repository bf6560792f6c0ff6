//! Whom an identity (a uid, a cgroup) belongs to, as it stands in a map.

use crate::abi::NOBODY;

/// Whom an identity belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Nobody claims it.
    Nobody,
    /// The node's own MTA.
    Mta,
    /// The tenant with this index.
    Tenant(u32),
}

/// How [`Owner::Mta`] stands in a map.
const MTA: u32 = u32::MAX;

impl Owner {
    /// The value that stands in a map: 0 is nobody, so that an empty array claims nothing.
    #[must_use]
    #[inline(always)]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Nobody => 0,
            Self::Mta => MTA,
            Self::Tenant(index) => index.wrapping_add(1),
        }
    }

    /// Whom a value in a map stands for.
    #[must_use]
    #[inline(always)]
    pub const fn from_wire(wire: u32) -> Self {
        match wire {
            0 => Self::Nobody,
            MTA => Self::Mta,
            index => Self::Tenant(index - 1),
        }
    }

    /// The tenant's index, [`NOBODY`] where there is none.
    #[must_use]
    pub const fn tenant(self) -> u32 {
        match self {
            Self::Tenant(index) => index,
            Self::Nobody | Self::Mta => NOBODY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_values_round_trip() {
        for owner in [
            Owner::Nobody,
            Owner::Mta,
            Owner::Tenant(0),
            Owner::Tenant(1_000_000),
        ] {
            assert_eq!(Owner::from_wire(owner.to_wire()), owner);
        }
        assert_eq!(
            Owner::from_wire(0),
            Owner::Nobody,
            "an empty array claims nothing"
        );
    }
}
