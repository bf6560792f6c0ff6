//! Packets as `tc` and `cgroup_skb` programs hold them.

use aya_ebpf::{
    Global,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated,
};
use limiter_common::{
    packet::{Bytes, Kind, Packet, is_tunnel_port},
    settings::{self, Settings},
    verdict::PortGroup,
};

use crate::{blocked, kernel, maps};

/// Let it go on, to whatever other programs are attached.
pub const PASS: i32 = -1;
/// Drop it.
pub const DROP: i32 = 2;

/// A packet.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

impl Bytes for Skb {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        // SAFETY: the array is as long as said; the helper checks the offset.
        let result = unsafe {
            generated::bpf_skb_load_bytes(self.0.cast(), offset, to.as_mut_ptr().cast(), N as u32)
        };
        result == 0
    }

    #[inline(always)]
    fn settle<T: Copy>(&self, found: &mut T) {
        kernel::forget(found);
    }

    #[inline(always)]
    fn is_cut_later(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.0).gso_size != 0 }
    }
}

#[unsafe(no_mangle)]
static OFFSET_SKB_SUMMED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SHIFT_SKB_SUMMED: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SKB_CSUM_START: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SKB_HEAD: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SKB_ROUTE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_SKB_DEV: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_ROUTE_DEV: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_DEV_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFFSET_DEV_RX_HANDLER: Global<u32> = Global::new(0);

/// The checksum is written later: by the device, or just before.
const CHECKSUM_PARTIAL: u8 = 3;
/// Where TCP's checksum stands in its header.
const TCP_CHECKSUM: u32 = 16;
/// No packet is that long: a place before its beginning.
const WRAPPED: u32 = 1 << 24;
/// Where UDP's does: before it are only the ports and the length.
const UDP_CHECKSUM: u32 = 6;

impl Skb {
    /// Where a checksum will be written after all layers have looked, 0 if nowhere. Whoever hands
    /// over packets with a header for offloads says where that is, and could have a port written.
    #[inline(always)]
    pub fn checksum_place(self) -> u32 {
        checksum_place(self.0)
    }

    /// Whether a checksum, if one will be written, goes where it belongs in a packet whose
    /// transport header is at `transport`.
    #[inline(always)]
    fn sums_up(self, transport: u32, is_tcp: bool) -> bool {
        let place = self.checksum_place();
        if is_tcp {
            place == 0 || place == transport + TCP_CHECKSUM
        } else {
            place == 0 || (place >= transport + UDP_CHECKSUM && place < WRAPPED)
        }
    }

    /// Whether what was read of the packet is what will be sent.
    #[inline(always)]
    pub fn is_final(self, packet: &Packet) -> bool {
        match packet.kind {
            Kind::Tcp => self.sums_up(packet.transport, true),
            Kind::Other => self.sums_up(packet.transport, false),
            Kind::Foreign | Kind::Rest => self.checksum_place() == 0,
            Kind::Unresolved => true,
        }
    }

    /// Whether the checksum that will be written is the one of the UDP that a tunnel's packets are
    /// in: it lies in front of what the tunnel carries, and changes nothing of that.
    #[inline(always)]
    pub fn sums_up_outside(self, outer: &Packet) -> bool {
        const UDP: u8 = 17;
        outer.protocol == UDP && self.checksum_place() == outer.transport + UDP_CHECKSUM
    }

    /// Whether the packet comes from an ordinary socket: its checksum is the kernel's own affair.
    #[inline(always)]
    fn is_of_stack(self) -> bool {
        const AF_INET: u32 = 2;
        const AF_INET6: u32 = 10;
        let socket = self.socket();
        if socket.is_null() {
            return false;
        }
        // SAFETY: a field of a whole socket that programs may read.
        let family = unsafe { core::ptr::read_volatile(&raw const (*socket).family) };
        family == AF_INET || family == AF_INET6
    }

    /// Whether what is no IP may go even where somebody's network is suspended: nobody is, or it
    /// only asks for neighbours.
    #[inline(always)]
    pub fn is_harmless(self, settings: &Settings) -> bool {
        const ARP: u32 = 0x0806_u16.to_be() as u32;
        // SAFETY: a field of the context.
        settings.flags & settings::flags::SUSPENSIONS == 0 || unsafe { (*self.0).protocol } == ARP
    }

