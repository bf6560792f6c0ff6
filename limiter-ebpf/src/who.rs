//! Who is behind an attempt.
//!
//! In this order: the MTA by its user, in the node's own network namespace, even inside a
//! tenant's cgroup (Exim delivers from the submitting process); the nearest cgroup that a tenant
//! claims; the uid, again only in the node's own namespace, where the number means what it says;
//! and, for packets, the interface and then the address.

use aya_ebpf::{
    Global,
    bindings::bpf_sock,
    btf_maps::lpm_trie::Key,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid, generated},
    programs::SockAddrContext,
};
use aya_log_ebpf::debug;
use limiter_common::{
    abi::{DENSE_UIDS, MAX_CGROUP_DEPTHS},
    address::Address,
    flow::InterfaceInfo,
    owner::Owner,
    settings::Settings,
};

use crate::{kernel, maps};

#[unsafe(no_mangle)]
static OFFSET_SOCK_CGROUP: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SOCK_UID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SOCK_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_NET_INUM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_TASK_NSPROXY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_NSPROXY_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_CGROUP_KN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_CGROUP_LEVEL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_CGROUP_ANCESTORS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static ANCESTORS_ARE_POINTERS: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static OFFSET_KERNFS_ID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static HAVE_TYPED: Global<u8> = Global::new(0);

/// The two that answer for an attempt.
#[derive(Clone, Copy)]
pub struct Senders {
    /// Who calls connect().
    pub caller: Owner,
    /// Whose socket it is.
    pub socket: Owner,
    /// Whether the socket lives in the node's own network namespace.
    pub local: bool,
}

/// What tells the two apart, a bit each.
mod sight {
    /// The socket lives in the node's own network namespace.
    pub const LOCAL: u32 = 1;
    /// The task does.
    pub const TASK_LOCAL: u32 = 1 << 1;
    /// Caller and creator are the same: uid and cgroup.
    pub const SAME: u32 = 1 << 2;
    /// All of them.
    pub const ALL: u32 = LOCAL | TASK_LOCAL | SAME;
}

/// Who calls and whose socket it is.
#[inline(always)]
pub fn senders(ctx: &SockAddrContext, settings: &Settings, now_ns: u64) -> Senders {
    // The kernel's clock never comes to the bits that are mixed in: to the verifier they are unknown,
    // and all ways are one from here on.
    let bits = look(ctx, settings) ^ ((now_ns >> 61) as u32 & sight::ALL);
    let caller = limiter_caller(current_uid(), bits & !sight::SAME);
    let socket = if bits & sight::SAME != 0 {
        caller
    } else {
        creator(ctx, bits & sight::LOCAL)
    };
    Senders {
        caller: Owner::from_wire(caller),
        socket: Owner::from_wire(socket),
        local: bits & sight::LOCAL != 0,
    }
}

/// The caller's uid in the initial user namespace.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the uid is the lower half")]
fn current_uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// What there is to see of socket and task, as [`sight`]. A frame of its own.
#[inline(never)]
fn look(ctx: &SockAddrContext, settings: &Settings) -> u32 {
    if HAVE_TYPED.load() != 0
        && let Some(bits) = typed::look(ctx, settings)
    {
        return bits;
    }
    let socket = Socket::of(socket_of(ctx));
    let (net, task_net) = (socket.net(), task_net());
    let inum = inum_of(net);
    let task_inum = if task_net == net {
        inum
    } else {
        inum_of(task_net)
    };
    bits(settings, inum, task_inum, socket.uid(), socket.cgroup_id())
}

/// [`sight`] of what was found.
#[inline(always)]
fn bits(settings: &Settings, inum: u32, task_inum: u32, uid: u32, cgroup_id: u64) -> u32 {
    // SAFETY: takes nothing.
    let same_cgroup = cgroup_id == 0 || cgroup_id == unsafe { bpf_get_current_cgroup_id() };
    let mut bits = 0;
    if inum == settings.netns {
        bits |= sight::LOCAL;
    }
    if task_inum == settings.netns {
        bits |= sight::TASK_LOCAL;
    }
    if same_cgroup && uid == current_uid() {
        bits |= sight::SAME;
    }
    bits
}

