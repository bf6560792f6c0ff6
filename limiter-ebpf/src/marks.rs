//! What connect says to the uplink of a connection on its way. A word between two programs that run
//! one after the other is cheaper than memory of the socket's own, which is there for the cases in
//! which the place is taken.

use aya_ebpf::{helpers::generated, programs::SockAddrContext};
use limiter_common::{
    abi::NOBODY,
    flow::flow_flags,
    mark::{self, Mark},
    packet::Packet,
    settings::{self, Settings},
};

use crate::{maps, report, skb::Skb, sockets, who};

/// Says that connect let this socket go to a port for mail, and who paid; [`NOBODY`] if that is not to
/// be told. Whoever rewrites the port of another socket behind connect is stopped at the uplink.
/// Without a place or memory for it, it is judged there once more. A frame of its own.
#[inline(never)]
pub fn leave(ctx: &SockAddrContext, settings: &Settings, tenant: u32, now_ns: u64) -> u32 {
    if settings.flags & settings::flags::NO_UPLINKS != 0 {
        return 0;
    }
    // SAFETY: the context of a program at connect.
    let cookie = unsafe { generated::bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    let Some(place) = maps::MARKS.get_ptr_mut(mark::place_of(cookie)) else {
        report::internal();
        return 0;
    };
    // SAFETY: looked up; whole words. Who comes to the same place in the same moment from another CPU
    // may take it: the one who lost it is judged once more.
    unsafe {
        let held = Mark {
            cookie: core::ptr::read_volatile(&raw const (*place).cookie),
            since_ns: core::ptr::read_volatile(&raw const (*place).since_ns),
            tenant: NOBODY,
            taken: core::ptr::read_volatile(&raw const (*place).taken),
        };
        if held.gives_way_to(cookie, now_ns) {
            core::ptr::write_volatile(&raw mut (*place).since_ns, now_ns);
            core::ptr::write_volatile(&raw mut (*place).tenant, tenant);
            core::ptr::write_volatile(&raw mut (*place).taken, 0);
            core::ptr::write_volatile(&raw mut (*place).cookie, cookie);
            return 0;
        }
    }
    keep(ctx, tenant, now_ns, 0)
}

/// As [`leave`], in memory of the socket's own, where `also` is noted with it. A frame of its own.
#[inline(never)]
pub fn keep(ctx: &SockAddrContext, tenant: u32, now_ns: u64, also: u32) -> u32 {
    if let Some(state) = sockets::state_of(who::socket_of(ctx), true) {
        // SAFETY: looked up; nobody else sends through a socket that is being connected.
        unsafe {
            core::ptr::write_volatile(&raw mut (*state).since_ns, now_ns);
            core::ptr::write_volatile(&raw mut (*state).tenant, tenant);
        }
        sockets::note(state, flow_flags::CONNECTED | flow_flags::DEPARTS | also);
    }
    0
}

/// Whether connect left a mark for the socket behind this first packet; tells where it leaves from if
/// that is still to be told. A frame of its own.
#[inline(never)]
pub fn take(skb: Skb, packet: &Packet) -> u32 {
    let cookie = skb.socket_cookie();
    let Some(place) = maps::MARKS.get_ptr_mut(mark::place_of(cookie)) else {
        report::internal();
        return 0;
    };
    // SAFETY: looked up; whole words. It stays: the packet may leave by one interface after another.
    let (tenant, since_ns) = unsafe {
        if cookie == 0 || core::ptr::read_volatile(&raw const (*place).cookie) != cookie {
            return 0;
        }
        let tenant = core::ptr::read_volatile(&raw const (*place).tenant);
        let since_ns = core::ptr::read_volatile(&raw const (*place).since_ns);
        core::ptr::write_volatile(&raw mut (*place).tenant, NOBODY);
        core::ptr::write_volatile(&raw mut (*place).taken, 1);
        (tenant, since_ns)
    };
    if tenant != NOBODY {
        report::departed(packet, tenant, since_ns);
    }
    1
}