    /// How long it is.
    #[inline(always)]
    pub fn len(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).len }
    }

    /// Copies `len` bytes at `offset`, from one to as many as there is room for; `false` if the
    /// packet ends before.
    #[inline(always)]
    pub fn load_some<const N: usize>(self, offset: u32, to: &mut [u8; N], len: u32) -> bool {
        // SAFETY: the verifier sees that it fits; the helper checks the offset.
        let result = unsafe {
            generated::bpf_skb_load_bytes(self.0.cast(), offset, to.as_mut_ptr().cast(), len)
        };
        result == 0
    }

    /// The interface where it is.
    #[inline(always)]
    pub fn interface(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ifindex }
    }

    /// The interface where it came in, 0 if it was made on this node.
    #[inline(always)]
    pub fn came_from(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Whether it was this node that forwarded it, if it came in anywhere. A macvlan or ipvlan
    /// interface on this one brings its packets as its own namespace left them: the interface where
    /// they came in is a number of that namespace, and its root can make any. Their route is that
    /// namespace's, too. What is not routed at all went through a bridge: the node's if this
    /// interface is one of its ports (`bridged`), which then cannot bear others on it.
    #[inline(always)]
    pub fn is_forwarded_here(self, bridged: bool) -> bool {
        is_forwarded_here(self.0, bridged)
    }

    /// Whether a stack has routed it: not what a tap sends.
    #[inline(always)]
    pub fn is_routed(self) -> bool {
        is_routed(self.0)
    }

    /// The mark that one layer leaves for another.
    #[inline(always)]
    pub fn judged_mark(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).tc_index }
    }

    /// Leaves a mark.
    #[inline(always)]
    pub fn set_judged_mark(self, mark: u32) {
        // SAFETY: a field of the context that tc programs may write.
        unsafe { (*self.0).tc_index = mark }
    }

    /// The socket that it comes from, if there is a whole one.
    #[inline(always)]
    pub fn socket(self) -> *mut bpf_sock {
        // SAFETY: a field of the context; the helper takes a socket of any kind that is not null.
        unsafe {
            let socket = (*self.0).__bindgen_anon_2.sk;
            if socket.is_null() {
                return socket;
            }
            generated::bpf_sk_fullsock(socket)
        }
    }

    /// The cookie of the socket that it was sent by, which no other ever has; 0 if there is none.
    #[inline(always)]
    pub fn socket_cookie(self) -> u64 {
        // SAFETY: the context of a program that sees packets.
        unsafe { generated::bpf_get_socket_cookie(self.0.cast()) }
    }

    /// Whether it surely is no mail: looked at in place, for that is what most packets are. What is
    /// not plain goes the long way.
    ///
    /// `GUEST`: tunnels that may end here are not plain either.
    #[inline(always)]
    pub fn is_unrelated<const L2: bool, const GUEST: bool>(self, settings: &Settings) -> bool {
        let (unrelated, transport, is_tcp) = self.glance::<L2, GUEST>(settings);
        #[expect(clippy::cast_possible_truncation, reason = "inside a packet")]
        let transport = transport as u32;
        unrelated && ((!GUEST && self.is_of_stack()) || self.sums_up(transport, is_tcp))
    }

    /// Whether a packet that [`is_unrelated`](Self::is_unrelated) may go somewhere that is blocked,
    /// as far as the filter says: only first packets are asked for.
    #[inline(always)]
    pub fn may_be_blocked<const L2: bool>(self) -> bool {
        const TCP: u8 = 6;
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        // SAFETY: fields of the context; every access below is inside the packet, as compared.
        unsafe {
            let start = (*self.0).data as usize;
            let end = (*self.0).data_end as usize;
            let byte = |at: usize| *((start + at) as *const u8);
            let network = if L2 { 14 } else { 0 };
            if start + network + 34 > end {
                return true;
            }
            let (next, transport, destination) = match byte(network) >> 4 {
                4 => (byte(network + 9), network + 20, network + 16),
                6 => (byte(network + 6), network + 40, network + 24),
                _ => return true,
            };
            if next == TCP {
                if start + transport + 14 > end {
                    return true;
                }
                if byte(transport + 13) & (SYN | ACK) != SYN {
                    return false;
                }
            }
            let word = u32::from_be_bytes([
                byte(destination),
                byte(destination + 1),
                byte(destination + 2),
                byte(destination + 3),
            ]);
            blocked::may_match(word, transport == network + 40)
        }
    }

    /// Whether it surely is no mail; where its transport header is; and
    /// whether it is TCP.
    #[inline(always)]
    fn glance<const L2: bool, const GUEST: bool>(self, settings: &Settings) -> (bool, usize, bool) {
        const NO: (bool, usize, bool) = (false, 0, false);
        /// No checksum belongs into it.
        const NOWHERE: usize = WRAPPED as usize;
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const AUTHENTICATION: u8 = 51;
        // SAFETY: fields of the context; every access below is inside the packet, as compared.
        unsafe {
            let start = (*self.0).data as usize;
            let end = (*self.0).data_end as usize;
            let byte = |at: usize| *((start + at) as *const u8);
            let network = if L2 { 14 } else { 0 };
            if start + network + 24 > end {
                return NO;
            }
            let kind = if L2 {
                u16::from_be_bytes([byte(12), byte(13)])
            } else {
                match byte(0) >> 4 {
                    4 => 0x0800,
                    6 => 0x86dd,
                    _ => return NO,
                }
            };
            let ports = match kind {
                0x0800 => {
                    let fragment = u16::from_be_bytes([byte(network + 6), byte(network + 7)]);
                    if byte(network) != 0x45 || fragment & 0x3fff != 0 {
                        return NO;
                    }
                    match byte(network + 9) {
                        TCP => {
                            // A length that ends before the ports is not plain; 0 is, of large ones.
                            let total = u16::from_be_bytes([byte(network + 2), byte(network + 3)]);
                            if total != 0 && total < 24 {
                                return NO;
                            }
                            network + 20
                        }
                        AUTHENTICATION => return NO,
                        4 | 41 | 47 if GUEST => return NO,
                        UDP if GUEST => {
                            let ports = network + 20;
                            if start + ports + 4 > end {
                                return NO;
                            }
                            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
                            return (!is_tunnel_port(port), ports, false);
                        }
                        _ => return (true, network + 20, false),
                    }
                }
                0x86dd => {
                    if start + network + 40 > end || byte(network) >> 4 != 6 {
                        return NO;
                    }
                    match byte(network + 6) {
                        TCP => {
                            let payload =
                                u16::from_be_bytes([byte(network + 4), byte(network + 5)]);
                            if payload != 0 && payload < 4 {
                                return NO;
                            }
                            network + 40
                        }
                        UDP if GUEST => {
                            let ports = network + 40;
                            // It may be there, but not in the linear part.
                            if start + ports + 4 > end {
                                return NO;
                            }
                            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
                            return (!is_tunnel_port(port), ports, false);
                        }
                        // UDP and ICMP: most of the rest.
                        UDP | 58 => return (true, network + 40, false),
                        _ => return NO,
                    }
                }
                0x0806 => return (true, NOWHERE, false),
                _ => return NO,
            };
            if start + ports + 4 > end {
                return NO;
            }
            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
            let unrelated = match group_of(port) {
                PortGroup::Other => true,
                PortGroup::Mailbox => settings.flags & settings::flags::SANCTIONS == 0,
                PortGroup::Smtp | PortGroup::Submission => false,
            };
            (unrelated, ports, true)
        }
    }
}

