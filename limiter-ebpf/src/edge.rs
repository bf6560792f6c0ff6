//! The edge: what comes in on the uplinks. Null routes, blocked prefixes, locked mailbox clients.
//! XDP where it can be attached, `tc` ingress elsewhere; attached only while something is blocked
//! or locked.

use aya_ebpf::{
    EbpfContext as _, Global,
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::generated,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use limiter_common::{
    abi::{DEFAULT, NODE},
    mailbox::client_of,
    owner::Owner,
    packet::{Bytes, Kind, Packet},
    sanction,
    settings::{self, Settings},
    verdict::{Layer, PortGroup, Reason},
};

use crate::{
    blocked,
    judge::{self, Judgement},
    kernel, maps, report,
    seen::{self, Seen},
    skb::{DROP, PASS, Skb, group_of},
    uplink::null_routed,
    who,
};

/// Before 5.18 only the linear part of a packet can be read, which holds the headers.
#[unsafe(no_mangle)]
static HAVE_XDP_LOAD: Global<u8> = Global::new(0);

#[xdp]
pub fn limiter_edge(ctx: XdpContext) -> u32 {
    // SAFETY: a field of the context.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    if maps::SETTINGS
        .get(0)
        .is_some_and(|settings| Frame(&ctx).is_unrelated(settings))
    {
        return XDP_PASS;
    }
    let mut seen = Seen::new(Layer::Uplink, interface);
    read(ctx.ctx, &mut seen);
    if comes_in(&mut seen) {
        XDP_PASS
    } else {
        XDP_DROP
    }
}

#[classifier]
pub fn limiter_edge_tc(ctx: TcContext) -> i32 {
    tc::<true>(Skb(ctx.skb.skb))
}

#[classifier]
pub fn limiter_edge_tc_l3(ctx: TcContext) -> i32 {
    tc::<false>(Skb(ctx.skb.skb))
}

#[inline(always)]
fn tc<const L2: bool>(skb: Skb) -> i32 {
    let mut seen = Seen::new(Layer::Uplink, skb.interface());
    seen.read::<L2>(skb);
    if comes_in(&mut seen) { PASS } else { DROP }
}

/// Reads the frame. A frame of its own.
#[inline(never)]
fn read(ctx: *mut xdp_md, seen: &mut Seen) {
    let frame = Frame(&XdpContext::new(ctx));
    seen.packet = Packet::of_frame(&frame, frame.len());
    kernel::forget(&mut seen.packet);
}

/// A frame as XDP holds it.
struct Frame<'a>(&'a XdpContext);

/// Headers end before.
const FURTHEST: u32 = 512;

impl Frame<'_> {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
    fn len(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }

    /// Whether it surely may come in: looked at in place, for that is what most packets are. What
    /// is not plain goes the long way.
    #[inline(always)]
    fn is_unrelated(&self, settings: &Settings) -> bool {
        use settings::flags::{BLOCKED, MAILBOX, NULL_ROUTES, SANCTIONS};
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        const IP: usize = 14;
        if settings.flags & NULL_ROUTES != 0 {
            return false;
        }
        let (start, end) = (self.0.data(), self.0.data_end());
        if start + IP + 40 > end {
            return false;
        }
        // SAFETY: every access is inside the frame, as compared.
        let byte = |at: usize| unsafe { *((start + at) as *const u8) };
        let half = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
        let (next, transport, source) = match half(12) {
            0x0800 if byte(IP) == 0x45 && half(IP + 6) & 0x3fff == 0 && half(IP + 2) >= 40 => {
                (byte(IP + 9), IP + 20, IP + 12)
            }
            0x86dd if byte(IP) >> 4 == 6 && half(IP + 4) >= 20 => (byte(IP + 6), IP + 40, IP + 8),
            _ => return false,
        };
        let mut first = true;
        match next {
            TCP => {
                if start + transport + 14 > end {
                    return false;
                }
                first = byte(transport + 13) & (SYN | ACK) == SYN;
                if settings.flags & (MAILBOX | SANCTIONS) != 0
                    && matches!(group_of(half(transport + 2)), PortGroup::Mailbox)
                {
                    return false;
                }
            }
            UDP => {}
            _ => return false,
        }
        if settings.flags & BLOCKED == 0 || !first {
            return true;
        }
        let word = u32::from_be_bytes([
            byte(source),
            byte(source + 1),
            byte(source + 2),
            byte(source + 3),
        ]);
        !blocked::may_match(word, transport == IP + 40)
    }
}

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        if HAVE_XDP_LOAD.load() != 0 {
            #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
            // SAFETY: the array is as long as said; the helper checks the offset.
            let result = unsafe {
                generated::bpf_xdp_load_bytes(
                    self.0.as_ptr().cast(),
                    offset,
                    to.as_mut_ptr().cast(),
                    N as u32,
                )
            };
            return result == 0;
        }
        if offset > FURTHEST {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "compared")]
        let offset = kernel::bounded(offset as u16) & (FURTHEST * 2 - 1) as u16;
        let start = kernel::opaque(self.0.data() + usize::from(offset));
        if start + N > self.0.data_end() {
            return false;
        }
        // SAFETY: inside the frame, as just compared.
        *to = unsafe { core::ptr::read_unaligned(start as *const [u8; N]) };
        true
    }

    #[inline(always)]
    fn settle<T: Copy>(&self, found: &mut T) {
        kernel::forget(found);
    }
}

