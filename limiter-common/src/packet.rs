//! What a packet is: the one parser of all layers that see packets.
//!
//! It walks what a receiver would walk (VLAN tags, IPv4 options, IPv6 extension headers,
//! authentication headers, the first fragment) and says so where it cannot: whatever could be mail
//! and cannot be read is [`Kind::Unresolved`], for the caller to refuse. Ordinary users can make
//! all of these, so a parser of fixed offsets is blind.

use crate::address::{Address, from_v4};

/// Where bytes of a packet come from.
pub trait Bytes {
    /// Copies the bytes at `offset` to `to`; `false` if the packet ends before.
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool;

    /// Called where ways of reading come together with what they found. In the kernel the verifier
    /// forgets there how it came to it, and goes on one way; everywhere else nothing happens.
    #[inline(always)]
    fn settle<T: Copy>(&self, _found: &mut T) {}

    /// Whether the packet still will be cut into segments: then the lengths in its headers mean
    /// nothing, and all that is there is sent.
    fn is_cut_later(&self) -> bool {
        false
    }
}

impl Bytes for [u8] {
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.get(at..)) else {
            return false;
        };
        let Some(found) = rest.first_chunk::<N>() else {
            return false;
        };
        *to = *found;
        true
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Neither IPv4 nor IPv6.
    #[default]
    Foreign,
    /// IP, and surely not TCP: addresses are known.
    Other,
    /// A later fragment: what it belongs to was said by the first, without which it is nothing.
    Rest,
    /// TCP: ports are known. Unless [`truncated`](Packet::truncated), so is the rest.
    Tcp,
    /// It could be mail, and cannot be read.
    Unresolved,
}

/// Flags of a TCP header.
pub mod tcp {
    /// The sender is done.
    pub const FIN: u8 = 1;
    /// The first of a connection.
    pub const SYN: u8 = 1 << 1;
    /// The connection is over at once.
    pub const RST: u8 = 1 << 2;
    /// Something is acknowledged.
    pub const ACK: u8 = 1 << 4;
}

/// The most VLAN tags that are looked behind: no network stacks more than two or three.
pub const MAX_VLANS: u32 = 4;
/// The most IPv6 extension headers that are walked.
pub const MAX_HEADERS: u32 = 12;

/// A packet, as far as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Where the IP header starts.
    pub network: u32,
    /// Where the TCP header starts.
    pub transport: u32,
    /// Where the TCP payload starts; where the packet ends, if it is [`Other`](Kind::Other).
    pub payload: u32,
    /// How long it is, as the IP header says and the packet can hold.
    pub payload_len: u32,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Source port in host order.
    pub source_port: u16,
    /// Destination port in host order.
    pub destination_port: u16,
    /// What it is.
    pub kind: Kind,
    /// Flags of [`tcp`].
    pub flags: u8,
    /// Whether it is IPv6.
    pub v6: bool,
    /// The ports are known, but not all of the TCP header is there, or more of it can follow in
    /// another fragment, or its destination is not where it ends: what the receiver sees in the
    /// end is not known. Of [`Other`](Kind::Other): more follows in other fragments.
    pub truncated: bool,
    /// The protocol behind IP headers, 0 if it was not reached.
    pub protocol: u8,
    /// It was inside a tunnel.
    pub inner: bool,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const PPPOE_SESSION: u16 = 0x8864;
/// Below this an Ethernet frame states its length instead of its type.
const FIRST_TYPE: u16 = 0x0600;
/// Ethernet inside something else.
const ETHERNET: u16 = 0x6558;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const VXLAN: u16 = 4789;
/// Linux' own, from before there was another.
const OLD_VXLAN: u16 = 8472;
const GENEVE: u16 = 6081;

/// Whether what is sent to this UDP port may be inside a tunnel.
#[must_use]
#[inline(always)]
pub const fn is_tunnel_port(port: u16) -> bool {
    matches!(port, VXLAN | OLD_VXLAN | GENEVE)
}

const TCP_HEADER: u32 = 20;
/// How far the headers in front of TCP reach in a packet that comes in fragments, bytes. Longer
/// ones are refused with the first fragment; later fragments that start before that could write
/// over them, and no sender makes any: IPv6 networks take at least 1,280 bytes at once.
const FRAGMENT_HEADERS: u32 = 128;
/// How much of what a tunnel carries must be in the first fragment: all headers there could be.
const TUNNEL_HEADERS: u32 = 160;
/// What Cisco's WCCP puts in GRE, which Linux takes for IPv4.
const WCCP: u16 = 0x883e;

