//! The uplink layer: `tc` egress on every way out. The last line: what was rewritten after
//! connect, what has no TCP socket, what was forwarded from where no layer looked.

use aya_ebpf::{bindings::bpf_sock, macros::classifier, programs::TcContext};
use limiter_common::{
    abi::DEFAULT,
    address, event,
    flow::{self, DEPARTS_MARK, flow_flags, interface_flags},
    owner::Owner,
    packet::{Kind, Packet},
    sanction::{self, Sanction},
    settings::{self, Settings},
    verdict::{Layer, PortGroup, Reason},
};

use crate::{
    judge, kernel, maps, marks, report,
    reset::{Toward, reset},
    seen::{self, Act, Seen, UNUSUAL},
    session,
    skb::{DROP, PASS, Skb},
    sockets,
    who::{self, Socket},
};

#[classifier]
pub fn limiter_uplink(ctx: TcContext) -> i32 {
    judge::<true, true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_uplink_l3(ctx: TcContext) -> i32 {
    judge::<false, true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_uplink_plain(ctx: TcContext) -> i32 {
    judge::<true, false>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_uplink_l3_plain(ctx: TcContext) -> i32 {
    judge::<false, false>(Skb(ctx.skb.skb))
}

#[inline(always)]
fn judge<const L2: bool, const READS: bool>(skb: Skb) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return DROP;
    };
    let unusual = settings.flags & UNUSUAL;
    if unusual & !settings::flags::BLOCKED == 0
        && skb.is_unrelated::<L2, false>(settings)
        && (unusual == 0 || !skb.may_be_blocked::<L2>())
    {
        return PASS;
    }
    let from = came_from(skb);
    let mut departs = 0_u32;
    if from != 0 && flow::is_judged(skb.judged_mark()) && is_judged(from) {
        if skb.judged_mark() != DEPARTS_MARK {
            return PASS;
        }
        departs = 1;
    }
    kernel::forget(&mut departs);
    let mut seen = Seen::new(Layer::Uplink, from);
    if from == 0 {
        seen.interface = skb.interface();
    }
    kernel::forget(&mut seen);
    seen.read::<L2>(skb);
    if departs != 0 {
        seen::depart(&seen.packet);
        return PASS;
    }
    let now_ns = kernel::now_ns(settings);
    // Whoever sends it.
    if settings.flags & settings::flags::NULL_ROUTES != 0 {
        let mut act = null_route(skb, settings, &mut seen, now_ns);
        kernel::forget(&mut act);
        match act {
            GO_ON => {}
            act if act == Act::Drop as u32 => return DROP,
            _ => return PASS,
        }
    }
    let mut sender = sender(skb, from, settings, &mut seen);
    kernel::forget(&mut sender);
    match sender {
        JUDGE => {}
        CUT => return reset::<L2>(skb, &seen.packet, Toward::Node),
        _ => return PASS,
    }
    let mut act = seen::judge(&mut seen, settings, now_ns);
    if act == Act::Judged
        && session::counts(settings, &seen)
        && let Some(flow) = seen::flow_of(&seen)
    {
        // SAFETY: looked up.
        let session = unsafe { &raw mut (*flow).session };
        if session::count::<READS>(skb, settings, &mut seen, session, now_ns) {
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

/// The interface of this node where the packet came in, 0 if it was made here or by somebody who
/// sits on the uplink itself.
#[inline(always)]
fn came_from(skb: Skb) -> u32 {
    let from = skb.came_from();
    let bridged = who::interface(skb.interface()).flags & interface_flags::BRIDGED != 0;
    if from != 0 && skb.is_forwarded_here(bridged) {
        from
    } else {
        0
    }
}

/// Whether what comes in there is judged there.
#[inline(always)]
fn is_judged(interface: u32) -> bool {
    who::interface(interface).flags & interface_flags::JUDGED != 0
}

/// What [`sender`] says: judge it.
const JUDGE: u32 = 0;
/// It was judged, and is let go.
const LET_GO: u32 = 1;
/// It was judged, and is cut.
const CUT: u32 = 2;

/// Finds out who sent a packet that came from the interface `from`, and whether it was judged
/// before. A frame of its own.
#[inline(never)]
fn sender(skb: Skb, from: u32, settings: &Settings, seen: &mut Seen) -> u32 {
    if seen.packet.kind == Kind::Foreign && skb.is_harmless(settings) {
        return LET_GO;
    }
    let pointer = skb.socket();
    // What a fast macvtap sends has no socket; it was judged where it goes out of that.
    if pointer.is_null()
        && skb.came_from() == 0
        && flow::is_judged(skb.judged_mark())
        && !skb.is_routed()
    {
        depart_marked(skb, seen);
        return LET_GO;
    }
    if !pointer.is_null() {
        let socket = Socket::of(pointer);
        let local = socket.is_local(settings);
        // Somebody's program behind connect may have made a port for mail of another one.
        if local
            && is_its_own(pointer, &seen.packet)
            && (!seen.packet.opens()
                || !matches!(seen.group(), PortGroup::Smtp | PortGroup::Submission)
                || was_judged(skb, pointer, socket, settings, seen))
        {
            // Connect judged it, and the socket layer whatever came after.
            return if sockets::is_cut(pointer) {
                CUT
            } else {
                LET_GO
            };
        }
        // A macvtap's guest was judged where its frames go out. Only this node's programs leave
        // marks there.
        if local && flow::is_judged(skb.judged_mark()) && !who::is_program(pointer) {
            depart_marked(skb, seen);
            return LET_GO;
        }
        // Somebody else's part of the node: connect is not attached there either.
        if local && who::is_program(pointer) && !socket.is_in_scope(settings) {
            return LET_GO;
        }
        // A tap stands for a virtual machine, and not for whoever opened it.
        let local = local && who::is_program(pointer);
        seen.sent_by(socket, local, settings);
        if !who::is_program(pointer) {
            seen.flags &= !event::flags::HAS_SOCKET;
        }
    }
    seen.came_in(who::interface(from).owner);
    JUDGE
}

/// Whether connect or this layer judged the attempt to which a first packet for mail belongs, which is
/// its socket's own.
#[inline(always)]
fn was_judged(
    skb: Skb,
    pointer: *mut bpf_sock,
    socket: Socket,
    settings: &Settings,
    seen: &mut Seen,
) -> bool {
    if marks::take(skb, &seen.packet) != 0 {
        return true;
    }
    if sockets::has(pointer, flow_flags::CONNECTED) {
        sockets::depart(pointer, &seen.packet);
        return true;
    }
    // The first one was let go by its mark, or it is a connection that is followed here.
    if !sockets::is_repeating(pointer) {
        return false;
    }
    seen.sent_by(socket, true, settings);
    seen::flow_of(seen).is_none()
}

/// Tells where a connection leaves from whose first packet the guest layer marked.
#[inline(always)]
fn depart_marked(skb: Skb, seen: &Seen) {
    if skb.judged_mark() == DEPARTS_MARK {
        seen::depart(&seen.packet);
    }
}

/// Whether the packet goes where its socket is connected to: then connect saw where it goes.
/// Otherwise it was rewritten on the way, or made by hand.
#[inline(always)]
pub fn is_its_own(socket: *mut bpf_sock, packet: &Packet) -> bool {
    if packet.kind != Kind::Tcp || !sockets::is_stream(socket) {
        return false;
    }
    // SAFETY: fields of a whole socket that programs may read, word by word.
    unsafe {
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

/// What [`null_route`] says of what is not null-routed.
const GO_ON: u32 = 0xff;

/// What is to be done with a packet that comes from or goes to an address that is null-routed, as
/// an [`Act`]. A frame of its own.
#[inline(never)]
fn null_route(skb: Skb, settings: &Settings, seen: &mut Seen, now_ns: u64) -> u32 {
    let owner = null_routed(&seen.packet, now_ns);
    if owner == DEFAULT {
        return GO_ON;
    }
    let judgement = judge::refusal_by_sanction(settings, owner, Reason::NullRoute, now_ns);
    seen.owner = Owner::tenant(owner);
    if judgement.refuses() {
        seen::tell(seen, judgement, now_ns);
        return Act::Drop as u32;
    }
    // Of a connection of this node's connect or the socket layer told.
    let pointer = skb.socket();
    if pointer.is_null() || !sockets::has(pointer, flow_flags::TOLD) {
        seen::tell(seen, judgement, now_ns);
    }
    Act::Judged as u32
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
