//! Names and numbers that both sides must agree on to find each other.

/// The layout version of everything pinned. It is part of the pin path, so that an agent never
/// mistakes the maps of another version for its own. Raise it whenever a layout here changes.
pub const VERSION: u32 = 5;

/// Uids below this are looked up in one dense array; those above (sub-uid ranges, mostly) in a
/// trie of prefixes.
pub const DENSE_UIDS: u32 = 1 << 18;

/// The tenant index of the node itself: the root of every tree, holding the node's own limits.
pub const NODE: u32 = 0;
/// The tenant index of whatever nobody claims.
pub const DEFAULT: u32 = 1;
/// The first index that a configured tenant can have.
pub const FIRST_TENANT: u32 = 2;
/// "No tenant", where an index is expected.
pub const NOBODY: u32 = u32::MAX;

/// Trees are at most this deep (reseller, customer, domain and one more), the node not included.
pub const MAX_DEPTH: usize = 4;
/// The deepest level of the cgroup tree at which a tenant's cgroup can be claimed.
pub const MAX_CGROUP_DEPTH: u32 = 63;
/// At how many different depths cgroups can be claimed on one node.
pub const MAX_CGROUP_DEPTHS: usize = 16;
/// The longest tenant name, in bytes.
pub const MAX_TENANT_NAME: usize = 127;

/// Names of the maps in the kernel object, which are also the names of their pins.
pub mod maps {
    /// `Array<Tenant>`: the policy of each tenant.
    pub const TENANTS: &str = "TENANTS";
    /// `Array<Stats>`: counters and the state of the current episode, by tenant.
    pub const STATS: &str = "STATS";
    /// `Array<LimitSet>`: interned sets of limits.
    pub const LIMIT_SETS: &str = "LIMIT_SETS";
    /// `Array<Block>`: the state of limits.
    pub const BLOCKS: &str = "BLOCKS";
    /// `Array<LockCell>`: one lock per tree.
    pub const LOCKS: &str = "LOCKS";
    /// `Array<u32>`: encoded owner by uid, for uids below [`DENSE_UIDS`](super::DENSE_UIDS).
    pub const UIDS: &str = "UIDS";
    /// `LpmTrie<u32, u32>`: encoded owner by uid prefix, for the uids above.
    pub const UID_RANGES: &str = "UID_RANGES";
    /// `HashMap<u64, u32>`: encoded owner by cgroup id.
    pub const CGROUPS: &str = "CGROUPS";
    /// `HashMap<[u8; 16], u32>`: the node's own addresses.
    pub const OWN_ADDRESSES: &str = "OWN_ADDRESSES";
    /// `Array<u64>`: what [`OWN_ADDRESSES`] could hold at all, a bit each.
    pub const OWN_FILTER: &str = "OWN_FILTER";
    /// `LpmTrie<ExemptKey, ExemptPorts>`: destinations that are exempt, by set.
    pub const EXEMPT: &str = "EXEMPT";
    /// `Array<PortTable>`, one entry: the port group of every port.
    pub const PORTS: &str = "PORTS";
    /// `Array<Settings>`, one entry.
    pub const SETTINGS: &str = "SETTINGS";
    /// `PerCpuArray<Health>`, one entry: what went wrong, counted.
    pub const HEALTH: &str = "HEALTH";
    /// `PerCpuArray<Scratch>`, one entry: room to work in under a lock.
    pub const SCRATCH: &str = "SCRATCH";
    /// `RingBuf<Event>`: refused, redirected and would-be-refused attempts.
    pub const EVENTS: &str = "EVENTS";
    /// `RingBuf<Attempt>`: allowed attempts, compactly.
    pub const ATTEMPTS: &str = "ATTEMPTS";
    /// `HashMap<TenantName, u32>`: which index belongs to which tenant. Only the agent reads it.
    pub const NAMES: &str = "NAMES";

