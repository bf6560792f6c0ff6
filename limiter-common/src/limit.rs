//! Limits as the kernel reads them: what is limited, and where its state stands.

use crate::{
    assert_layout,
    verdict::{PortGroup, wire_enum},
    window::{Head, Ring, Slot},
};

wire_enum! {
    /// What a limit counts.
    Unit {
        /// Connections that the kernel admits.
        Connections = 0 => "connections",
        /// Messages.
        Messages = 1 => "messages",
        /// Recipients: a message to 300 recipients is 300.
        Recipients = 2 => "recipients",
        /// Different recipients.
        DistinctRecipients = 3 => "distinct_recipients",
    }
}

wire_enum! {
    /// How a limit counts.
    Kind {
        /// At most `max` in any window.
        Window = 0 => "window",
        /// One per interval, at most `max` at once.
        Pace = 1 => "pace",
    }
}

/// How many windows a tenant can have.
pub const MAX_LIMITS: usize = 4;
/// How many paces a tenant can have.
pub const MAX_PACES: usize = 4;
/// How many slots a block holds: the state of one tenant with everything, or of several with less.
pub const BLOCK_SLOTS: usize = MAX_LIMITS + MAX_PACES;

/// One limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct LimitDef {
    /// Window: the width of a bucket (a 32nd of the window). Pace: the interval. Nanoseconds.
    pub span_ns: u64,
    /// Window: the most units in it. Pace: the most at once.
    pub max: u32,
    /// Which of the tenant's slots holds the state.
    pub slot: u8,
    /// A [`Unit`].
    pub unit: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// The [port groups](PortGroup::bit) that count.
    pub groups: u8,
}
assert_layout!(LimitDef, 16, 8);

impl LimitDef {
    /// Whether an attempt of `unit` at a port of `group` counts against this limit.
    #[must_use]
    #[inline(always)]
    pub const fn concerns(&self, unit: Unit, group: PortGroup) -> bool {
        self.unit == unit as u8 && self.groups & group.bit() != 0
    }
}

/// The limits of a tenant. Equal sets are stored once: most tenants share their plan's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct LimitSet {
    /// How many of `defs` count.
    pub count: u64,
    /// The limits.
    pub defs: [LimitDef; BLOCK_SLOTS],
}
assert_layout!(LimitSet, 136, 8);

/// The state of a tenant's limits, or of several small tenants', in slots. What is asked every time
/// stands side by side, so that few places of memory hold it for many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// The heads of the slots.
    pub heads: [Head; BLOCK_SLOTS],
    /// Their pasts.
    pub rings: [Ring; BLOCK_SLOTS],
}
assert_layout!(Block, 1152, 8);

impl Block {
    /// The state at a place below [`BLOCK_SLOTS`].
    ///
    /// # Panics
    ///
    /// There is no such place.
    #[must_use]
    pub const fn slot(&self, place: usize) -> Slot {
        Slot {
            head: self.heads[place],
            ring: self.rings[place],
        }
    }

    /// Writes the state at a place below [`BLOCK_SLOTS`].
    ///
    /// # Panics
    ///
    /// There is no such place.
    pub const fn set_slot(&mut self, place: usize, slot: Slot) {
        self.heads[place] = slot.head;
        self.rings[place] = slot.ring;
    }
}

/// The kernel's spin lock. Its name is what the kernel looks for in the type information.
#[allow(non_camel_case_types, reason = "the kernel knows it by this name")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct bpf_spin_lock {
    /// Only the kernel touches it.
    pub val: u32,
}

/// One lock, under which all tenants of a tree change.
///
/// Trees that were joined since the start share a lock: the one that gave way names the other in
/// `forward`. They never part again while the maps live, which costs a little speed and nothing
/// else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LockCell {
    /// The lock.
    pub lock: bpf_spin_lock,
    /// 0: this lock holds. Otherwise one more than the index of the lock that took its place.
    pub forward: u32,
}
assert_layout!(LockCell, 8, 4);

/// Room for the programs to work in while they hold a lock, one for each CPU.
///
/// What is kept here the verifier does not follow, so that the ways through the levels of a tree
/// meet again instead of multiplying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scratch {
    /// Whose limit is used up.
    pub full_owner: u32,
    /// Which of the owner's limits is used up.
    pub full_limit: u32,
    /// The levels that count the attempt, a bit each.
    pub counting: u32,
    /// 1 if a limit refuses.
    pub refused: u32,
    /// 1 if refusals of the one who asks are carried out.
    pub enforced: u32,
}
assert_layout!(Scratch, 20, 4);
