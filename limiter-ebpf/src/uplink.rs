//! The uplink layer: `tc` egress on every way out. The last line: what was rewritten after
//! connect, what has no TCP socket, what was forwarded from where no layer looked.

use aya_ebpf::{bindings::bpf_sock, macros::classifier, programs::TcContext};
use limiter_common::{
    abi::DEFAULT,
    address,
    flow::{JUDGED_MARK, flow_flags, interface_flags},
    owner::Owner,
    packet::{Kind, Packet},
    sanction::{self, Sanction},
    settings::{self, Settings},
    verdict::{Layer, Reason},
};

use crate::{
    judge, kernel, maps, report,
    reset::{Toward, reset},
    seen::{self, Act, Seen, UNUSUAL},
    session,
    skb::{DROP, PASS, Skb},
    sockets,
    who::{self, Socket},
};

#[classifier]
pub fn limiter_uplink(ctx: TcContext) -> i32 {
    judge::<true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_uplink_l3(ctx: TcContext) -> i32 {
    judge::<false>(Skb(ctx.skb.skb))
}

#[inline(always)]
fn judge<const L2: bool>(skb: Skb) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return DROP;
    };
    if settings.flags & UNUSUAL == 0 && skb.is_unrelated::<L2>(settings) {
        return PASS;
    }
    let from = skb.came_from();
    let came_in = who::interface(from);
    if came_in.flags & interface_flags::JUDGED != 0 && skb.mark() == JUDGED_MARK {
        return PASS;
    }
    let mut seen = Seen::new(Layer::Uplink, from);
    seen.packet = if L2 {
        Packet::of_frame(&skb, skb.len())
    } else {
        Packet::of_ip(&skb, skb.len())
    };
    if seen.packet.kind == Kind::Foreign {
        return PASS;
    }
    let now_ns = kernel::now_ns();
    let pointer = skb.socket();
    if !pointer.is_null() {
        let socket = Socket::of(pointer);
        let local = socket.is_local(settings);
        if local && is_its_own(pointer, &seen.packet) {
            // Connect judged it, and the socket layer whatever came after.
            return match sockets::is_cut(pointer) {
                true => reset::<L2>(skb, &seen.packet, Toward::Node),
                false => PASS,
            };
        }
        seen.sent_by(socket, local, settings);
    }
    seen.came_in(came_in.owner);
    let mut act = match null_route(settings, &seen, now_ns) {
        Some(act) => act,
        None => seen.judge(settings, now_ns),
    };
    if act == Act::Judged
        && session::counts(settings, &seen)
        && let Some(flow) = seen::flow_of(&seen)
    {
        // SAFETY: looked up.
        let session = unsafe { &raw mut (*flow).session };
        if session::count(skb, settings, &mut seen, session, now_ns) {
            seen::note(&seen, flow_flags::CUT | flow_flags::TOLD);
            act = Act::Reset;
        }
    }
    match act {
        Act::Pass | Act::Judged => PASS,
        Act::Drop => DROP,
        // Back in as if from outside: the node knows the way to whoever sent it.
        Act::Reset => reset::<L2>(skb, &seen.packet, Toward::Node),
    }
}

/// Whether the packet goes where its socket is connected to: then connect saw where it goes.
/// Otherwise it was rewritten on the way, or made by hand.
#[inline(always)]
pub fn is_its_own(socket: *mut bpf_sock, packet: &Packet) -> bool {
    const TCP: u32 = 6;
    if packet.kind != Kind::Tcp {
        return false;
    }
    // SAFETY: fields of a whole socket that programs may read, word by word.
    unsafe {
        if core::ptr::read_volatile(&raw const (*socket).protocol) != TCP {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a port")]
        let port = core::ptr::read_volatile(&raw const (*socket).dst_port) as u16;
        if u16::from_be(port) != packet.destination_port {
            return false;
        }
        match address::as_v4(&packet.destination) {
            Some(octets) => {
                let word = core::ptr::read_volatile(&raw const (*socket).dst_ip4);
                word == u32::from_ne_bytes(octets)
            }
            None => {
                let [high, low] = judge::halves(&packet.destination);
                let word = |at: usize| {
                    u64::from(core::ptr::read_volatile(&raw const (*socket).dst_ip6[at]))
                };
                high == word(0) | word(1) << 32 && low == word(2) | word(3) << 32
            }
        }
    }
}

/// Whether the packet comes from or goes to an address that is null-routed.
#[inline(always)]
fn null_route(settings: &Settings, seen: &Seen, now_ns: u64) -> Option<Act> {
    if settings.flags & settings::flags::NULL_ROUTES == 0 {
        return None;
    }
    let owner = null_routed(&seen.packet, now_ns);
    if owner == DEFAULT {
        return None;
    }
    let judgement = judge::refusal_by_sanction(settings, owner, Reason::NullRoute, now_ns);
    seen::tell(seen, judgement, now_ns);
    Some(if judgement.refuses() {
        Act::Drop
    } else {
        Act::Judged
    })
}

/// The null-routed tenant that one of the addresses belongs to, [`DEFAULT`] if there is none. A
/// frame of its own, for the keys.
#[inline(never)]
pub fn null_routed(packet: &Packet, now_ns: u64) -> u32 {
    let now_s = sanction::seconds(now_ns);
    let source = who::address_owner(&packet.source);
    if is_null_routed(source, now_s) {
        return source.index();
    }
    let destination = who::address_owner(&packet.destination);
    if is_null_routed(destination, now_s) {
        return destination.index();
    }
    DEFAULT
}

#[inline(always)]
fn is_null_routed(owner: Owner, now_s: u32) -> bool {
    owner.is_tenant()
        && maps::TENANTS
            .get(owner.index())
            .is_some_and(|tenant| tenant.sanctions.holds(Sanction::NullRoute, now_s))
}
