//! The connect layer: `cgroup/connect4` and `connect6`. The fast, friendly answer: EPERM from
//! connect() itself, or the local MTA instead of the world.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use limiter_common::{
    abi::NOBODY,
    address::{self, Address},
    event,
    flow::flow_flags,
    owner::{Owner, Parties},
    settings::{self, Settings},
    verdict::{Layer, PortGroup, Reason, Verdict},
};

use crate::{
    blocked,
    judge::{Decision, Judgement, Question, ask, judge},
    kernel, maps, marks,
    report::{self, Facts},
    who,
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const SOCK_STREAM: u32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn limiter_connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: fields of the context that this hook may read.
    let octets = unsafe { (*ctx.sock_addr).user_ip4 }.to_ne_bytes();
    judge_connect::<false>(&ctx, address::from_v4(octets))
}

#[cgroup_sock_addr(connect6)]
pub fn limiter_connect6(ctx: SockAddrContext) -> i32 {
    let mut destination = [0_u8; 16];
    // SAFETY: as above; the words are in network order, so their bytes in memory are the address.
    unsafe {
        let [a, b, c, d] = [
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[3]),
        ];
        destination[..4].copy_from_slice(&a.to_ne_bytes());
        destination[4..8].copy_from_slice(&b.to_ne_bytes());
        destination[8..12].copy_from_slice(&c.to_ne_bytes());
        destination[12..].copy_from_slice(&d.to_ne_bytes());
    }
    judge_connect::<true>(&ctx, destination)
}

/// Judges an attempt to connect.
#[inline(always)]
fn judge_connect<const V6: bool>(ctx: &SockAddrContext, destination: Address) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return REFUSE;
    };
    // SAFETY: fields of the context that this hook may read.
    let (kind, port) = unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).user_port) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a port stands in the lower half"
    )]
    let port = kernel::bounded(u16::from_be(port as u16));
    let group = if kind == SOCK_STREAM {
        let Some(table) = maps::PORTS.get(0) else {
            report::internal();
            return REFUSE;
        };
        match table.groups[usize::from(port)] {
            1 => PortGroup::Smtp,
            2 => PortGroup::Submission,
            3 => PortGroup::Mailbox,
            _ => PortGroup::Other,
        }
    } else {
        PortGroup::Other
    };
    let concerns = match group {
        PortGroup::Smtp | PortGroup::Submission => true,
        // Mailbox logins come in; going out they are only a suspended tenant's affair.
        PortGroup::Mailbox => settings.flags & (UNUSUAL | settings::flags::SANCTIONS) != 0,
        PortGroup::Other => settings.flags & UNUSUAL != 0,
    };
    if !concerns || address::is_loopback(&destination) {
        return ALLOW;
    }
    let mut group = group;
    if !matches!(group, PortGroup::Other) && is_own(&destination) {
        if settings.flags & settings::flags::SUSPENSIONS == 0 {
            return ALLOW;
        }
        // Mail to the node itself is like anything else: only whoever is suspended may not.
        group = PortGroup::Other;
    }
    judge_sender::<V6>(ctx, settings, group, destination, port)
}

/// While one of these is set, connections to any port are judged.
const UNUSUAL: u32 = settings::flags::SUSPENSIONS | settings::flags::BLOCKED;