impl Packet {
    /// Whether it opens a connection, in whatever disguise: some servers take a SYN with other
    /// flags beside it.
    #[must_use]
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & tcp::SYN != 0 && self.flags & tcp::ACK == 0
    }

    /// Reads a frame of `len` bytes that starts with an Ethernet header.
    #[inline(always)]
    pub fn of_frame<B: Bytes + ?Sized>(bytes: &B, len: u32) -> Self {
        Self::of_frame_at(bytes, len, 0)
    }

    /// What is inside a tunnel that ends at this packet's destination, if it is one of those that
    /// Linux ends without further ado: IPIP, SIT, GRE, VXLAN and Geneve at their usual ports.
    #[inline(always)]
    pub fn inside<B: Bytes + ?Sized>(&self, bytes: &B, len: u32) -> Self {
        let mut inner = Self::default();
        if self.kind != Kind::Other {
            return inner;
        }
        // Behind its end the frame says what it likes.
        let len = if self.payload < len {
            self.payload
        } else {
            len
        };
        let mut head = [0; 4];
        let (mut kind, mut at) = match self.protocol {
            4 => (IPV4, self.transport),
            41 => (IPV6, self.transport),
            47 => {
                if !bytes.load(self.transport, &mut head) || head[1] & 7 != 0 {
                    inner.kind = self.unread();
                    return inner;
                }
                // Checksum, key and sequence number, four bytes each.
                let mut at = self.transport + 4;
                at += u32::from(head[0] >> 7) * 4;
                at += u32::from(head[0] >> 5 & 1) * 4;
                at += u32::from(head[0] >> 4 & 1) * 4;
                (u16::from_be_bytes([head[2], head[3]]), at)
            }
            UDP => {
                let mut ports = [0; 4];
                let mut datagram = [0; 12];
                if !bytes.load(self.transport, &mut ports)
                    || !is_tunnel_port(u16::from_be_bytes([ports[2], ports[3]]))
                {
                    return inner;
                }
                if !bytes.load(self.transport, &mut datagram) {
                    inner.kind = self.unread();
                    return inner;
                }
                match u16::from_be_bytes([datagram[2], datagram[3]]) {
                    VXLAN | OLD_VXLAN => (ETHERNET, self.transport + 16),
                    GENEVE => (
                        u16::from_be_bytes([datagram[10], datagram[11]]),
                        self.transport + 16 + u32::from(datagram[8] & 0x3f) * 4,
                    ),
                    _ => return inner,
                }
            }
            _ => return inner,
        };
        if self.truncated && at + TUNNEL_HEADERS > len {
            inner.kind = Kind::Unresolved;
            return inner;
        }
        if kind == WCCP {
            let mut first = [0; 1];
            if !bytes.load(at, &mut first) {
                return inner;
            }
            kind = IPV4;
            if first[0] >> 4 != 4 {
                at += 4;
            }
        }
        if kind == ETHERNET {
            inner = Self::of_frame_at(bytes, len, at);
        } else {
            inner.read_ip(bytes, len, at, kind);
        }
        inner.inner = true;
        inner
    }

    /// What the inside of a tunnel is whose header is not all there: the rest can follow.
    #[inline(always)]
    const fn unread(&self) -> Kind {
        if self.truncated {
            Kind::Unresolved
        } else {
            Kind::Foreign
        }
    }

    #[inline(always)]
    fn of_frame_at<B: Bytes + ?Sized>(bytes: &B, len: u32, start: u32) -> Self {
        let mut packet = Self::default();
        let mut two = [0; 2];
        let mut at = start + 12;
        if !bytes.load(at, &mut two) {
            return packet;
        }
        let mut kind = u16::from_be_bytes(two);
        at += 2;
        let mut tags = 0;
        while tags < MAX_VLANS {
            if !is_vlan(kind) {
                break;
            }
            if !bytes.load(at + 2, &mut two) {
                return packet;
            }
            kind = u16::from_be_bytes(two);
            at += 4;
            tags += 1;
        }
        if is_vlan(kind) {
            packet.kind = Kind::Unresolved;
            return packet;
        }
        if kind < FIRST_TYPE {
            // IP behind an 802.2 SNAP header: not Linux, but some routers take it.
            let mut snap = [0; 8];
            if !bytes.load(at, &mut snap) || snap[0] != 0xaa || snap[1] != 0xaa || snap[2] != 3 {
                return packet;
            }
            kind = u16::from_be_bytes([snap[6], snap[7]]);
            at += 8;
        }
        if kind == PPPOE_SESSION {
            if !bytes.load(at + 6, &mut two) {
                return packet;
            }
            // One byte is enough where the number is odd, which no other's first byte is.
            let long;
            (kind, long) = match two {
                [0, 0x21] => (IPV4, 8),
                [0, 0x57] => (IPV6, 8),
                [0x21, _] => (IPV4, 7),
                [0x57, _] => (IPV6, 7),
                _ => return packet,
            };
            at += long;
        }
        let mut found = (at, kind);
        bytes.settle(&mut found);
        packet.read_ip(bytes, len, found.0, found.1);
        packet
    }

    /// Reads a packet of `len` bytes that starts with an IP header.
    #[inline(always)]
    pub fn of_ip<B: Bytes + ?Sized>(bytes: &B, len: u32) -> Self {
        let mut packet = Self::default();
        let mut first = [0; 1];
        if !bytes.load(0, &mut first) {
            return packet;
        }
        let kind = match first[0] >> 4 {
            4 => IPV4,
            6 => IPV6,
            _ => return packet,
        };
        packet.read_ip(bytes, len, 0, kind);
        packet
    }

    #[inline(always)]
    fn read_ip<B: Bytes + ?Sized>(&mut self, bytes: &B, len: u32, at: u32, kind: u16) {
        self.network = at;
        let way = match kind {
            IPV4 => self.read_v4(bytes, len, at),
            IPV6 => self.read_v6(bytes, len, at),
            _ => return,
        };
        let Some(mut way) = way else {
            return;
        };
        bytes.settle(self);
        bytes.settle(&mut way);
        self.walk(bytes, way);
    }

    /// Reads an IPv4 header; `None` where it cannot be one.
    #[inline(always)]
    fn read_v4<B: Bytes + ?Sized>(&mut self, bytes: &B, len: u32, at: u32) -> Option<Way> {
        self.kind = Kind::Unresolved;
        let mut header = [0; 20];
        if !bytes.load(at, &mut header) {
            return None;
        }
        let words = header[0] & 0xf;
        self.source = from_v4([header[12], header[13], header[14], header[15]]);
        self.destination = from_v4([header[16], header[17], header[18], header[19]]);
        self.protocol = header[9];
        if header[0] >> 4 != 4 || words < 5 {
            return None;
        }
        let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        Some(Way {
            at: at + u32::from(words) * 4,
            end: end_of(at, if bytes.is_cut_later() { 0 } else { total }, len),
            offset: u32::from(fragment & 0x1fff) * 8,
            walked: 0,
            next: header[9],
            more: fragment & 0x2000 != 0,
            split: false,
            v6: false,
        })
    }

    /// Reads an IPv6 header; `None` where it cannot be one.
    #[inline(always)]
    fn read_v6<B: Bytes + ?Sized>(&mut self, bytes: &B, len: u32, at: u32) -> Option<Way> {
        self.kind = Kind::Unresolved;
        self.v6 = true;
        let mut header = [0; 8];
        if !bytes.load(at, &mut header)
            || !bytes.load(at + 8, &mut self.source)
            || !bytes.load(at + 24, &mut self.destination)
        {
            return None;
        }
        self.protocol = header[6];
        if header[0] >> 4 != 6 {
            return None;
        }
        let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let total = if payload == 0 { 0 } else { payload + 40 };
        Some(Way {
            at: at + 40,
            end: end_of(at, if bytes.is_cut_later() { 0 } else { total }, len),
            offset: 0,
            walked: 0,
            next: header[6],
            more: false,
            split: false,
            v6: true,
        })
    }

    /// Walks the headers to what they carry.
    #[inline(always)]
    fn walk<B: Bytes + ?Sized>(&mut self, bytes: &B, mut way: Way) {
        let mut headers = 0;
        while headers < MAX_HEADERS {
            headers += 1;
            if way.offset != 0 || !way.goes_on() {
                break;
            }
            if !self.step(bytes, &mut way) {
                return;
            }
            bytes.settle(&mut way);
        }
        bytes.settle(&mut way);
        if way.offset != 0 {
            self.protocol = way.next;
            // A fragment that can write over the headers of the first one. What an IPv6 one says of
            // the next header counts for nothing.
            let reach = if way.v6 || way.next == AUTHENTICATION {
                FRAGMENT_HEADERS
            } else if way.next == TCP {
                TCP_HEADER
            } else {
                0
            };
            let overlaps = way.offset < reach;
            self.kind = if overlaps {
                Kind::Unresolved
            } else {
                Kind::Rest
            };
            return;
        }
        if way.hides() || way.goes_on() {
            return;
        }
        match way.next {
            TCP => {
                self.protocol = TCP;
                self.read_tcp(bytes, way.at, way.end, way.more);
            }
            // Experiments, which may be headers that somebody walks.
            253 | 254 if way.v6 => {}
            other => {
                self.protocol = other;
                self.transport = way.at;
                self.payload = way.end;
                self.truncated = way.more;
                self.kind = Kind::Other;
            }
        }
    }

    /// Passes over one header; `false` where that cannot be.
    #[inline(always)]
    fn step<B: Bytes + ?Sized>(&mut self, bytes: &B, way: &mut Way) -> bool {
        // One 8-byte look serves all headers that are walked.
        let mut head = [0; 8];
        if way.hides() || !bytes.load(way.at, &mut head) {
            return false;
        }
        let length = match way.next {
            FRAGMENT if way.v6 => {
                // Fragments of fragments: nobody makes them, and few take them.
                if way.split {
                    return false;
                }
                way.split = true;
                let place = u16::from_be_bytes([head[2], head[3]]);
                way.offset = u32::from(place & 0xfff8);
                way.more = place & 1 != 0;
                way.walked = 0;
                8
            }
            // What it protects is not hidden.
            AUTHENTICATION => {
                let length = (u32::from(head[1]) + 2) * 4;
                way.walked += length;
                length
            }
            other => {
                // The way to the destination goes on from there.
                self.truncated |= other == ROUTING && head[3] != 0;
                let length = (u32::from(head[1]) + 1) * 8;
                way.walked += length;
                length
            }
        };
        way.next = head[0];
        way.at += length;
        // Behind the end the headers go on in another fragment, or nowhere.
        way.at <= way.end
    }

    #[inline(always)]
    fn read_tcp<B: Bytes + ?Sized>(&mut self, bytes: &B, at: u32, end: u32, more: bool) {
        self.transport = at;
        self.payload = end;
        let mut ports = [0; 4];
        if at + 4 > end || !bytes.load(at, &mut ports) {
            return;
        }
        self.kind = Kind::Tcp;
        self.source_port = u16::from_be_bytes([ports[0], ports[1]]);
        self.destination_port = u16::from_be_bytes([ports[2], ports[3]]);
        let mut rest = [0; 16];
        if at + TCP_HEADER > end || !bytes.load(at + 4, &mut rest) {
            self.truncated = true;
            return;
        }
        self.seq = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
        self.ack = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]);
        self.flags = rest[9];
        let words = rest[8] >> 4;
        self.payload = at + u32::from(words) * 4;
        if words < 5 || self.payload > end {
            self.truncated = true;
            self.payload = end;
            return;
        }
        self.payload_len = end - self.payload;
        // The payload goes on elsewhere: it cannot be followed.
        self.truncated |= more;
    }
}

