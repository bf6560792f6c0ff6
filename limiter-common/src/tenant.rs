//! A tenant's policy, as the kernel reads it on every attempt: one cache line.

use crate::{
    abi::MAX_TENANT_NAME,
    assert_layout,
    sanction::Sanctions,
    verdict::{Permission, PortGroup},
};

/// Bits of [`Tenant::flags`].
pub mod flags {
    /// There is such a tenant.
    pub const EXISTS: u8 = 1;
    /// Refusals are carried out; without it they are only reported.
    pub const ENFORCE: u8 = 1 << 1;
    /// It, an ancestor or the node limits or paces messages or recipients.
    pub const COUNTS_MAIL: u8 = 1 << 2;
}

/// A tenant's policy. The all-zero value is "no such tenant".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tenant {
    /// Goes up with every change of the policy. Whoever read the policy before taking the lock
    /// compares it under the lock.
    pub generation: u32,
    /// The index of the lock of its tree.
    pub lock: u32,
    /// The index of its parent, [`NOBODY`](crate::abi::NOBODY) at the top.
    pub parent: u32,
    /// The index of its limits, 0 for none.
    pub limit_set: u32,
    /// The block that holds its state.
    pub block: u32,
    /// The first of its slots in the block.
    pub first_slot: u8,
    /// [`flags`].
    pub flags: u8,
    /// A [`Permission`]: the port group smtp at other hosts.
    pub direct_smtp: u8,
    /// A [`Permission`]: the port group submission at other hosts.
    pub submission: u8,
    /// The set of its exempt destinations, 0 for none of its own.
    pub exempt_set: u32,
    /// Room for what comes.
    pub reserved: [u32; 3],
    /// Until this moment of the kernel's clock nothing is refused, ns.
    pub observe_until_ns: u64,
    /// The sanctions in force, its ancestors' included.
    pub sanctions: Sanctions,
}
assert_layout!(Tenant, 64, 8);

impl Tenant {
    /// Whether there is such a tenant.
    #[must_use]
    #[inline(always)]
    pub const fn exists(&self) -> bool {
        self.flags & flags::EXISTS != 0
    }

    /// Whether refusals are carried out at `now_ns`.
    #[must_use]
    #[inline(always)]
    pub const fn enforces(&self, now_ns: u64) -> bool {
        self.flags & flags::ENFORCE != 0 && now_ns >= self.observe_until_ns
    }

    /// What it may do at a port of `group`, as it stands in the map. A value that is none of
    /// [`Permission`] must be taken for a block.
    #[must_use]
    #[inline(always)]
    pub const fn permission(&self, group: PortGroup) -> u8 {
        match group {
            PortGroup::Smtp => self.direct_smtp,
            PortGroup::Submission => self.submission,
            PortGroup::Other | PortGroup::Mailbox => Permission::Allow as u8,
        }
    }
}

/// A tenant's name as a key: UTF-8, zeros behind it.
pub type TenantName = [u8; MAX_TENANT_NAME + 1];
