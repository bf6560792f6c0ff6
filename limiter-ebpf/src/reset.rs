//! Answering a segment with a reset: whoever sent it learns at once that it is refused.

use aya_ebpf::{bindings::BPF_F_INGRESS, helpers::generated};
use limiter_common::packet::{Bytes as _, Packet, tcp};

use crate::skb::{DROP, Skb};

/// Where the answer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// Out of the interface where the segment came in.
    Guest,
    /// Back into this node, as if it had come in where the segment would go out.
    Node,
}

const TCP_HEADER: u32 = 20;
/// No fragments.
const DONT_FRAGMENT: u8 = 0x40;
const HOPS: u8 = 64;

/// Turns the segment into its own reset and sends it back. What cannot be turned is dropped.
///
/// A first segment is answered by RST and ACK of what comes after it, as from a port where nobody
/// listens; any other by a RST at the number that its sender expects next.
#[inline(never)]
pub fn reset<const L2: bool>(skb: Skb, packet: &Packet, toward: Toward) -> i32 {
    if packet.flags & tcp::RST != 0 || packet.inner || packet.truncated && packet.flags == 0 {
        return DROP;
    }
    let done = if packet.v6 {
        write::<L2, 40>(skb, packet)
    } else {
        write::<L2, 20>(skb, packet)
    };
    if !done {
        return DROP;
    }
    let flags = match toward {
        Toward::Guest => 0,
        Toward::Node => u64::from(BPF_F_INGRESS),
    };
    // SAFETY: takes numbers.
    #[expect(clippy::cast_possible_truncation, reason = "a return code of tc")]
    unsafe {
        generated::bpf_redirect(skb.interface(), flags) as i32
    }
}

/// Rewrites the segment; `IP` is the length of its IP header without options.
#[inline(always)]
fn write<const L2: bool, const IP: usize>(skb: Skb, packet: &Packet) -> bool {
    if L2 {
        let mut addresses = [0_u8; 12];
        if !skb.load(0, &mut addresses) {
            return false;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l] = addresses;
        if !store(skb, 0, &[g, h, i, j, k, l, a, b, c, d, e, f]) {
            return false;
        }
    }
    let network = packet.network;
    #[expect(clippy::cast_possible_truncation, reason = "20 or 40")]
    let length = network + IP as u32 + TCP_HEADER;
    // SAFETY: takes numbers; the helper checks them.
    if unsafe { generated::bpf_skb_change_tail(skb.0, length, 0) } != 0 {
        return false;
    }

    let mut segment = [0_u8; TCP_HEADER as usize];
    segment[..2].copy_from_slice(&packet.destination_port.to_be_bytes());
    segment[2..4].copy_from_slice(&packet.source_port.to_be_bytes());
    if packet.opens() {
        let next = packet.seq.wrapping_add(1).wrapping_add(packet.payload_len);
        segment[8..12].copy_from_slice(&next.to_be_bytes());
        segment[13] = tcp::RST | tcp::ACK;
    } else {
        segment[4..8].copy_from_slice(&packet.ack.to_be_bytes());
        segment[13] = tcp::RST;
    }
    segment[12] = 5 << 4;
    // The pseudo header: both addresses, protocol and length.
    let mut sum = 6 + TCP_HEADER;
    sum = add(sum, &segment);
    if packet.v6 {
        sum = add(add(sum, &packet.source), &packet.destination);
    } else {
        sum = add(sum, &v4(&packet.source));
        sum = add(sum, &v4(&packet.destination));
    }
    segment[16..18].copy_from_slice(&folded(sum).to_be_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "20 or 40")]
    let at = network + IP as u32;
    if !store(skb, at, &segment) {
        return false;
    }

    if packet.v6 {
        let head = [0x60, 0, 0, 0, 0, 20, 6, HOPS];
        store(skb, network, &head)
            && store(skb, network + 8, &packet.destination)
            && store(skb, network + 24, &packet.source)
    } else {
        let mut head = [0_u8; 20];
        head[0] = 0x45;
        head[3] = 40;
        head[6] = DONT_FRAGMENT;
        head[8] = HOPS;
        head[9] = 6;
        head[12..16].copy_from_slice(&v4(&packet.destination));
        head[16..].copy_from_slice(&v4(&packet.source));
        let sum = folded(add(0, &head));
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        store(skb, network, &head)
    }
}

/// The IPv4 address inside.
#[inline(always)]
fn v4(address: &[u8; 16]) -> [u8; 4] {
    [address[12], address[13], address[14], address[15]]
}

/// Adds 16-bit words to a sum of the Internet checksum.
#[inline(always)]
fn add<const N: usize>(mut sum: u32, bytes: &[u8; N]) -> u32 {
    let mut at = 0;
    while at + 1 < N {
        sum += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        at += 2;
    }
    sum
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
fn folded(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[inline(always)]
fn store<const N: usize>(skb: Skb, at: u32, bytes: &[u8; N]) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
    // SAFETY: the array is as long as said; the helper checks the offset.
    let result =
        unsafe { generated::bpf_skb_store_bytes(skb.0, at, bytes.as_ptr().cast(), N as u32, 0) };
    result == 0
}
