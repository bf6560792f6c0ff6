//! Commands by which the agent changes state under the kernel's own locks.
//!
//! The agent never reads, changes and writes what the programs count in: it runs the command
//! program (BPF_PROG_RUN) with one of these as the packet. The program's return value is one of
//! [`status`].

use crate::{assert_layout, limit::BLOCK_SLOTS, tenant::Tenant};

/// What a command does.
pub mod op {
    /// Write a tenant's policy and make its slots fit.
    pub const SET_TENANT: u32 = 1;
    /// Let one lock take the place of another.
    pub const MERGE_LOCKS: u32 = 2;
    /// Set until when a tenant is only observed.
    pub const SET_OBSERVE: u32 = 3;
    /// Decide and count units, as a layer would: for whoever counts outside the kernel.
    pub const CHARGE: u32 = 4;
}

/// What the command program returns.
pub mod status {
    /// Done; for a charge: admitted and counted.
    pub const DONE: u32 = 0;
    /// The packet is no command.
    pub const MALFORMED: u32 = 1;
    /// An index is out of range.
    pub const OUT_OF_RANGE: u32 = 2;
    /// The tenant does not exist.
    pub const NO_TENANT: u32 = 3;
    /// The lock could not be taken.
    pub const CONTENDED: u32 = 4;
    /// For a charge: a limit is used up, and nothing was counted.
    pub const REFUSED: u32 = 5;
}

/// What stands in a slot after [`op::SET_TENANT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotChange {
    /// [`CLEAR`](Self::CLEAR), or one more than the slot of the old policy whose state it takes
    /// over. Where the state does not move to another place, a slot takes over its own.
    pub source: u64,
    /// The width of the buckets that the state was counted in, ns; 0 for a pace.
    pub old_width_ns: u64,
    /// The width from now on, ns; 0 for a pace.
    pub new_width_ns: u64,
}

impl SlotChange {
    /// A `source`: the slot starts empty.
    pub const CLEAR: u64 = 0;
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Command {
    /// One of [`op`].
    pub op: u32,
    /// The tenant, or the lock that gives way.
    pub target: u32,
    /// The lock that takes its place, or the units to charge.
    pub argument: u32,
    /// For a charge: unit in the low byte, port group in the next.
    pub kind: u32,
    /// [`op::SET_OBSERVE`]: until when, ns of the kernel's clock.
    pub until_ns: u64,
    /// [`op::SET_TENANT`]: the new policy. Its generation and `observe_until_ns` are kept by the
    /// kernel.
    pub tenant: Tenant,
    /// [`op::SET_TENANT`]: what stands in the slots of the new policy.
    pub slots: [SlotChange; BLOCK_SLOTS],
    /// [`op::SET_TENANT`]: how many slots the tenant has.
    pub slot_count: u64,
}
assert_layout!(Command, 288, 8);