/// Judges an attempt to connect to another host.
#[inline(always)]
fn judge_sender<const V6: bool>(
    ctx: &SockAddrContext,
    settings: &Settings,
    group: PortGroup,
    destination: Address,
    port: u16,
) -> i32 {
    let now_ns = kernel::now_ns(settings);
    let senders = who::senders(ctx, settings, now_ns);
    // The MTA is free, but not as a cloak for a tenant that passes it a socket.
    let is_mta = senders.caller == Owner::MTA && !senders.socket.is_tenant();
    let parties = Parties::of(senders.caller, senders.socket);
    let mut call = Call {
        payer: parties.payer,
        port,
        flags: if senders.local { call::LOCAL } else { 0 } | if V6 { call::V6 } else { 0 },
    };
    if settings.flags & settings::flags::BLOCKED != 0
        && blocked::matches(&destination)
        && !is_own(&destination)
    {
        let judgement = Judgement::of_node(settings, Reason::BlockedAddress, now_ns);
        tell(ctx, &destination, call.pack(), judgement, now_ns);
        return if judgement.refuses() { REFUSE } else { ALLOW };
    }
    if is_mta {
        if matches!(group, PortGroup::Smtp | PortGroup::Submission) {
            marks::leave(ctx, settings, NOBODY, now_ns);
        }
        return ALLOW;
    }
    let unknown = !senders.caller.is_tenant() && !senders.socket.is_tenant();
    if unknown && !senders.local && is_judged_later(settings) {
        return ALLOW;
    }
    who::trace(port, senders.caller, senders.socket);
    let count = senders.local || settings.flags & settings::flags::COUNT_EVERYWHERE != 0;
    let question = Question {
        group,
        port,
        ask: if count {
            ask::LIMITS | ask::COUNT
        } else {
            ask::LIMITS
        },
    };
    let judgement = judge(&parties, question, &destination, now_ns);
    let refuses = match judgement.kind() {
        // What is counted elsewhere is told there.
        Decision::Admit | Decision::WouldRefuse if !count => return ALLOW,
        Decision::Admit if !matches!(group, PortGroup::Smtp | PortGroup::Submission) => {
            return ALLOW;
        }
        Decision::Redirect => {
            if senders.local && redirect::<V6>(ctx, settings, &destination) {
                call.flags |= call::REDIRECTED;
            }
            call.flags & call::REDIRECTED == 0
        }
        _ => judgement.refuses(),
    };
    if judgement.kind() == Decision::Admit {
        record(ctx, settings, &destination, call.pack(), now_ns);
        if senders.local {
            marks::leave(ctx, settings, call.payer, now_ns);
        }
        return ALLOW;
    }
    tell(ctx, &destination, call.pack(), judgement, now_ns);
    if judgement.kind() == Decision::WouldRefuse {
        // It goes on, and its packets are looked at again: that is still the same attempt.
        marks::keep(ctx, call.payer, now_ns, flow_flags::TOLD);
    }
    if refuses { REFUSE } else { ALLOW }
}

/// Whether whoever no cgroup names in a container may be a tenant by interface or address, which
/// the layers behind this one know, and count.
#[inline(always)]
fn is_judged_later(settings: &Settings) -> bool {
    use settings::flags::{CLAIMS_NETWORKS, COUNT_EVERYWHERE};
    settings.flags & (CLAIMS_NETWORKS | COUNT_EVERYWHERE) == CLAIMS_NETWORKS
}

/// Whether an address is the node's own.
#[inline(always)]
fn is_own(address: &Address) -> bool {
    let (word, mask) = address::own_bit(address);
    let possible = maps::OWN_FILTER
        .get(word)
        .is_some_and(|bits| bits & mask != 0);
    // SAFETY: only whether it is there counts.
    possible && unsafe { maps::OWN_ADDRESSES.get(*address) }.is_some()
}

/// What [`tell`] has to know, in a number.
#[derive(Clone, Copy)]
struct Call {
    payer: u32,
    port: u16,
    flags: u16,
}

/// Bits of [`Call::flags`].
mod call {
    /// The socket lives in the node's own network namespace.
    pub const LOCAL: u16 = 1;
    /// It is an IPv6 socket.
    pub const V6: u16 = 1 << 1;
    /// It goes to the local MTA now.
    pub const REDIRECTED: u16 = 1 << 2;
}