/// [`Skb::is_forwarded_here`], in a frame of its own.
#[inline(never)]
fn is_forwarded_here(context: *const __sk_buff, bridged: bool) -> bool {
    /// The lowest bits are flags.
    const POINTER: u64 = !7;
    let skb = kernel::address_of(context);
    let number = |at: u64| kernel::read::<u64>(at).unwrap_or(0);
    let dev = number(skb + u64::from(OFFSET_SKB_DEV.load()));
    let route = number(skb + u64::from(OFFSET_SKB_ROUTE.load())) & POINTER;
    if route == 0 {
        return bridged || number(dev + u64::from(OFFSET_DEV_RX_HANDLER.load())) == 0;
    }
    let net_of = |dev: u64| number(dev + u64::from(OFFSET_DEV_NET.load()));
    net_of(number(route + u64::from(OFFSET_ROUTE_DEV.load()))) == net_of(dev)
}

/// Whether the packet was routed.
#[inline(never)]
fn is_routed(context: *const __sk_buff) -> bool {
    let at = kernel::address_of(context) + u64::from(OFFSET_SKB_ROUTE.load());
    kernel::read::<u64>(at).unwrap_or(1) & !7 != 0
}

/// [`Skb::checksum_place`], in a frame of its own.
#[inline(never)]
fn checksum_place(context: *const __sk_buff) -> u32 {
    let skb = kernel::address_of(context);
    let summed: u8 = kernel::read(skb + u64::from(OFFSET_SKB_SUMMED.load())).unwrap_or(0xff);
    if summed >> (SHIFT_SKB_SUMMED.load() & 7) & 3 != CHECKSUM_PARTIAL {
        return 0;
    }
    let at = skb + u64::from(OFFSET_SKB_CSUM_START.load());
    // Neighbours are read together: each question to the kernel costs several nanoseconds.
    let both: u32 = kernel::read(at).unwrap_or(0);
    let both = u64::from(both);
    let (start, offset) = if cfg!(target_endian = "little") {
        (both & 0xffff, both >> 16)
    } else {
        (both >> 16, both & 0xffff)
    };
    let at = skb + u64::from(OFFSET_SKB_HEAD.load());
    let [head, data]: [u64; 2] = kernel::read(at).unwrap_or([0; 2]);
    #[expect(clippy::cast_possible_truncation, reason = "far less than 4 GiB")]
    let place = (start + offset).wrapping_sub(data.wrapping_sub(head)) as u32;
    // At the very beginning no checksum belongs either.
    if place == 0 { 1 } else { place }
}

/// What a port is used for.
#[inline(always)]
pub fn group_of(port: u16) -> PortGroup {
    let Some(table) = maps::PORTS.get(0) else {
        // It always is there.
        return PortGroup::Smtp;
    };
    match table.groups[usize::from(kernel::bounded(port))] {
        1 => PortGroup::Smtp,
        2 => PortGroup::Submission,
        3 => PortGroup::Mailbox,
        _ => PortGroup::Other,
    }
}