/// The same by pointers of which the verifier knows what they point to: they are followed by plain
/// loads, without a helper for each, where the kernel gives them.
mod typed {
    use super::{
        OFFSET_CGROUP_KN, OFFSET_KERNFS_ID, OFFSET_NET_INUM, OFFSET_NSPROXY_NET,
        OFFSET_SOCK_CGROUP, OFFSET_SOCK_NET, OFFSET_SOCK_UID, OFFSET_TASK_NSPROXY, Settings,
        SockAddrContext, generated, socket_of,
    };

    /// What there is to see; `None` of a socket that is not plainly TCP.
    #[inline(always)]
    pub fn look(ctx: &SockAddrContext, settings: &Settings) -> Option<u32> {
        // SAFETY: the socket of the context. The kernel gives null for what is no TCP socket; what is
        // behind the others is read where its type says, and what is not mapped reads as zero.
        unsafe {
            let socket: *const u8 = generated::bpf_skc_to_tcp_sock(socket_of(ctx).cast())
                .cast_const()
                .cast();
            if socket.is_null() {
                return None;
            }
            let task: *const u8 = generated::bpf_get_current_task_btf().cast_const().cast();
            let proxy: *const u8 = load(task, OFFSET_TASK_NSPROXY.load());
            let task_net: *const u8 = load(proxy, OFFSET_NSPROXY_NET.load());
            let net: *const u8 = load(socket, OFFSET_SOCK_NET.load());
            let cgroup: *const u8 = load(socket, OFFSET_SOCK_CGROUP.load());
            let node: *const u8 = load(cgroup, OFFSET_CGROUP_KN.load());
            Some(super::bits(
                settings,
                load(net, OFFSET_NET_INUM.load()),
                load(task_net, OFFSET_NET_INUM.load()),
                load(socket, OFFSET_SOCK_UID.load()),
                load(node, OFFSET_KERNFS_ID.load()),
            ))
        }
    }

    /// What stands there.
    ///
    /// # Safety
    ///
    /// The verifier knows what `pointer` points to, and that a `T` stands there.
    #[inline(always)]
    unsafe fn load<T: Copy>(pointer: *const u8, offset: u32) -> T {
        // SAFETY: as the caller promises.
        unsafe { core::ptr::read_volatile(pointer.add(offset as usize).cast()) }
    }
}

/// Whose the context's socket is: its creator's. A frame of its own.
#[inline(never)]
fn creator(ctx: &SockAddrContext, local: u32) -> u32 {
    let socket = Socket::of(socket_of(ctx));
    limiter_creator(socket.uid(), socket.cgroup(), local)
}

/// [`current_owner`] as a function that the verifier looks at once: `places` has a bit for the socket
/// and one for the task that live in the node's own network namespace.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_caller(uid: u32, places: u32) -> u32 {
    maps::SETTINGS.get(0).map_or(0, |settings| {
        current_owner(uid, places & 1 != 0, places & 2 != 0, settings).to_wire()
    })
}

/// [`owner_of`] as a function that the verifier looks at once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_creator(uid: u32, cgroup: u64, local: u32) -> u32 {
    maps::SETTINGS.get(0).map_or(0, |settings| {
        owner_of(uid, cgroup, local != 0, settings).to_wire()
    })
}

/// A line for whoever debugs. The verifier leaves it out unless the agent turned it on. A frame of
/// its own: the caller's has no room.
#[inline(never)]
pub fn trace(port: u16, caller: Owner, socket: Owner) {
    // The line does not use it.
    let ctx = SockAddrContext::new(core::ptr::null_mut());
    debug!(
        &ctx,
        "port {}: caller {} socket {}",
        port,
        caller.to_wire(),
        socket.to_wire()
    );
}

/// The depths at which cgroups are claimed, deepest first. Eight are read at once: while claims
/// move, the list shifts, and read one by one an attempt could miss its own.
struct Depths<'a> {
    settings: &'a Settings,
    word: u64,
    place: usize,
}