impl Call {
    #[inline(always)]
    fn pack(self) -> u64 {
        u64::from(self.payer) << 32 | u64::from(self.port) << 16 | u64::from(self.flags)
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    fn unpack(packed: u64) -> Self {
        Self {
            payer: (packed >> 32) as u32,
            port: (packed >> 16) as u16,
            flags: packed as u16,
        }
    }
}

/// Counts a call that is let go, and records it if the node wants that. A frame of its own.
#[inline(never)]
fn record(
    ctx: &SockAddrContext,
    settings: &Settings,
    destination: &Address,
    call: u64,
    now_ns: u64,
) {
    let facts = facts(ctx, Call::unpack(call), *destination, now_ns);
    report::allowed::<true>(settings, &facts);
}

/// Counts and tells what became of a call that is not simply let go. A frame of its own: what is told
/// is large.
#[inline(never)]
fn tell(
    ctx: &SockAddrContext,
    destination: &Address,
    call: u64,
    judgement: Judgement,
    now_ns: u64,
) {
    let call = Call::unpack(call);
    let facts = facts(ctx, call, *destination, now_ns);
    let mut ruling = judgement.ruling();
    if call.flags & call::REDIRECTED != 0 {
        ruling.verdict = Verdict::Redirected;
    }
    report::notable::<true>(&facts, &ruling);
}

/// Sends the connection to the local MTA. Not if it is bound to a device or an address: it would
/// never arrive. Not where the MTA does not listen in that family. A frame of its own: there is no
/// room in the caller's.
#[inline(never)]
fn redirect<const V6: bool>(
    ctx: &SockAddrContext,
    settings: &Settings,
    destination: &Address,
) -> bool {
    let (interface, source) = bound(ctx, V6);
    if interface != 0 || (source != [0; 16] && !address::is_loopback(&source)) {
        return false;
    }
    let is_v4 = address::as_v4(destination).is_some();
    let (target, port) = if is_v4 {
        (&settings.redirect4, settings.redirect4_port)
    } else {
        (&settings.redirect6, settings.redirect6_port)
    };
    if port == 0 {
        return false;
    }
    let words = [
        u32::from_ne_bytes([target[0], target[1], target[2], target[3]]),
        u32::from_ne_bytes([target[4], target[5], target[6], target[7]]),
        u32::from_ne_bytes([target[8], target[9], target[10], target[11]]),
        u32::from_ne_bytes([target[12], target[13], target[14], target[15]]),
    ];
    // SAFETY: fields of the context that this hook may write. Volatile: the kernel takes words,
    // and the compiler would join them.
    unsafe {
        if V6 {
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[0], words[0]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[1], words[1]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[2], words[2]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[3], words[3]);
        } else {
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip4, words[3]);
        }
        core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_port, u32::from(port.to_be()));
    }
    true
}

/// What is known about the attempt. A frame of its own, which is gone before anything is told.
#[inline(never)]
fn facts(ctx: &SockAddrContext, call: Call, destination: Address, now_ns: u64) -> Facts {
    let (interface, source) = bound(ctx, call.flags & call::V6 != 0);
    let mut source_port = 0;
    let socket = who::socket_of(ctx);
    if !socket.is_null() {
        // SAFETY: a field of the context's socket that a program may read.
        let port = unsafe { core::ptr::read_volatile(&raw const (*socket).src_port) };
        #[expect(clippy::cast_possible_truncation, reason = "a port in host order")]
        {
            source_port = port as u16;
        }
    }
    Facts {
        tenant: call.payer,
        destination,
        destination_port: call.port,
        source_port,
        source,
        interface,
        layer: Layer::Connect,
        flags: if call.flags & call::LOCAL != 0 {
            0
        } else {
            event::flags::FOREIGN_NAMESPACE
        },
        uid: 0,
        cgroup_id: 0,
        now_ns,
    }
}

/// The interface and the address that the socket is bound to, zero if it is not.
#[inline(always)]
fn bound(ctx: &SockAddrContext, is_v6: bool) -> (u32, Address) {
    let mut source = [0_u8; 16];
    let socket = who::socket_of(ctx);
    if socket.is_null() {
        return (0, source);
    }
    // SAFETY: fields of the context's socket that a program may read, word by word.
    unsafe {
        if is_v6 {
            let words = [
                core::ptr::read_volatile(&raw const (*socket).src_ip6[0]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[1]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[2]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[3]),
            ];
            source[..4].copy_from_slice(&words[0].to_ne_bytes());
            source[4..8].copy_from_slice(&words[1].to_ne_bytes());
            source[8..12].copy_from_slice(&words[2].to_ne_bytes());
            source[12..].copy_from_slice(&words[3].to_ne_bytes());
        } else {
            let word = core::ptr::read_volatile(&raw const (*socket).src_ip4);
            if word != 0 {
                source = address::from_v4(word.to_ne_bytes());
            }
        }
        (
            core::ptr::read_volatile(&raw const (*socket).bound_dev_if),
            source,
        )
    }
}
