//! Headers, byte by byte: as they are defined, and nothing of the parser under test.

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// The node that ends tunnels.
pub const NODE4: [u8; 4] = [192, 0, 2, 1];

/// Says a length in 16 bits; too large ones say 0, as large packets of a node's own do.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(0).to_be_bytes()
}

/// A frame with VLAN tags of the types in `tags`.
#[must_use]
pub fn ethernet(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0x20, 7]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A frame whose type stands behind an 802.2 SNAP header.
#[must_use]
pub fn snap(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut inner = vec![0xaa, 0xaa, 3, 0, 0, 0];
    inner.extend(kind.to_be_bytes());
    inner.extend(payload);
    let long = u16::try_from(inner.len().min(1500)).unwrap_or(1500);
    ethernet(tags, long, &inner)
}

/// A PPPoE session frame; `short`: the protocol number is one byte.
#[must_use]
pub fn pppoe(tags: &[u16], kind: u16, short: bool, payload: &[u8]) -> Vec<u8> {
    let number = if kind == IPV6 { 0x57 } else { 0x21 };
    let mut inner = vec![0x11, 0, 0, 5];
    inner.extend(length(payload.len() + 2 - usize::from(short)));
    if !short {
        inner.push(0);
    }
    inner.push(number);
    inner.extend(payload);
    ethernet(tags, 0x8864, &inner)
}

/// What an IPv4 header says of fragments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Which packet it is of.
    pub id: u16,
    /// Where it starts, bytes; eight divide it.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
}

/// An IPv4 packet. `options` are as long as four divides.
#[must_use]
pub fn ipv4(options: &[u8], protocol: u8, to: [u8; 4], part: Part, payload: &[u8]) -> Vec<u8> {
    let head = 20 + options.len();
    let words = u8::try_from(head / 4).unwrap_or(15);
    let mut packet = vec![0x40 | words & 15, 0];
    packet.extend(length(head + payload.len()));
    packet.extend(part.id.to_be_bytes());
    let place = u16::try_from(part.offset / 8).unwrap_or(0) & 0x1fff;
    packet.extend((place | if part.more { 0x2000 } else { 0 }).to_be_bytes());
    packet.extend([64, protocol, 0, 0, 198, 51, 100, 7]);
    packet.extend(to);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
#[must_use]
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length(payload.len()));
    packet.extend([next, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    packet.extend(payload);
    packet
}

/// An extension header of `units` of eight bytes beside the first, in front of `payload`.
#[must_use]
pub fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, units];
    // One padding option would be at most 257 bytes; what they say does not matter here.
    bytes.resize((usize::from(units) + 1) * 8, 0);
    bytes.extend(payload);
    bytes
}

/// A fragment header of IPv6.
#[must_use]
pub fn fragment(next: u8, part: Part, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    let place = u16::try_from(part.offset).unwrap_or(0) & 0xfff8;
    bytes.extend((place | u16::from(part.more)).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(part.id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An authentication header with `words` of four bytes beside the first two.
#[must_use]
pub fn authentication(next: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, words];
    bytes.resize((usize::from(words) + 2) * 4, 0);
    bytes.extend(payload);
    bytes
}

/// A first segment to `port`.
#[must_use]
pub fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 4321_u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

/// A datagram to `port`.
#[must_use]
pub fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 4321_u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(length(payload.len() + 8));
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// GRE; of `flags` the upper four bits count: checksum, nothing, key, sequence number.
#[must_use]
pub fn gre(flags: u8, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags & 0xb0, 0];
    bytes.extend(kind.to_be_bytes());
    for flag in [0x80, 0x20, 0x10] {
        if flags & flag != 0 {
            bytes.extend([0, 0, 0, 3]);
        }
    }
    bytes.extend(payload);
    bytes
}

/// VXLAN around a frame, with UDP.
#[must_use]
pub fn vxlan(port: u16, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 5, 0];
    bytes.extend(frame);
    udp(port, &bytes)
}

/// Geneve around what `kind` says, with `words` of options of four bytes, with UDP.
#[must_use]
pub fn geneve(words: u8, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![words & 0x3f, 0];
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 0, 5, 0]);
    bytes.resize(8 + usize::from(words & 0x3f) * 4, 0);
    bytes.extend(payload);
    udp(6081, &bytes)
}