impl<'a> Depths<'a> {
    #[inline(always)]
    fn of(settings: &'a Settings) -> Self {
        Self {
            settings,
            word: 0,
            place: 0,
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a byte of it")]
    fn next(&mut self) -> Option<u8> {
        if self.place >= MAX_CGROUP_DEPTHS {
            return None;
        }
        if self.place.is_multiple_of(8) {
            let words = (&raw const self.settings.cgroup_depths).cast::<u64>();
            // SAFETY: in bounds, and at a multiple of eight in a map value. Volatile: read once.
            let word = unsafe { core::ptr::read_volatile(words.add(self.place / 8)) };
            self.word = u64::from_le(word);
        }
        let depth = self.word as u8;
        self.word >>= 8;
        self.place += 1;
        (depth != 0).then_some(depth)
    }
}

const _: () = assert!(
    core::mem::offset_of!(Settings, cgroup_depths) % 8 == 0 && MAX_CGROUP_DEPTHS == 16,
    "the depths are two words"
);

/// Whose the current task is. `local`: its socket lives in the node's own network namespace;
/// `task_local`: the task does.
#[inline(always)]
fn current_owner(uid: u32, local: bool, task_local: bool, settings: &Settings) -> Owner {
    let by_uid = if task_local {
        uid_owner(uid)
    } else {
        Owner::NOBODY
    };
    if by_uid == Owner::MTA {
        // The node's MTA has no business in other namespaces.
        return if local { Owner::MTA } else { Owner::NOBODY };
    }
    let mut depths = Depths::of(settings);
    while let Some(depth) = depths.next() {
        // SAFETY: takes a number; 0 comes back for a task that is not that deep.
        let id = unsafe { generated::bpf_get_current_ancestor_cgroup_id(i32::from(depth)) };
        let owner = cgroup_owner(id);
        if owner != Owner::NOBODY {
            return owner;
        }
    }
    by_uid
}

/// A socket in kernel memory; none is at 0.
#[derive(Clone, Copy)]
pub struct Socket(u64);

impl Socket {
    /// The socket behind a pointer of the context's, of any kind: MPTCP and raw ones too.
    #[inline(always)]
    pub fn of(socket: *const bpf_sock) -> Self {
        Self(kernel::address_of(socket))
    }

    /// The address of its network namespace, 0 if it cannot be read.
    #[inline(always)]
    fn net(self) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        kernel::read(self.0 + u64::from(OFFSET_SOCK_NET.load())).unwrap_or(0)
    }

    /// Whether it lives in the node's own network namespace.
    #[inline(always)]
    pub fn is_local(self, settings: &Settings) -> bool {
        inum_of(self.net()) == settings.netns
    }

    /// The uid of its creator in the initial user namespace, `u32::MAX` if it cannot be read.
    #[inline(always)]
    pub fn uid(self) -> u32 {
        kernel::read(self.0 + u64::from(OFFSET_SOCK_UID.load())).unwrap_or(u32::MAX)
    }

    /// The address of the cgroup of its creator, 0 if there is none.
    #[inline(always)]
    fn cgroup(self) -> u64 {
        let cgroup: u64 = kernel::read(self.0 + u64::from(OFFSET_SOCK_CGROUP.load())).unwrap_or(0);
        // Before 5.15 the lowest bit says that no cgroup is kept here but a network class.
        if cgroup & 1 != 0 { 0 } else { cgroup }
    }

    /// The id of the cgroup of its creator, 0 if it cannot be read.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        match self.cgroup() {
            0 => 0,
            cgroup => cgroup_id(cgroup),
        }
    }

    /// Whether it is of the part of the cgroup tree that this limiter is attached to.
    #[inline(always)]
    pub fn is_in_scope(self, settings: &Settings) -> bool {
        if settings.scope_id == 0 {
            return true;
        }
        let cgroup = self.cgroup();
        if cgroup == 0 {
            return true;
        }
        let level: u32 = kernel::read(cgroup + u64::from(OFFSET_CGROUP_LEVEL.load())).unwrap_or(0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as deep as cgroups can be claimed"
        )]
        let depth = settings.scope_depth as u8;
        u32::from(depth) <= level && ancestor_id(cgroup, depth) == settings.scope_id
    }

    /// Whose it is: its creator's.
    #[inline(always)]
    pub fn owner(self, local: bool, settings: &Settings) -> Owner {
        if self.0 == 0 {
            return Owner::NOBODY;
        }
        owner_of(self.uid(), self.cgroup(), local, settings)
    }
}

