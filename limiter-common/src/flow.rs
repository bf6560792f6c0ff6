//! What the packet layers remember: of interfaces, of connections that no socket of this node
//! stands for, and of sockets.

use crate::{address::Address, assert_layout, smtp::Session};

/// Whose an interface is, and who sees its traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InterfaceInfo {
    /// The encoded [`Owner`](crate::owner::Owner) of what comes in there.
    pub owner: u32,
    /// [`interface_flags`].
    pub flags: u32,
}
assert_layout!(InterfaceInfo, 8, 4);

/// Bits of [`InterfaceInfo::flags`].
pub mod interface_flags {
    /// What was forwarded from there was judged when it came in.
    pub const JUDGED: u32 = 1;
    /// What goes out there surely passes the uplink layer.
    pub const COVERED: u32 = 1 << 1;
    /// It is a port of a bridge of this node, itself or by what it is a part of.
    pub const BRIDGED: u32 = 1 << 2;
}

/// The mark that the guest layer leaves on a packet (`tc_index`) that it judged as mail. The uplink
/// lets a marked packet go that was forwarded from a [`JUDGED`](interface_flags::JUDGED) interface,
/// whatever its addresses were rewritten to in between. The guest layer removes any other mark. No
/// frame carries one; but the root of a namespace with a macvlan or ipvlan interface on an uplink
/// can set any by its own traffic control, and packets come out of there with it. So the uplink
/// minds a mark only in what this node itself forwarded.
pub const JUDGED_MARK: u32 = 0x11a7;

/// As [`JUDGED_MARK`], on the first packet of a connection: the uplink also tells where it leaves
/// from. The two differ in the lowest bit.
pub const DEPARTS_MARK: u32 = JUDGED_MARK & !1;

/// Whether a mark says that the packet was judged.
#[must_use]
#[inline(always)]
pub const fn is_judged(mark: u32) -> bool {
    mark | 1 == JUDGED_MARK
}

/// A first packet, by what address translation leaves as it is: nobody guesses the number of
/// another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DepartureKey {
    /// Destination address.
    pub destination: Address,
    /// Its sequence number.
    pub isn: u32,
    /// Destination port in host order.
    pub destination_port: u16,
    /// Zero.
    pub reserved: u16,
}
assert_layout!(DepartureKey, 24, 4);

/// Whose a first packet is that is on its way to the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Departure {
    /// When it was judged, ns of the kernel's clock.
    pub since_ns: u64,
    /// Who paid for it.
    pub tenant: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Departure, 16, 8);

/// A connection from a guest to a mail port of this node, by what the node's own mail server knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct VisitKey {
    /// Source address.
    pub source: Address,
    /// Source port in host order.
    pub source_port: u16,
    /// Destination port in host order.
    pub destination_port: u16,
}
assert_layout!(VisitKey, 20, 2);

/// A connection as a packet layer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port in host order.
    pub source_port: u16,
    /// Destination port in host order.
    pub destination_port: u16,
    /// The tenant that pays. Addresses can be forged: nobody can pass for another tenant's
    /// connection, and a tenant's are its own by whatever interface they come.
    pub payer: u32,
}
assert_layout!(FlowKey, 40, 4);

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// It was refused.
    pub const REFUSED: u32 = 1;
    /// More than the first packet was seen: another SYN is another attempt.
    pub const PROGRESSED: u32 = 1 << 1;
    /// The session is cut: a limit was used up.
    pub const CUT: u32 = 1 << 2;
    /// Its refusal, or that it would be refused, was told.
    pub const TOLD: u32 = 1 << 3;
    /// Of a socket: connect saw that it goes to a port for mail.
    pub const CONNECTED: u32 = 1 << 4;
    /// Of a socket: where it leaves from is still to be told.
    pub const DEPARTS: u32 = 1 << 5;
}

/// How long repeated first packets of one connection count as one attempt, ns: longer than any
/// system goes on repeating them.
pub const RETRY_NS: u64 = 180_000_000_000;

/// What is remembered of a connection. Its loss opens nothing: a connection that is not remembered
/// is a new attempt, a session that is not remembered is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// When its first packet came, ns of the kernel's clock.
    pub since_ns: u64,
    /// The sequence number of its first packet.
    pub isn: u32,
    /// [`flow_flags`].
    pub flags: u32,
    /// Who paid for it.
    pub tenant: u32,
    /// Zero.
    pub reserved: u32,
    /// What it said.
    pub session: Session,
}
assert_layout!(Flow, 24 + size_of::<Session>(), 8);

/// What is remembered of a socket of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketState {
    /// [`flow_flags`].
    pub flags: u64,
    /// When connect judged it, ns of the kernel's clock.
    pub since_ns: u64,
    /// Who paid for it then.
    pub tenant: u32,
    /// Zero.
    pub reserved: u32,
    /// What it said.
    pub session: Session,
}
assert_layout!(SocketState, 24 + size_of::<Session>(), 8);
