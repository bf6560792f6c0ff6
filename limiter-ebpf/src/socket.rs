//! The socket layer: `cgroup_skb` egress. Live sessions of whoever is sanctioned, raw sockets, and
//! the mail in direct sessions. Attached only while one of these needs it.

use aya_ebpf::{bindings::bpf_sock, macros::cgroup_skb, programs::SkBuffContext};
use limiter_common::{
    abi::NOBODY,
    address,
    flow::{SocketState, flow_flags, interface_flags},
    owner::{Owner, Parties},
    packet::Kind,
    settings::{self, Settings},
    verdict::{Layer, PortGroup},
};

use crate::{
    judge, kernel, maps, report,
    seen::{self, Act, Seen},
    session,
    skb::Skb,
    sockets, uplink,
    who::{self, Socket},
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_skb(egress)]
pub fn limiter_socket(ctx: SkBuffContext) -> i32 {
    look::<true>(Skb(ctx.skb.skb))
}

#[cgroup_skb(egress)]
pub fn limiter_socket_plain(ctx: SkBuffContext) -> i32 {
    look::<false>(Skb(ctx.skb.skb))
}

#[inline(always)]
fn look<const READS: bool>(skb: Skb) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return REFUSE;
    };
    if settings.flags & settings::flags::SUSPENSIONS == 0
        && skb.is_unrelated::<false, false>(settings)
    {
        return ALLOW;
    }
    let pointer = skb.socket();
    if pointer.is_null() {
        // What is left of a connection: nothing can be sent with it.
        return ALLOW;
    }
    let socket = Socket::of(pointer);
    let local = socket.is_local(settings);
    let mut seen = Seen::new(Layer::Socket, 0);
    seen.read::<false>(skb);
    if seen.packet.kind == Kind::Foreign || address::is_loopback(&seen.packet.destination) {
        return ALLOW;
    }
    seen.sent_by(socket, local, settings);
    if seen.owner == Owner::MTA {
        return ALLOW;
    }
    if !local && seen.owner == Owner::NOBODY {
        // Whose it is only the layers behind this one can say.
        return ALLOW;
    }
    let now_ns = kernel::now_ns(settings);
    if local && uplink::is_its_own(pointer, &seen.packet) {
        return own::<READS>(skb, settings, &mut seen, pointer, now_ns);
    }
    if !local {
        return sanctioned(settings, &seen, pointer, now_ns);
    }
    if seen.packet.kind == Kind::Tcp && sockets::is_stream(pointer) && is_covered(skb) {
        // Rewritten on the way: where it goes out it can be answered.
        return ALLOW;
    }
    match seen::judge(&mut seen, settings, now_ns) {
        Act::Pass | Act::Judged => ALLOW,
        Act::Drop | Act::Reset => REFUSE,
    }
}

/// A packet of a connection that connect judged: what happened since?
#[inline(always)]
fn own<const READS: bool>(
    skb: Skb,
    settings: &Settings,
    seen: &mut Seen,
    pointer: *mut bpf_sock,
    now_ns: u64,
) -> i32 {
    kernel::forget(seen);
    let mut concern = concern(settings, seen);
    kernel::forget(&mut concern);
    if concern == 0 {
        return ALLOW;
    }
    let Some(state) = sockets::state_of(pointer, true) else {
        // No memory for it. What must be judged cannot be: refused, as sanctions are.
        report::internal();
        return if concern & MAIL != 0 { REFUSE } else { ALLOW };
    };
    let mut is_cut = is_cut(seen, state, concern, now_ns);
    kernel::forget(&mut is_cut);
    if is_cut != 0 {
        return cut(skb);
    }
    if concern & COUNTED == 0 {
        return ALLOW;
    }
    begin(state, seen, pointer);
    // SAFETY: looked up.
    let session = unsafe { &raw mut (*state).session };
    if session::count::<READS>(skb, settings, seen, session, now_ns) {
        sockets::note(state, flow_flags::CUT);
        return cut(skb);
    }
    ALLOW
}

/// Of [`concern`]: it is mail that leaves the node.
const MAIL: u32 = 1;
/// The mail in it is counted.
const COUNTED: u32 = 1 << 1;
/// Somebody is sanctioned.
const SANCTIONS: u32 = 1 << 2;
/// It goes to the node itself, where what a port is used for does not matter.
const STAYS: u32 = 1 << 3;

