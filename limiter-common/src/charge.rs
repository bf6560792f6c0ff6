//! Mail that enters through the node's own mail server, as the agent brings it before the kernel's
//! limits: one run of the charge program is one question, and its answer is the receipt.

use crate::{address::Address, assert_layout};

/// What the charge program is to do.
pub mod op {
    /// Say whether all limits admit it, and count nothing.
    pub const ASK: u32 = 1;
    /// Count it, if all limits admit it.
    pub const COUNT: u32 = 2;
    /// Give back what a receipt says.
    pub const GIVE_BACK: u32 = 3;
    /// Count and tell a refusal that was decided elsewhere, for [`reason`](super::Charge::reason).
    pub const REFUSED: u32 = 4;
    /// Count mail that went in: [`messages`](super::Charge::messages) of them.
    pub const WENT: u32 = 5;
}

/// What became of it.
pub mod decision {
    /// All limits admit it.
    pub const ADMITTED: u8 = 0;
    /// It is admitted, and would be refused if its tenant, or an ancestor, were not only observed.
    pub const WOULD_REFUSE: u8 = 1;
    /// It is refused, and nothing was counted.
    pub const REFUSED: u8 = 2;
}

/// What the program returns.
pub mod status {
    /// Done: the answer says what.
    pub const DONE: u32 = 0;
    /// The packet is no charge.
    pub const MALFORMED: u32 = 1;
    /// The tenant does not exist.
    pub const NO_TENANT: u32 = 2;
    /// The limits could not be asked: their policy kept changing, or a look-up failed.
    pub const FAILED: u32 = 3;
    /// The policy changed since the receipt was made: nothing was given back.
    pub const CHANGED: u32 = 4;
}

/// Bits of [`Charge::flags`].
pub mod flags {
    /// Tell of a refusal. Without it nothing is reported.
    pub const TELL: u8 = 1;
    /// [`uid`](super::Charge::uid) is known.
    pub const HAS_UID: u8 = 1 << 1;
    /// [`op::REFUSED`](super::op::REFUSED): it is not carried out, only told.
    pub const ONLY_TOLD: u8 = 1 << 2;
}

/// A question and its answer: what the agent hands in, and gets back with the lower part filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Charge {
    /// One of [`op`].
    pub op: u32,
    /// The tenant.
    pub target: u32,
    /// So many messages.
    pub messages: u32,
    /// To so many recipients.
    pub recipients: u32,
    /// Who sent it, where that is known, for what is told.
    pub uid: u32,
    /// Where from, zero if unknown, for what is told.
    pub source_port: u16,
    /// [`flags`].
    pub flags: u8,
    /// [`op::REFUSED`]: why, a [`Reason`](crate::verdict::Reason). Else the answer's.
    pub reason: u8,
    /// Where from, zero if unknown, for what is told.
    pub source: Address,

    /// The answer, and the receipt: when it was counted, ns of the kernel's clock.
    pub at_ns: u64,
    /// The answer: the [`span_ns`](crate::limit::LimitDef::span_ns) of the limit that is used up.
    pub limit_span_ns: u64,
    /// The answer: whose limit is used up, [`NOBODY`](crate::abi::NOBODY) if it was none.
    pub limit_owner: u32,
    /// The answer: that limit's `max`.
    pub limit_max: u32,
    /// The receipt: the generations of the tenant and its ancestors, summed.
    pub generation: u32,
    /// The answer: one of [`decision`].
    pub decision: u8,
    /// The answer: that limit's [`Unit`](crate::limit::Unit).
    pub limit_unit: u8,
    /// The answer: that limit's [`Kind`](crate::limit::Kind).
    pub limit_kind: u8,
    /// The receipt: the levels of the tree in which messages were counted, a bit each.
    pub message_levels: u8,
    /// The receipt: the levels of the tree in which recipients were counted, a bit each.
    pub recipient_levels: u8,
    /// The answer: whether refusals of the tenant are carried out.
    pub enforced: u8,
    /// Zero.
    pub reserved: [u8; 6],
}
assert_layout!(Charge, 80, 8);
