//! Commands by which the agent changes state under the kernel's own locks.
//!
//! The agent never reads, changes and writes what the programs count in: it runs the command
//! program (BPF_PROG_RUN) with one of these as the packet. The program's return value is one of
//! [`status`].

use crate::{assert_layout, limit::BLOCK_SLOTS, tenant::Tenant, window::Slot};

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
    /// Note down up to which total a tenant's refusals were told, as read from its counters.
    pub const TOLD: u32 = 5;
    /// Write the sanctions in force for a tenant.
    pub const SET_SANCTIONS: u32 = 6;
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
    /// A slot changed while the agent converted it.
    pub const CHANGED: u32 = 6;
}

/// What happens to a slot.
pub mod change {
    /// It starts empty, or with the state that is given.
    pub const CLEAR: u32 = 0;
    /// It stays as it is. Only where the state does not move.
    pub const KEEP: u32 = 1;
    /// It takes over the state of a slot of the old policy, as the agent converted it, and what
    /// was counted in the newest bucket since the agent read it.
    pub const REPLACE: u32 = 2;
    /// It takes over the state of a slot of the old policy as it is.
    pub const MOVE: u32 = 3;
}

/// What stands in a slot after [`op::SET_TENANT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotChange {
    /// One of [`change`].
    pub change: u32,
    /// [`change::REPLACE`] and [`change::MOVE`]: the slot of the old policy.
    pub source: u32,
    /// [`change::REPLACE`]: the state that was converted. If anything but the newest bucket changed
    /// since, nothing is done, and the agent converts again. Epoch, current and total say whether
    /// it did.
    pub expected_epoch: u64,
    /// As above.
    pub expected_current: u32,
    /// As above.
    pub expected_total: u32,
    /// [`change::REPLACE`]: the converted state.
    pub state: Slot,
}

impl SlotChange {
    /// A slot that starts empty.
    pub const CLEARED: Self = Self {
        change: change::CLEAR,
        source: 0,
        expected_epoch: 0,
        expected_current: 0,
        expected_total: 0,
        state: Slot::EMPTY,
    };
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
    /// [`op::TOLD`]: the total. [`op::SET_OBSERVE`]: until when, ns of the kernel's clock. [`op::SET_TENANT`]: until when
    /// the converted states are right; later, nothing is done.
    pub until_ns: u64,
    /// [`op::SET_TENANT`]: the new policy. Its generation, `observe_until_ns` and, unless it is
    /// new, its sanctions are kept by the kernel. [`op::SET_SANCTIONS`]: only the sanctions count.
    pub tenant: Tenant,
    /// [`op::SET_TENANT`]: what stands in the slots of the new policy.
    pub slots: [SlotChange; BLOCK_SLOTS],
    /// [`op::SET_TENANT`]: how many slots the tenant has.
    pub slot_count: u64,
}
assert_layout!(Command, 1440, 8);
