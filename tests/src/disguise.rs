//! Frames that say the same and look different: what is done to blind whoever reads packets.
//!
//! A [`Disguise`] takes a frame with an IP packet in it and gives one or several frames back. Apply
//! what changes the IP packet before what wraps it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

const ADDRESSES: usize = 12;
/// The length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const IPV6_HEADER: usize = 40;

/// What is done to a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disguise {
    /// So many words of four options that mean nothing; at most ten fit.
    Nops(u8),
    /// IPv6 extension headers, in this order.
    Extensions(Vec<Extension>),
    /// Cut into two fragments.
    Fragments {
        /// Bytes of payload in the first; a multiple of eight.
        first: usize,
        /// Send the second first.
        reversed: bool,
        /// By how many bytes the second begins before the first ends; a multiple of eight.
        overlap: usize,
    },
    /// A whole first fragment to this port comes before the true one.
    FalseFirst(u16),
    /// These flags set on top of SYN, and data in it.
    Syn {
        /// Flags as in the TCP header's lower byte.
        flags: u8,
        /// Whether data comes with it.
        data: bool,
    },
    /// The header length field of IPv4 says so many words, whatever is there.
    HeaderWords(u8),
    /// The total length field of IPv4 (the payload length of IPv6) says zero.
    NoLength,
    /// Bytes behind the end of the packet.
    Trailer(usize),
    /// A VLAN tag, outermost.
    Vlan {
        /// 0x8100 or 0x88a8.
        protocol: u16,
        /// The VLAN; 0 only carries a priority, and hosts without VLANs take such frames.
        vlan: u16,
    },
    /// IEEE 802.3 with LLC and SNAP instead of Ethernet II.
    Snap,
    /// IP in IP (4 or 41, by what is inside), to this end of the tunnel.
    IpInIp {
        /// The source of the outer packet.
        from: IpAddr,
        /// The end of the tunnel.
        to: IpAddr,
    },
    /// GRE without options, to this end of the tunnel.
    Gre {
        /// The source of the outer packet.
        from: IpAddr,
        /// The end of the tunnel.
        to: IpAddr,
    },
    /// VXLAN, to this end of the tunnel.
    Vxlan {
        /// The source of the outer packet.
        from: Ipv4Addr,
        /// The end of the tunnel.
        to: Ipv4Addr,
        /// Its Ethernet address inside the tunnel, and the network's number.
        inside: [u8; 6],
        /// The network's number.
        network: u32,
    },
}

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extension {
    /// Hop-by-hop options: padding, so many times eight bytes in all.
    HopByHop(u8),
    /// Destination options: padding, so many times eight bytes in all.
    Destination(u8),
    /// A routing header of this type with no segments left.
    Routing(u8),
    /// A fragment header of a packet that is whole.
    Atomic,
    /// An authentication header of this many words of four, at least three.
    Authentication(u8),
    /// A header of this number that nobody knows, in the form that all new ones have.
    Unknown(u8),
}

impl Disguise {
    /// What becomes of the frame. Frames that it cannot be applied to stay as they are.
    #[must_use]
    pub fn apply(&self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.try_apply(frame)
            .unwrap_or_else(|| vec![frame.to_vec()])
    }

