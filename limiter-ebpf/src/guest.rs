//! The guest layer: `tc` ingress on the host's side of containers' and virtual machines'
//! interfaces. Here addresses can be forged, and interfaces cannot.

use aya_ebpf::{macros::classifier, programs::TcContext};
use limiter_common::{
    event,
    flow::{JUDGED_MARK, flow_flags},
    packet::Kind,
    settings,
    verdict::{Layer, PortGroup},
};

use crate::{
    kernel, maps, report,
    reset::{Toward, reset},
    seen::{self, Act, Seen, UNUSUAL},
    session,
    skb::{DROP, PASS, Skb},
    who::{self, Socket},
};

#[classifier]
pub fn limiter_guest(ctx: TcContext) -> i32 {
    judge::<true, true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_guest_l3(ctx: TcContext) -> i32 {
    judge::<false, true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_guest_plain(ctx: TcContext) -> i32 {
    judge::<true, false>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_guest_l3_plain(ctx: TcContext) -> i32 {
    judge::<false, false>(Skb(ctx.skb.skb))
}

#[inline(always)]
fn judge<const L2: bool, const READS: bool>(skb: Skb) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return DROP;
    };
    if skb.judged_mark() != 0 {
        // Only this layer leaves marks.
        skb.set_judged_mark(0);
    }
    let unusual = settings.flags & UNUSUAL;
    if unusual & !settings::flags::BLOCKED == 0
        && skb.is_unrelated::<L2, true>(settings)
        && (unusual == 0 || !skb.may_be_blocked::<L2>())
    {
        return PASS;
    }
    let mut seen = Seen::new(Layer::Guest, skb.interface());
    seen.read::<L2>(skb);
    match seen.packet.kind {
        Kind::Foreign if skb.is_harmless(settings) => return PASS,
        // A tunnel that this node ends: what comes out of it is the guest's.
        Kind::Other if seen.stays() => seen.look_inside(skb),
        _ => {}
    }
    let socket = skb.socket();
    if !socket.is_null() {
        // Of a container that shares this kernel; of a virtual machine, whoever opened its tap.
        let is_program = who::is_program(socket);
        let socket = Socket::of(socket);
        seen.sent_by(socket, false, settings);
        if !is_program {
            seen.flags &= !event::flags::HAS_SOCKET;
        }
    }
    seen.came_in(who::interface(skb.interface()).owner);
    let now_ns = kernel::now_ns(settings);
    let mut act = seen::judge(&mut seen, settings, now_ns);
    if !matches!(act, Act::Drop | Act::Reset) {
        seen::visit(&seen);
    }
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
        Act::Pass => PASS,
        Act::Judged => {
            // Only mail: what is made mail on the way through this node is not judged yet.
            if !matches!(seen.group(), PortGroup::Other) {
                skb.set_judged_mark(JUDGED_MARK - seen::leave(&seen));
            }
            PASS
        }
        Act::Drop => DROP,
        Act::Reset => {
            // What a macvtap's guest sends goes out of it, and what comes in goes to the guest.
            let toward = if skb.came_from() == 0 {
                Toward::Node
            } else {
                Toward::Guest
            };
            reset::<L2>(skb, &seen.packet, toward)
        }
    }
}
