//! What holds for the whole node.

use crate::{abi::MAX_CGROUP_DEPTHS, address::Address, assert_layout, verdict::PortGroup};

/// Bits of [`Settings::flags`].
pub mod flags {
    /// `mode: enforce` on the node: what fails is refused. Otherwise it is only alarmed.
    pub const ENFORCE: u32 = 1;
    /// Connections from other network namespaces count at connect, because no layer behind it
    /// sees their packets.
    pub const COUNT_EVERYWHERE: u32 = 1 << 1;
    /// Set 0 of the exempt destinations, everybody's, is not empty.
    pub const EXEMPT: u32 = 1 << 2;
    /// Allowed attempts are recorded.
    pub const RECORD_ALLOWED: u32 = 1 << 3;
}

/// The node's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`flags`].
    pub flags: u32,
    /// The port of the MTA's IPv4 listener in host order, 0 for none.
    pub redirect4_port: u16,
    /// The port of the MTA's IPv6 listener in host order, 0 for none.
    pub redirect6_port: u16,
    /// The cookie of the node's own network namespace.
    pub netns_cookie: u64,
    /// The depths at which tenants claim cgroups, deepest first, zeros behind them.
    pub cgroup_depths: [u8; MAX_CGROUP_DEPTHS],
    /// Until this moment of the kernel's clock nothing is refused on the whole node, ns.
    pub observe_until_ns: u64,
    /// The address of the MTA's IPv4 listener.
    pub redirect4: Address,
    /// The address of the MTA's IPv6 listener.
    pub redirect6: Address,
}
assert_layout!(Settings, 72, 8);

/// How many ports there are.
pub const PORT_COUNT: usize = 65536;

/// The group of every port, as [`PortGroup`] values.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PortTable {
    /// By port number in host order.
    pub groups: [u8; PORT_COUNT],
}
assert_layout!(PortTable, PORT_COUNT, 1);

impl PortTable {
    /// The table in which no port belongs to a group.
    pub const EMPTY: Self = Self {
        groups: [PortGroup::Other as u8; PORT_COUNT],
    };
}
