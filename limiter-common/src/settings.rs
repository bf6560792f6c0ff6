//! What holds for the whole node.

use crate::{
    abi::MAX_CGROUP_DEPTHS, address::Address, assert_layout, smtp::Factors, verdict::PortGroup,
};

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
    /// Some tenant is or was sanctioned: its own sanctions say until when.
    pub const SANCTIONS: u32 = 1 << 4;
    /// Some tenant's whole network is suspended or null-routed: packets of every port are judged.
    pub const SUSPENSIONS: u32 = 1 << 5;
    /// Some tenant is null-routed.
    pub const NULL_ROUTES: u32 = 1 << 6;
    /// Some prefix is blocked.
    pub const BLOCKED: u32 = 1 << 7;
    /// Some tenant limits or paces messages or recipients.
    pub const COUNTS_MAIL: u32 = 1 << 8;
    /// Mailbox connections are limited by client.
    pub const MAILBOX: u32 = 1 << 9;
    /// Some tenant claims interfaces or addresses: whose a container is that no cgroup names, only
    /// the layers behind connect can say.
    pub const CLAIMS_NETWORKS: u32 = 1 << 10;
    /// Whatever was kept of the counts of an earlier boot is in the state of the limits. Nothing is
    /// attached before.
    pub const RESTORED: u32 = 1 << 11;
    /// Surely no program is attached at any uplink: connect need not say anything to it.
    pub const NO_UPLINKS: u32 = 1 << 12;
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
    /// The inode number of the node's own network namespace.
    pub netns: u32,
    /// The most mailbox connections of a client in a window.
    pub mailbox_max: u32,
    /// The depths at which tenants claim cgroups, deepest first, zeros behind them.
    pub cgroup_depths: [u8; MAX_CGROUP_DEPTHS],
    /// Until this moment of the kernel's clock nothing is refused on the whole node, ns.
    pub observe_until_ns: u64,
    /// The address of the MTA's IPv4 listener.
    pub redirect4: Address,
    /// The address of the MTA's IPv6 listener.
    pub redirect6: Address,
    /// The id of the cgroup that everything is attached to: sockets elsewhere on the node are not
    /// this limiter's. 0: the whole tree.
    pub scope_id: u64,
    /// How deep it is.
    pub scope_depth: u32,
    /// Zero.
    pub reserved: u32,
    /// The width of a bucket of the window in which mailbox connections are counted, ns.
    pub mailbox_width_ns: u64,
    /// How long a mailbox client is locked, ns.
    pub mailbox_lock_ns: u64,
    /// How far the programs' clock is ahead of the kernel's, ns. 0 but in tests.
    pub clock_offset_ns: u64,
    /// How messages are estimated where they cannot be read.
    pub factors: Factors,
}
assert_layout!(Settings, 112 + size_of::<Factors>(), 8);

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
