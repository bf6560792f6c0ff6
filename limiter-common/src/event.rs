//! What the kernel tells the agent about single attempts.

use crate::{address::Address, assert_layout};

/// Length of a task's name, its terminating zero included.
pub const COMM_LEN: usize = 16;

/// Bits of [`Event::flags`].
pub mod flags {
    /// `pid`, `uid` and `comm` are of the caller; without it they are unknown.
    pub const HAS_TASK: u8 = 1;
    /// The source address is known.
    pub const HAS_SOURCE: u8 = 1 << 1;
    /// The caller is in another network namespace than the node's.
    pub const FOREIGN_NAMESPACE: u8 = 1 << 2;
    /// `uid` and `cgroup_id` are of the socket's creator, seen at a packet layer.
    pub const HAS_SOCKET: u8 = 1 << 3;
    /// What was counted is an estimate: the session could not be read.
    pub const ESTIMATED: u8 = 1 << 4;
}

/// A refused, redirected or would-be-refused attempt, and those like it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When, ns of the kernel's monotonic clock.
    pub time_ns: u64,
    /// How many attempts this event stands for, itself included.
    pub repeated: u64,
    /// How many attempts of the tenant were not simply allowed since it was created, this one
    /// included. What grew since the last event that arrived is what this one stands for, even if
    /// events between were lost.
    pub total: u64,
    /// The caller's cgroup.
    pub cgroup_id: u64,
    /// The limit's [`span_ns`](crate::limit::LimitDef::span_ns); 0 if no limit was involved.
    pub limit_span_ns: u64,
    /// The tenant who pays for it.
    pub tenant: u32,
    /// The tenant whose limit is used up: `tenant` or an ancestor.
    pub limit_owner: u32,
    /// The limit's `max`, or the pace's burst.
    pub limit_max: u32,
    /// The caller's uid in the initial user namespace.
    pub uid: u32,
    /// The caller's process id in the initial PID namespace.
    pub pid: u32,
    /// The interface, 0 if unknown.
    pub interface: u32,
    /// Source port in host order, 0 if unknown.
    pub source_port: u16,
    /// Destination port in host order.
    pub destination_port: u16,
    /// A [`Verdict`](crate::verdict::Verdict).
    pub verdict: u8,
    /// A [`Reason`](crate::verdict::Reason).
    pub reason: u8,
    /// A [`Layer`](crate::verdict::Layer).
    pub layer: u8,
    /// [`flags`].
    pub flags: u8,
    /// The limit's [`Unit`](crate::limit::Unit).
    pub limit_unit: u8,
    /// The limit's [`Kind`](crate::limit::Kind).
    pub limit_kind: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// The caller's name.
    pub comm: [u8; COMM_LEN],
    /// Source address, zero if unknown.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}
assert_layout!(Event, 128, 8);

/// Bits of [`Attempt::flags`].
pub mod attempt_flags {
    /// Where an attempt left from, which was told before by a record of the same moment: no
    /// attempt of its own. Its source is what the world saw, behind all address translation of
    /// this node. Who called is not known.
    pub const DEPARTURE: u8 = 1;
}

/// An allowed attempt, kept for matching complaints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Attempt {
    /// When it was judged, ns of the kernel's monotonic clock.
    pub time_ns: u64,
    /// The tenant who paid for it.
    pub tenant: u32,
    /// The caller's uid.
    pub uid: u32,
    /// The caller's process id.
    pub pid: u32,
    /// Destination port in host order.
    pub destination_port: u16,
    /// Source port in host order, 0 if it has none yet.
    pub source_port: u16,
    /// A [`Layer`](crate::verdict::Layer).
    pub layer: u8,
    /// [`attempt_flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// Source address, zero if it has none yet.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}
assert_layout!(Attempt, 64, 8);