/// Whose a socket is that `uid` made in the cgroup at `cgroup`.
#[inline(always)]
fn owner_of(uid: u32, cgroup: u64, local: bool, settings: &Settings) -> Owner {
    let by_uid = if local { uid_owner(uid) } else { Owner::NOBODY };
    if by_uid == Owner::MTA {
        return Owner::MTA;
    }
    if cgroup != 0 {
        let level: u32 = kernel::read(cgroup + u64::from(OFFSET_CGROUP_LEVEL.load())).unwrap_or(0);
        let mut depths = Depths::of(settings);
        while let Some(depth) = depths.next() {
            if u32::from(depth) <= level {
                let owner = cgroup_owner(ancestor_id(cgroup, depth));
                if owner != Owner::NOBODY {
                    return owner;
                }
            }
        }
    }
    by_uid
}

/// Whether a socket is a program's, and not what stands for one in a tap.
#[inline(always)]
pub fn is_program(socket: *const bpf_sock) -> bool {
    // SAFETY: a field of a whole socket that programs may read.
    unsafe { core::ptr::read_volatile(&raw const (*socket).family) != 0 }
}

/// The socket in the context.
#[inline(always)]
pub fn socket_of(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context is the one this program was called with; the union has one member.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The address of the current task's network namespace, 0 if it cannot be read.
#[inline(always)]
fn task_net() -> u64 {
    // SAFETY: takes nothing.
    let task = unsafe { generated::bpf_get_current_task() };
    kernel::read(task + u64::from(OFFSET_TASK_NSPROXY.load()))
        .and_then(|nsproxy: u64| kernel::read(nsproxy + u64::from(OFFSET_NSPROXY_NET.load())))
        .unwrap_or(0)
}

/// The inode number of the network namespace at `net`, 0 if it cannot be read.
#[inline(always)]
fn inum_of(net: u64) -> u32 {
    if net == 0 {
        return 0;
    }
    kernel::read(net + u64::from(OFFSET_NET_INUM.load())).unwrap_or(0)
}

/// The id of the cgroup at `cgroup`, 0 if it cannot be read.
#[inline(always)]
fn cgroup_id(cgroup: u64) -> u64 {
    kernel::read(cgroup + u64::from(OFFSET_CGROUP_KN.load()))
        .and_then(|node: u64| kernel::read(node + u64::from(OFFSET_KERNFS_ID.load())))
        .unwrap_or(0)
}

/// The id of the ancestor at `depth` of the cgroup at `cgroup`, which is at least that deep.
#[inline(always)]
fn ancestor_id(cgroup: u64, depth: u8) -> u64 {
    let place = cgroup + u64::from(OFFSET_CGROUP_ANCESTORS.load()) + u64::from(depth) * 8;
    let entry: u64 = kernel::read(place).unwrap_or(0);
    if ANCESTORS_ARE_POINTERS.load() != 0 {
        cgroup_id(entry)
    } else {
        entry
    }
}

/// Who claims the cgroup with this id.
#[inline(always)]
fn cgroup_owner(id: u64) -> Owner {
    if id == 0 {
        return Owner::NOBODY;
    }
    // SAFETY: the value is read at once; a slot reused meanwhile holds another tenant's index,
    // as if the cgroup had been claimed a moment earlier.
    unsafe { maps::CGROUPS.get(id) }.map_or(Owner::NOBODY, |wire| Owner::from_wire(*wire))
}

/// Who claims this uid.
#[inline(always)]
fn uid_owner(uid: u32) -> Owner {
    let wire = if uid < DENSE_UIDS {
        maps::UIDS.get(uid)
    } else {
        maps::UID_RANGES.get(&Key::new(32, uid.to_be_bytes()))
    };
    wire.map_or(Owner::NOBODY, |wire| Owner::from_wire(*wire))
}

/// What is known of an interface.
#[inline(always)]
pub fn interface(index: u32) -> InterfaceInfo {
    if index == 0 {
        return InterfaceInfo::default();
    }
    // SAFETY: copied at once; see `cgroup_owner`.
    unsafe { maps::INTERFACES.get(index) }.map_or(InterfaceInfo::default(), |info| *info)
}

/// Who claims an address.
#[inline(always)]
pub fn address_owner(address: &Address) -> Owner {
    let wire = maps::ADDRESSES.get(&Key::new(128, *address));
    wire.map_or(Owner::NOBODY, |wire| Owner::from_wire(*wire))
}
