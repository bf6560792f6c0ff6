//! Whom an identity (a uid, a cgroup) belongs to, as it stands in a map.

/// Whom an identity belongs to: nobody, the node's own MTA, or a tenant. A plain number, so that
/// an empty array claims nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Owner(u32);

impl Owner {
    /// Nobody claims it.
    pub const NOBODY: Self = Self(0);
    /// The node's own MTA.
    pub const MTA: Self = Self(u32::MAX);

    /// The tenant with this index, which is not `u32::MAX`.
    #[must_use]
    #[inline(always)]
    pub const fn tenant(index: u32) -> Self {
        Self(index.wrapping_add(1))
    }

    /// The tenant's index; meaningless for nobody and the MTA.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0.wrapping_sub(1)
    }

    /// Whether it is a tenant.
    #[must_use]
    #[inline(always)]
    pub const fn is_tenant(self) -> bool {
        self.0 != 0 && self.0 != u32::MAX
    }

    /// The value that stands in a map.
    #[must_use]
    #[inline(always)]
    pub const fn to_wire(self) -> u32 {
        self.0
    }

    /// Whom a value in a map stands for.
    #[must_use]
    #[inline(always)]
    pub const fn from_wire(wire: u32) -> Self {
        Self(wire)
    }
}

/// Who pays for an attempt, and who else must be allowed to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The index of the tenant that pays.
    pub payer: u32,
    /// The index of the other one, [`NOBODY`](crate::abi::NOBODY) if there is none.
    pub other: u32,
}

impl Parties {
    /// The parties of an attempt by `caller` with a socket of `socket`. Who calls as the MTA with
    /// the socket of a tenant acts for the tenant: no MTA does that. A named tenant pays before whoever nobody claims: a kernel worker or a daemon of the
    /// node that drives a tenant's socket does it for the tenant.
    #[must_use]
    #[inline(always)]
    pub const fn of(caller: Owner, socket: Owner) -> Self {
        use crate::abi::{DEFAULT, NOBODY};
        let caller_index = if caller.is_tenant() {
            caller.index()
        } else {
            DEFAULT
        };
        let socket_index = if socket.is_tenant() {
            socket.index()
        } else {
            DEFAULT
        };
        if caller.0 == Owner::MTA.0 {
            return Self {
                payer: socket_index,
                other: NOBODY,
            };
        }
        let alone = caller_index == socket_index || socket.0 == Owner::MTA.0;
        if alone {
            Self {
                payer: caller_index,
                other: NOBODY,
            }
        } else if caller.is_tenant() {
            Self {
                payer: caller_index,
                other: socket_index,
            }
        } else {
            Self {
                payer: socket_index,
                other: caller_index,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{DEFAULT, NOBODY};

    #[test]
    fn an_empty_array_claims_nothing() {
        assert_eq!(Owner::from_wire(0), Owner::NOBODY);
        assert_eq!(Owner::from_wire(Owner::tenant(7).to_wire()).index(), 7);
        assert!(Owner::tenant(0).is_tenant());
        assert!(!Owner::NOBODY.is_tenant() && !Owner::MTA.is_tenant());
    }

    #[test]
    fn the_caller_pays_and_both_must_be_allowed() {
        let (alice, bob) = (Owner::tenant(5), Owner::tenant(6));
        let parties = |payer, other| Parties { payer, other };
        assert_eq!(Parties::of(alice, alice), parties(5, NOBODY));
        assert_eq!(Parties::of(alice, bob), parties(5, 6));
        assert_eq!(Parties::of(alice, Owner::MTA), parties(5, NOBODY));
        assert_eq!(Parties::of(alice, Owner::NOBODY), parties(5, DEFAULT));
        assert_eq!(
            Parties::of(Owner::NOBODY, alice),
            parties(5, DEFAULT),
            "the tenant pays"
        );
        assert_eq!(
            Parties::of(Owner::NOBODY, Owner::NOBODY),
            parties(DEFAULT, NOBODY)
        );
        assert_eq!(
            Parties::of(Owner::NOBODY, Owner::MTA),
            parties(DEFAULT, NOBODY)
        );
        assert_eq!(
            Parties::of(Owner::MTA, alice),
            parties(5, NOBODY),
            "a passed socket"
        );
    }
}