    /// `HashMap<u32, InterfaceInfo>`: whose an interface is and what sees its traffic, by index.
    pub const INTERFACES: &str = "INTERFACES";
    /// `LpmTrie<Address, u32>`: encoded owner by address prefix, IPv4 mapped.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// `LpmTrie<Address, u32>`: prefixes that stay reachable while a network is suspended.
    pub const MANAGEMENT: &str = "MANAGEMENT";
    /// `LpmTrie<Address, u32>`: prefixes refused in both directions.
    pub const BLOCKED: &str = "BLOCKED";
    /// `Array<u64>`: what [`blocked`](crate::blocked) could match at all, a bit each.
    pub const BLOCKED_FILTER: &str = "BLOCKED_FILTER";
    /// `LruHashMap<FlowKey, Flow>`: connections that packet layers judged.
    pub const FLOWS: &str = "FLOWS";
    /// `SkStorage<SocketState>`: what the packet layers remember of a socket of this node.
    pub const SOCKETS: &str = "SOCKETS";
    /// `Array<Mark>`: connections on their way from connect to the uplink.
    pub const MARKS: &str = "MARKS";
    /// `Array<Sanctions>`: each tenant's own sanctions, by index. Only the agent reads it.
    pub const SANCTIONS: &str = "SANCTIONS";
    /// `LruHashMap<Address, Client>`: mailbox connections by client.
    pub const CLIENTS: &str = "CLIENTS";
    /// `Array<LockCell>`: the locks under which [`CLIENTS`] change.
    pub const CLIENT_LOCKS: &str = "CLIENT_LOCKS";
    /// `LruHashMap<Address, u64>`: locked mailbox clients, and until when, ns of the kernel's clock.
    pub const LOCKED: &str = "LOCKED";
    /// `LruHashMap<DepartureKey, Departure>`: connections on their way from a guest to the uplink. Not
    /// pinned: it is over in a moment.
    pub const DEPARTURES: &str = "DEPARTURES";

    /// `LruHashMap<VisitKey, u32>`: by which interface a guest began a connection to a mail port of this
    /// node.
    pub const VISITS: &str = "VISITS";

    /// What is pinned.
    pub const ALL: &[&str] = &[
        TENANTS,
        STATS,
        LIMIT_SETS,
        BLOCKS,
        LOCKS,
        UIDS,
        UID_RANGES,
        CGROUPS,
        OWN_ADDRESSES,
        OWN_FILTER,
        EXEMPT,
        PORTS,
        SETTINGS,
        HEALTH,
        EVENTS,
        ATTEMPTS,
        NAMES,
        INTERFACES,
        ADDRESSES,
        MANAGEMENT,
        BLOCKED,
        BLOCKED_FILTER,
        FLOWS,
        SOCKETS,
        MARKS,
        SANCTIONS,
        CLIENTS,
        CLIENT_LOCKS,
        LOCKED,
        VISITS,
    ];
}

/// Names of the programs in the kernel object.
pub mod programs {
    /// `cgroup/connect4`.
    pub const CONNECT4: &str = "limiter_connect4";
    /// `cgroup/connect6`.
    pub const CONNECT6: &str = "limiter_connect6";
    /// `cgroup_skb/egress`: the socket layer.
    pub const SOCKET: &str = "limiter_socket";
    /// `classifier` at the ingress of Ethernet interfaces that lead to guests.
    pub const GUEST: &str = "limiter_guest";
    /// As [`GUEST`], for interfaces without link-layer headers.
    pub const GUEST_L3: &str = "limiter_guest_l3";
    /// `classifier` at the egress of Ethernet interfaces that lead out.
    pub const UPLINK: &str = "limiter_uplink";
    /// As [`UPLINK`], for interfaces without link-layer headers.
    pub const UPLINK_L3: &str = "limiter_uplink_l3";
    /// `xdp` on Ethernet uplinks: null routes, blocked prefixes, locked mailbox clients.
    pub const EDGE: &str = "limiter_edge";
    /// As [`EDGE`], `classifier` at the ingress, where XDP cannot be attached.
    pub const EDGE_TC: &str = "limiter_edge_tc";
    /// As [`EDGE_TC`], for interfaces without link-layer headers.
    pub const EDGE_TC_L3: &str = "limiter_edge_tc_l3";
    /// `sock_ops`: counts completed mailbox handshakes.
    pub const MAILBOX: &str = "limiter_mailbox";
    /// Behind the names of those that read sessions: the same without `bpf_loop`, which the kernel has
    /// since 5.17. They estimate.
    pub const PLAIN: &str = "_plain";
    /// `classifier`, never attached: run by the agent to change state under the kernel's lock.
    pub const COMMAND: &str = "limiter_command";
    /// `classifier`, never attached: run by the agent to count mail that enters through the node's own
    /// mail server.
    pub const CHARGE: &str = "limiter_charge";
}

