//! What the packet layers remember of sockets of this node.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated,
};
use limiter_common::{
    flow::{SocketState, flow_flags},
    packet::Packet,
};

use crate::{maps, report};

/// What is remembered of a socket; made if it is not there and `make` says so.
#[inline(always)]
pub fn state_of(socket: *mut bpf_sock, make: bool) -> Option<*mut SocketState> {
    let flags = if make { BPF_SK_STORAGE_GET_F_CREATE } else { 0 };
    // SAFETY: a whole socket of the context; without an initial value it begins as zeros.
    let state = unsafe {
        generated::bpf_sk_storage_get(
            (&raw const maps::SOCKETS).cast_mut().cast(),
            socket.cast(),
            core::ptr::null_mut(),
            u64::from(flags),
        )
    }
    .cast::<SocketState>();
    if state.is_null() { None } else { Some(state) }
}

/// Whether nothing was sent through a TCP socket yet.
#[inline(always)]
pub fn is_fresh(socket: *mut bpf_sock) -> bool {
    // SAFETY: a whole socket of the context; the field is one that programs may read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(socket);
        !tcp.is_null() && core::ptr::read_volatile(&raw const (*tcp).data_segs_out) == 0
    }
}

/// Whether a TCP socket sent something a second time already.
#[inline(always)]
pub fn is_repeating(socket: *mut bpf_sock) -> bool {
    // SAFETY: a whole socket of the context; the field is one that programs may read.
    unsafe {
        let tcp = generated::bpf_tcp_sock(socket);
        !tcp.is_null() && core::ptr::read_volatile(&raw const (*tcp).total_retrans) != 0
    }
}

/// Whether one of these flags was noted of this socket.
#[inline(always)]
pub fn has(socket: *mut bpf_sock, wanted: u32) -> bool {
    state_of(socket, false).is_some_and(|state| {
        // SAFETY: looked up.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*state).flags) };
        flags & u64::from(wanted) != 0
    })
}

/// Whether the socket layer decided to cut what this socket sends.
#[inline(always)]
pub fn is_cut(socket: *mut bpf_sock) -> bool {
    has(socket, flow_flags::CUT)
}

/// Notes down flags of a socket.
#[inline(always)]
pub fn note(state: *mut SocketState, flags: u32) {
    // SAFETY: looked up by the caller; whole words.
    unsafe {
        let old = core::ptr::read_volatile(&raw const (*state).flags);
        core::ptr::write_volatile(&raw mut (*state).flags, old | u64::from(flags));
    }
}

/// Tells where a socket's connection leaves from, if that is still to be told: `packet` is its first
/// one, on the way out. A frame of its own.
#[inline(never)]
pub fn depart(socket: *mut bpf_sock, packet: &Packet) -> u32 {
    let Some(state) = state_of(socket, false) else {
        return 0;
    };
    // SAFETY: looked up; whole words.
    let (tenant, since_ns) = unsafe {
        let flags = core::ptr::read_volatile(&raw const (*state).flags);
        if flags & u64::from(flow_flags::DEPARTS) == 0 {
            return 0;
        }
        core::ptr::write_volatile(
            &raw mut (*state).flags,
            flags & !u64::from(flow_flags::DEPARTS),
        );
        (
            core::ptr::read_volatile(&raw const (*state).tenant),
            core::ptr::read_volatile(&raw const (*state).since_ns),
        )
    };
    report::departed(packet, tenant, since_ns);
    0
}

/// Whether it is a TCP socket, and not one whose packets are made by hand.
#[inline(always)]
pub fn is_stream(socket: *mut bpf_sock) -> bool {
    const TCP: u32 = 6;
    const SOCK_STREAM: u32 = 1;
    // SAFETY: fields of a whole socket that programs may read.
    unsafe {
        core::ptr::read_volatile(&raw const (*socket).protocol) == TCP
            && core::ptr::read_volatile(&raw const (*socket).type_) == SOCK_STREAM
    }
}