/// Where the headers of a packet are read.
#[derive(Clone, Copy)]
struct Way {
    /// Where the next one starts.
    at: u32,
    /// Where the packet ends.
    end: u32,
    /// Where this fragment's bytes belong, 0 for the first and for what is whole.
    offset: u32,
    /// How much of what comes in fragments lies behind. Not reckoned from `at`: for the verifier all
    /// places are to be the same.
    walked: u32,
    /// What the next one is.
    next: u8,
    /// Whether more fragments follow.
    more: bool,
    /// Whether a header said so that is not the IP header.
    split: bool,
    /// Whether it is IPv6.
    v6: bool,
}

impl Way {
    /// Whether the next header is one that others follow. IPv6: hop-by-hop, routing, fragment,
    /// destination options, mobility, HIP, shim6.
    #[inline(always)]
    const fn goes_on(&self) -> bool {
        matches!(self.next, AUTHENTICATION)
            || self.v6 && matches!(self.next, 0 | ROUTING | FRAGMENT | 60 | 135 | 139 | 140)
    }

    /// Whether a first fragment ends before what it carries is sure to begin.
    #[inline(always)]
    const fn hides(&self) -> bool {
        self.more && self.walked > FRAGMENT_HEADERS
    }
}

#[inline(always)]
const fn is_vlan(kind: u16) -> bool {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

/// Where the packet ends: as its header says, if that is not more than there is. Large packets of
/// the node's own (segmentation offload) say 0.
#[inline(always)]
const fn end_of(at: u32, total: u32, len: u32) -> u32 {
    if total == 0 || at + total > len {
        len
    } else {
        at + total
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