/// Whether a packet may come in.
#[inline(always)]
fn comes_in(seen: &mut Seen) -> bool {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return true;
    };
    if seen.packet.kind == Kind::Foreign {
        return true;
    }
    let now_ns = kernel::now_ns(settings);
    seen.owner = Owner::tenant(NODE);
    let judgement = match refused(settings, seen, now_ns) {
        Some(judgement) => judgement,
        None => return true,
    };
    // A locked client's open sessions are silenced too, but each attempt counts once.
    if !matches!(seen.layer, Layer::Mailbox) || seen.packet.opens() {
        seen::tell(seen, judgement, now_ns);
    }
    !judgement.refuses()
}

/// Why a packet may not come in, if it may not.
#[inline(always)]
fn refused(settings: &Settings, seen: &mut Seen, now_ns: u64) -> Option<Judgement> {
    let flags = settings.flags;
    let packet = &seen.packet;
    if flags & settings::flags::NULL_ROUTES != 0 {
        let owner = null_routed(packet, now_ns);
        if owner != DEFAULT {
            seen.owner = Owner::tenant(owner);
            return Some(judge::refusal_by_sanction(
                settings,
                owner,
                Reason::NullRoute,
                now_ns,
            ));
        }
    }
    if flags & settings::flags::BLOCKED != 0
        && seen::is_first(packet)
        && blocked::matches(&packet.source)
    {
        return Some(Judgement::of_node(settings, Reason::BlockedAddress, now_ns));
    }
    // What cannot be read could be a login.
    let is_login = match packet.kind {
        Kind::Tcp => matches!(group_of(packet.destination_port), PortGroup::Mailbox),
        Kind::Unresolved => true,
        Kind::Foreign | Kind::Other | Kind::Rest => false,
    };
    if !is_login {
        return None;
    }
    if flags & settings::flags::MAILBOX != 0 && is_locked(packet, now_ns) {
        seen.layer = Layer::Mailbox;
        return Some(Judgement::of_node(settings, Reason::MailboxLimit, now_ns));
    }
    if flags & settings::flags::SANCTIONS != 0 {
        let owner = who::address_owner(&packet.destination);
        if owner.is_tenant()
            && maps::TENANTS.get(owner.index()).is_some_and(|tenant| {
                tenant
                    .sanctions
                    .refuses(PortGroup::Mailbox, sanction::seconds(now_ns))
            })
        {
            seen.owner = owner;
            return Some(judge::refusal_by_sanction(
                settings,
                owner.index(),
                Reason::Suspended,
                now_ns,
            ));
        }
    }
    None
}

/// Whether the client is locked. A frame of its own, for the key.
#[inline(never)]
fn is_locked(packet: &Packet, now_ns: u64) -> bool {
    // SAFETY: read at once.
    unsafe { maps::LOCKED.get(client_of(&packet.source)) }.is_some_and(|until| now_ns < *until)
}