    fn try_apply(&self, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
        let one = |frame: Vec<u8>| Some(vec![frame]);
        match self {
            Self::Nops(words) => one(nops(frame, *words)?),
            Self::Extensions(extensions) => one(extend(frame, extensions)?),
            Self::Fragments {
                first,
                reversed,
                overlap,
            } => fragments(frame, *first, *reversed, *overlap),
            Self::FalseFirst(port) => false_first(frame, *port),
            Self::Syn { flags, data } => one(syn(frame, *flags, *data)?),
            Self::HeaderWords(words) => {
                let mut frame = v4(frame)?.to_vec();
                frame[ETHERNET] = 0x40 | (words & 15);
                checksum4(&mut frame[ETHERNET..])?;
                one(frame)
            }
            Self::NoLength => {
                let mut new = frame.to_vec();
                match ethertype(frame)? {
                    IPV4 => {
                        new[ETHERNET + 2..ETHERNET + 4].fill(0);
                        checksum4(&mut new[ETHERNET..])?;
                    }
                    _ => new.get_mut(ETHERNET + 4..ETHERNET + 6)?.fill(0),
                }
                one(new)
            }
            Self::Trailer(bytes) => one([frame, &vec![0x41; *bytes]].concat()),
            Self::Vlan { protocol, vlan } => one([
                frame.get(..ADDRESSES)?,
                &protocol.to_be_bytes(),
                &vlan.to_be_bytes(),
                frame.get(ADDRESSES..)?,
            ]
            .concat()),
            Self::Snap => {
                let length = u16::try_from(frame.len() - ETHERNET + 8).ok()?;
                one([
                    &frame[..ADDRESSES],
                    &length.to_be_bytes(),
                    &[0xaa, 0xaa, 3, 0, 0, 0],
                    &frame[ADDRESSES..],
                ]
                .concat())
            }
            Self::IpInIp { from, to } => {
                let number = if ethertype(frame)? == IPV4 { 4 } else { 41 };
                one(outer(frame, *from, *to, number, &frame[ETHERNET..])?)
            }
            Self::Gre { from, to } => {
                let inner = [&[0, 0], frame.get(ADDRESSES..)?].concat();
                one(outer(frame, *from, *to, 47, &inner)?)
            }
            Self::Vxlan {
                from,
                to,
                inside,
                network,
            } => {
                let inner = [&inside[..], frame.get(6..)?].concat();
                let length = u16::try_from(inner.len() + 16).ok()?;
                let [_, a, b, c] = network.to_be_bytes();
                let udp = [
                    &40_000_u16.to_be_bytes()[..],
                    &4789_u16.to_be_bytes(),
                    &length.to_be_bytes(),
                    &[0, 0, 8, 0, 0, 0, a, b, c, 0],
                    &inner,
                ]
                .concat();
                one(outer(frame, (*from).into(), (*to).into(), 17, &udp)?)
            }
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    let bytes = frame.get(ADDRESSES..ETHERNET)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn v4(frame: &[u8]) -> Option<&[u8]> {
    (ethertype(frame)? == IPV4 && frame.len() >= ETHERNET + 20).then_some(frame)
}

fn v6(frame: &[u8]) -> Option<&[u8]> {
    (ethertype(frame)? == IPV6 && frame.len() >= ETHERNET + IPV6_HEADER).then_some(frame)
}

/// Where the payload of the IP packet begins, behind options; extension headers are payload.
fn payload(frame: &[u8]) -> Option<usize> {
    match ethertype(frame)? {
        IPV4 => Some(ETHERNET + usize::from(*frame.get(ETHERNET)? & 15) * 4),
        IPV6 => Some(ETHERNET + IPV6_HEADER),
        _ => None,
    }
}

/// Whether it is a frame with TCP right behind the IP header: what is worth a disguise.
#[must_use]
pub fn carries_tcp(frame: &[u8]) -> bool {
    match ethertype(frame) {
        Some(IPV4) => frame.get(ETHERNET + 9) == Some(&TCP),
        Some(IPV6) => frame.get(ETHERNET + 6) == Some(&TCP),
        _ => false,
    }
}

/// Whether it is such a frame, and there is data behind its TCP header.
#[must_use]
pub fn has_payload(frame: &[u8]) -> bool {
    find_tcp(frame).is_some_and(|tcp| {
        let words = frame.get(tcp.at + 12).map_or(0, |byte| byte >> 4);
        frame.len() > tcp.at + usize::from(words) * 4
    })
}

/// Where a frame has TCP.
pub(crate) struct TcpPlace {
    /// Where the TCP header begins.
    pub at: usize,
    /// Whether it is IPv6.
    pub v6: bool,
}

/// Where a frame has TCP right behind the IP header, if it has.
pub(crate) fn find_tcp(frame: &[u8]) -> Option<TcpPlace> {
    if !carries_tcp(frame) {
        return None;
    }
    Some(TcpPlace {
        at: payload(frame)?,
        v6: ethertype(frame)? == IPV6,
    })
}

impl TcpPlace {
    /// What TCP's checksum takes in beside the segment.
    pub(crate) fn pseudo_header<'f>(&self, frame: &'f [u8]) -> PseudoHeader<'f> {
        let addresses = if self.v6 {
            &frame[ETHERNET + 8..ETHERNET + 40]
        } else {
            &frame[ETHERNET + 12..ETHERNET + 20]
        };
        let length = u32::try_from(frame.len() - self.at).unwrap_or(u32::MAX);
        PseudoHeader {
            addresses,
            length: length.to_be_bytes(),
        }
    }
}

/// What TCP's checksum takes in beside the segment.
pub(crate) struct PseudoHeader<'f> {
    addresses: &'f [u8],
    length: [u8; 4],
}