/// Why a packet of a judged connection is looked at; 0 if it is not. A frame of its own.
#[inline(never)]
fn concern(settings: &Settings, seen: &Seen) -> u32 {
    let group = seen.group();
    if !matches!(group, PortGroup::Other) && seen.stays() {
        // Only whoever's network is suspended may not reach the node itself.
        return if settings.flags & settings::flags::SUSPENSIONS == 0 {
            0
        } else {
            SANCTIONS | STAYS
        };
    }
    let mut concern = 0;
    if settings.flags & settings::flags::SANCTIONS != 0 {
        concern = SANCTIONS;
    }
    if matches!(group, PortGroup::Smtp | PortGroup::Submission) {
        if session::counts(settings, seen) {
            concern |= COUNTED;
        }
        if concern != 0 {
            concern |= MAIL;
        }
    }
    concern
}

/// Whether the session is over: cut before, or by a sanction now. A frame of its own.
#[inline(never)]
fn is_cut(seen: &Seen, state: *mut SocketState, concern: u32, now_ns: u64) -> u32 {
    // SAFETY: looked up by the caller.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*state).flags) };
    let is_mail = concern & MAIL != 0;
    if flags & u64::from(flow_flags::CUT) != 0 && is_mail {
        return 1;
    }
    if concern & SANCTIONS == 0 {
        return 0;
    }
    let group = if concern & STAYS != 0 {
        PortGroup::Other
    } else {
        seen.group()
    };
    if let Some(judgement) = refusal(seen, group, now_ns) {
        // That it would be refused may have been told before, also by connect; that it is cut was not.
        let told = if judgement.refuses() {
            flow_flags::CUT
        } else {
            flow_flags::TOLD
        };
        if flags & u64::from(told) == 0 {
            seen::tell(seen, judgement, now_ns);
            sockets::note(state, flow_flags::TOLD);
        }
        if judgement.refuses() {
            sockets::note(state, flow_flags::CUT);
            return 1;
        }
    } else if flags & u64::from(flow_flags::CUT | flow_flags::TOLD) != 0 && !is_mail {
        // It is over: whoever still is there may go on.
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*state).flags, 0) };
    }
    0
}

/// The first packet that is looked at begins the session. Opening packets are not: they carry no
/// acknowledgement. That it was seen from the start is known by the socket's own numbers. A frame
/// of its own.
#[inline(never)]
fn begin(state: *mut SocketState, seen: &Seen, pointer: *mut bpf_sock) {
    // SAFETY: looked up by the caller.
    unsafe {
        let flags = core::ptr::read_volatile(&raw const (*state).flags);
        if flags & u64::from(flow_flags::PROGRESSED) == 0 {
            (*state).session = seen::session_from(&seen.packet, sockets::is_fresh(pointer));
            core::ptr::write_volatile(
                &raw mut (*state).flags,
                flags | u64::from(flow_flags::PROGRESSED),
            );
        }
    }
}

/// A packet from a container's namespace: only sanctions of whoever claims its cgroup concern this
/// layer, all else is judged where the container's traffic comes in. A frame of its own.
#[inline(never)]
fn sanctioned(settings: &Settings, seen: &Seen, pointer: *mut bpf_sock, now_ns: u64) -> i32 {
    if settings.flags & settings::flags::SANCTIONS == 0 {
        return ALLOW;
    }
    let Some(judgement) = refusal(seen, seen.group(), now_ns) else {
        return ALLOW;
    };
    if judgement.refuses() {
        seen::tell(seen, judgement, now_ns);
        return REFUSE;
    }
    // It goes on to where the container's traffic is judged, and is told there; connect told of it
    // where that cannot be relied on.
    if settings.flags & settings::flags::COUNT_EVERYWHERE != 0
        && !sockets::has(pointer, flow_flags::TOLD)
    {
        seen::tell(seen, judgement, now_ns);
    }
    ALLOW
}

/// What the sanctions of whoever pays say of a port of `group`.
#[inline(always)]
fn refusal(seen: &Seen, group: PortGroup, now_ns: u64) -> Option<judge::Judgement> {
    let parties = Parties {
        payer: seen.payer(),
        other: NOBODY,
    };
    judge::sanctions(&parties, group, &seen.packet.destination, now_ns)
}

/// Lets a segment go on to where it is turned into a reset; drops it where nobody would do that.
#[inline(always)]
fn cut(skb: Skb) -> i32 {
    if is_covered(skb) { ALLOW } else { REFUSE }
}

/// Whether the packet surely passes the uplink layer.
#[inline(always)]
fn is_covered(skb: Skb) -> bool {
    who::interface(skb.interface()).flags & interface_flags::COVERED != 0
}