/// Names of the globals that the agent sets before loading.
pub mod globals {
    /// Offset of `sock.sk_cgrp_data` (where the socket's cgroup is), bytes.
    pub const SOCK_CGROUP: &str = "OFFSET_SOCK_CGROUP";
    /// Offset of `sock.sk_uid`, bytes.
    pub const SOCK_UID: &str = "OFFSET_SOCK_UID";
    /// Offset of `cgroup.kn`, bytes.
    pub const CGROUP_KN: &str = "OFFSET_CGROUP_KN";
    /// Offset of `cgroup.level`, bytes.
    pub const CGROUP_LEVEL: &str = "OFFSET_CGROUP_LEVEL";
    /// Offset of `cgroup.ancestors` or `cgroup.ancestor_ids`, bytes.
    pub const CGROUP_ANCESTORS: &str = "OFFSET_CGROUP_ANCESTORS";
    /// 1 where `cgroup.ancestors` holds pointers, 0 where `ancestor_ids` holds ids.
    pub const ANCESTORS_ARE_POINTERS: &str = "ANCESTORS_ARE_POINTERS";
    /// Offset of `kernfs_node.id`, bytes.
    pub const KERNFS_ID: &str = "OFFSET_KERNFS_ID";
    /// Offset of `sock.__sk_common.skc_net` (the socket's network namespace), bytes.
    pub const SOCK_NET: &str = "OFFSET_SOCK_NET";
    /// Offset of `net.ns.inum` (the namespace's inode number), bytes.
    pub const NET_INUM: &str = "OFFSET_NET_INUM";
    /// Offset of the byte with `sk_buff.ip_summed`, bytes.
    pub const SKB_SUMMED: &str = "OFFSET_SKB_SUMMED";
    /// The lowest bit of `sk_buff.ip_summed` in its byte.
    pub const SKB_SUMMED_SHIFT: &str = "SHIFT_SKB_SUMMED";
    /// Offset of `sk_buff.csum_start`, with `csum_offset` behind it, bytes.
    pub const SKB_CSUM_START: &str = "OFFSET_SKB_CSUM_START";
    /// Offset of `sk_buff.head`, with `data` behind it, bytes.
    pub const SKB_HEAD: &str = "OFFSET_SKB_HEAD";
    /// `sk_buff._skb_refdst`.
    pub const SKB_ROUTE: &str = "OFFSET_SKB_ROUTE";
    /// `sk_buff.dev`.
    pub const SKB_DEV: &str = "OFFSET_SKB_DEV";
    /// `dst_entry.dev`.
    pub const ROUTE_DEV: &str = "OFFSET_ROUTE_DEV";
    /// `net_device.nd_net`.
    pub const DEV_NET: &str = "OFFSET_DEV_NET";
    /// `net_device.rx_handler`.
    pub const DEV_RX_HANDLER: &str = "OFFSET_DEV_RX_HANDLER";
    /// Offset of `task_struct.nsproxy`, bytes.
    pub const TASK_NSPROXY: &str = "OFFSET_TASK_NSPROXY";
    /// Offset of `nsproxy.net_ns`, bytes.
    pub const NSPROXY_NET: &str = "OFFSET_NSPROXY_NET";
    /// 1 where programs at connect get pointers with types to the current task and to TCP sockets
    /// (5.17 and later).
    pub const HAVE_TYPED: &str = "HAVE_TYPED";
    /// 1 where `bpf_xdp_load_bytes` exists (5.18 and later).
    pub const HAVE_XDP_LOAD: &str = "HAVE_XDP_LOAD";
    /// 1 where `bpf_ktime_get_coarse_ns` exists (5.11 and later).
    pub const HAVE_COARSE_CLOCK: &str = "HAVE_COARSE_CLOCK";
    /// The aya-log level up to which the programs write debugging lines: 0 is off, 4 is debug.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
}