impl PseudoHeader<'_> {
    /// Its checksum, together with this.
    pub(crate) fn checksum(&self, segment: &[u8]) -> u16 {
        checksum(&[self.addresses, &self.length, &[0, TCP], segment])
    }
}

/// Sets the length field of the IP packet to what is there, and IPv4's checksum.
fn mend(frame: &mut [u8]) -> Option<()> {
    set_length(frame, frame.len())
}

/// Sets the length field of the IP packet as if the frame were so long, and IPv4's checksum.
pub(crate) fn set_length(frame: &mut [u8], frame_length: usize) -> Option<()> {
    let length = frame_length.checked_sub(ETHERNET)?;
    match ethertype(frame)? {
        IPV4 => {
            let length = u16::try_from(length).ok()?;
            frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
            checksum4(&mut frame[ETHERNET..])
        }
        IPV6 => {
            let length = u16::try_from(length.checked_sub(IPV6_HEADER)?).ok()?;
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
            Some(())
        }
        _ => None,
    }
}

/// Sets the checksum of an IPv4 header, as far as it is there.
fn checksum4(packet: &mut [u8]) -> Option<()> {
    let length = (usize::from(packet.first()? & 15) * 4).clamp(20, packet.len());
    packet.get_mut(10..12)?.fill(0);
    let sum = checksum(&[packet.get(..length)?]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The Internet checksum; every part but the last has an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn nops(frame: &[u8], words: u8) -> Option<Vec<u8>> {
    let at = payload(v4(frame)?)?;
    let mut new = [
        &frame[..at],
        &vec![1; usize::from(words) * 4],
        frame.get(at..)?,
    ]
    .concat();
    let all = (frame[ETHERNET] & 15).checked_add(words)?;
    if all > 15 {
        return None;
    }
    new[ETHERNET] = 0x40 | all;
    mend(&mut new)?;
    Some(new)
}

fn extend(frame: &[u8], extensions: &[Extension]) -> Option<Vec<u8>> {
    let frame = v6(frame)?;
    let mut next = frame[ETHERNET + 6];
    let mut behind = frame[ETHERNET + IPV6_HEADER..].to_vec();
    for extension in extensions.iter().rev() {
        let (number, header) = extension.bytes(next);
        next = number;
        behind = [header, behind].concat();
    }
    let mut new = [&frame[..ETHERNET + IPV6_HEADER], &behind].concat();
    new[ETHERNET + 6] = next;
    mend(&mut new)?;
    Some(new)
}

impl Extension {
    /// Its number, and its bytes.
    fn bytes(self, next: u8) -> (u8, Vec<u8>) {
        match self {
            Self::HopByHop(eights) => (0, options(next, eights)),
            Self::Destination(eights) => (60, options(next, eights)),
            Self::Routing(kind) => (43, vec![next, 0, kind, 0, 0, 0, 0, 0]),
            Self::Atomic => (44, vec![next, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]),
            Self::Authentication(words) => {
                let words = words.max(3);
                let mut header = vec![0x5a; usize::from(words) * 4];
                header[..4].copy_from_slice(&[next, words - 2, 0, 0]);
                (51, header)
            }
            Self::Unknown(number) => (number, vec![next, 0, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// An options header filled with padding. Receivers refuse more than seven bytes of padding in a
/// row, so that what is longer is an option that nobody knows and everybody skips.
fn options(next: u8, eights: u8) -> Vec<u8> {
    let eights = eights.max(1);
    let length = usize::from(eights) * 8;
    let mut header = vec![0; length];
    header[0] = next;
    header[1] = eights - 1;
    let kind = if length == 8 { 1 } else { 0x1e };
    let mut at = 2;
    while at < length {
        let data = (length - at - 2).min(255);
        // An option of one byte would be left: it has no room for its length.
        let data = if length - at - 2 - data == 1 {
            data - 1
        } else {
            data
        };
        header[at] = kind;
        header[at + 1] = u8::try_from(data).unwrap_or(u8::MAX);
        at += 2 + data;
    }
    header
}

fn fragments(frame: &[u8], first: usize, reversed: bool, overlap: usize) -> Option<Vec<Vec<u8>>> {
    let at = payload(frame)?;
    let data = frame.get(at..)?;
    if data.len() <= first {
        return None;
    }
    let begin = first.checked_sub(overlap)?;
    let mut all = vec![
        fragment(frame, at, &data[..first], 0, true)?,
        fragment(frame, at, &data[begin..], begin, false)?,
    ];
    if reversed {
        all.reverse();
    }
    Some(all)
}

/// One fragment of the frame's packet: `data` from `offset` of its payload.
fn fragment(frame: &[u8], at: usize, data: &[u8], offset: usize, more: bool) -> Option<Vec<u8>> {
    let offset = u16::try_from(offset / 8).ok()?;
    if ethertype(frame)? == IPV4 {
        let mut new = [&frame[..at], data].concat();
        let field = offset | if more { 0x2000 } else { 0 };
        // Fragments belong together by the identification, which a packet that may not be
        // fragmented need not have: make it from what tells packets apart.
        let id = checksum(&[frame.get(at..)?]) | 1;
        new[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&id.to_be_bytes());
        new[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&field.to_be_bytes());
        mend(&mut new)?;
        return Some(new);
    }
    let field = (offset << 3) | u16::from(more);
    let id = u32::from(checksum(&[frame.get(at..)?])) | 0x1_0000;
    let mut new = [
        &frame[..at],
        &[frame[ETHERNET + 6], 0],
        &field.to_be_bytes(),
        &id.to_be_bytes(),
        data,
    ]
    .concat();
    new[ETHERNET + 6] = 44;
    mend(&mut new)?;
    Some(new)
}

fn false_first(frame: &[u8], port: u16) -> Option<Vec<Vec<u8>>> {
    let at = payload(frame)?;
    let data = frame.get(at..)?;
    if data.len() <= 16 {
        return None;
    }
    let mut lie = data[..16].to_vec();
    lie[2..4].copy_from_slice(&port.to_be_bytes());
    Some(vec![
        fragment(frame, at, &lie, 0, true)?,
        fragment(frame, at, &data[..16], 0, true)?,
        fragment(frame, at, &data[16..], 16, false)?,
    ])
}

fn syn(frame: &[u8], flags: u8, data: bool) -> Option<Vec<u8>> {
    let at = payload(frame)?;
    const SYN_OF_ALL: u8 = 0x17;
    // Only the first packet of a connection, not what answers one.
    if frame.get(at + 13)? & SYN_OF_ALL != 2 {
        return None;
    }
    let mut new = frame.to_vec();
    new[at + 13] |= flags;
    if data {
        new.extend(b"EHLO early\r\n");
    }
    mend(&mut new)?;
    new[at + 16..at + 18].fill(0);
    let sum = find_tcp(&new)?.pseudo_header(&new).checksum(&new[at..]);
    new[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    Some(new)
}

/// An IP packet around `inner`, in a frame between the same ends.
fn outer(frame: &[u8], from: IpAddr, to: IpAddr, number: u8, inner: &[u8]) -> Option<Vec<u8>> {
    let mut new = frame.get(..ADDRESSES)?.to_vec();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            new.extend(IPV4.to_be_bytes());
            new.extend([0x45, 0, 0, 0, 0, 7, 0, 0, 64, number, 0, 0]);
            new.extend(from.octets());
            new.extend(to.octets());
        }
        _ => {
            new.extend(IPV6.to_be_bytes());
            new.extend([0x60, 0, 0, 0, 0, 0, number, 64]);
            new.extend(in_six(from).octets());
            new.extend(in_six(to).octets());
        }
    }
    new.extend(inner);
    mend(&mut new)?;
    Some(new)
}

fn in_six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
