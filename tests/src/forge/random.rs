//! Frames that are right, in all their shapes.

use super::{
    Rng,
    build::{
        IPV4, IPV6, NODE4, Part, authentication, ethernet, extension, fragment, geneve, gre, ipv4,
        ipv6, pppoe, snap, tcp, udp, vxlan,
    },
};

const PORTS: [u16; 8] = [25, 25, 587, 80, 443, 2525, 0x1900, 0];
const TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const ELSEWHERE: [u8; 4] = [203, 0, 113, 5];
const TUNNELS: usize = 3;

/// A frame of any shape; one in a while carries a tunnel to the node.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let (kind, packet) = packet(rng, TUNNELS);
    link(rng, kind, &packet)
}

/// A frame that nothing is wrong or unusual with, and the port it goes to if it is TCP.
pub fn plain(rng: &mut Rng) -> (Vec<u8>, Option<u16>) {
    let port = if rng.once_in(2) {
        rng.pick(&PORTS)
    } else {
        rng.word()
    };
    let data = rng.below(80);
    let data = rng.bytes(data);
    let tags: Vec<u16> = (0..rng.below(4)).map(|_| rng.pick(&TAGS)).collect();
    let (protocol, content, port) = match rng.below(4) {
        0 => (17, udp(port, &data), None),
        1 => (1, [&[8, 0, 0, 0, 0, 1, 0, 25][..], &data].concat(), None),
        _ => (6, tcp(port, &data), Some(port)),
    };
    let frame = match rng.below(6) {
        0 => return (ethernet(&tags, 0x0806, &rng.bytes(28)), None),
        1 | 2 => {
            let options = [1, 1, 1, 0].repeat(rng.below(3));
            let packet = ipv4(&options, protocol, ELSEWHERE, Part::default(), &content);
            ethernet(&tags, IPV4, &packet)
        }
        3 => {
            let units = u8::try_from(rng.below(4)).unwrap_or(0);
            let protocol = if protocol == 1 { 58 } else { protocol };
            let content = extension(protocol, units, &content);
            ethernet(&tags, IPV6, &ipv6(60, &content))
        }
        _ => {
            let protocol = if protocol == 1 { 58 } else { protocol };
            ethernet(&tags, IPV6, &ipv6(protocol, &content))
        }
    };
    let padding = rng.below(20);
    ([frame, rng.bytes(padding)].concat(), port)
}

fn link(rng: &mut Rng, kind: u16, packet: &[u8]) -> Vec<u8> {
    let tags = match rng.below(6) {
        0 | 1 => rng.below(4),
        2 => rng.below(7),
        _ => 0,
    };
    let tags: Vec<u16> = (0..tags).map(|_| rng.pick(&TAGS)).collect();
    let mut frame = match rng.below(10) {
        0 => snap(&tags, kind, packet),
        1 => pppoe(&tags, kind, rng.once_in(2), packet),
        _ => ethernet(&tags, kind, packet),
    };
    if rng.once_in(4) {
        let padding = rng.below(64);
        frame.extend(rng.bytes(padding));
    }
    frame
}

/// An IP packet and its EtherType.
fn packet(rng: &mut Rng, depth: usize) -> (u16, Vec<u8>) {
    let (mut next, mut content) = content(rng, depth);
    if rng.once_in(2) {
        for _ in 0..rng.below(3) {
            if rng.once_in(3) {
                let words = u8::try_from(rng.below(6)).unwrap_or(0);
                content = authentication(next, words, &content);
                next = 51;
            }
        }
        let options = rng.below(4) * 4;
        let options = match rng.below(4) {
            0 => rng.bytes(options),
            1 => vec![1; options],
            _ => Vec::new(),
        };
        let part = Part {
            id: rng.word(),
            offset: if rng.once_in(12) { rng.below(8) * 8 } else { 0 },
            more: rng.once_in(12),
        };
        let to = if depth > 0 && matches!(next, 4 | 17 | 41 | 47) {
            NODE4
        } else {
            ELSEWHERE
        };
        return (IPV4, ipv4(&options, next, to, part, &content));
    }
    let headers = if rng.once_in(10) { 14 } else { 4 };
    for _ in 0..rng.below(headers) {
        let units = if rng.once_in(8) { rng.byte() } else { 0 };
        let kind = rng.pick(&[0, 43, 44, 51, 60, 60, 135, 139, 140]);
        content = match kind {
            44 => {
                let part = Part {
                    id: rng.word(),
                    offset: if rng.once_in(8) { rng.below(8) * 8 } else { 0 },
                    more: rng.once_in(6),
                };
                fragment(next, part, &content)
            }
            51 => authentication(next, units & 15, &content),
            _ => extension(next, units & 63, &content),
        };
        next = kind;
    }
    (IPV6, ipv6(next, &content))
}

/// What is behind the IP headers.
fn content(rng: &mut Rng, depth: usize) -> (u8, Vec<u8>) {
    let port = rng.pick(&PORTS);
    let data = rng.below(64);
    let data = rng.bytes(data);
    match rng.below(12) {
        0 => (17, udp(port, &data)),
        1 => (rng.pick(&[1, 58, 50, 132, 59, 253]), data),
        2..=4 if depth > 0 => tunnel(rng, depth - 1),
        _ => (6, tcp(port, &data)),
    }
}

fn tunnel(rng: &mut Rng, depth: usize) -> (u8, Vec<u8>) {
    let (kind, inner) = packet(rng, depth);
    match rng.below(5) {
        0 => (if kind == IPV6 { 41 } else { 4 }, inner),
        1 => {
            let wccp = kind == IPV4 && rng.once_in(4);
            (
                47,
                gre(rng.byte(), if wccp { 0x883e } else { kind }, &inner),
            )
        }
        2 => {
            let frame = link(rng, kind, &inner);
            (47, gre(rng.byte(), 0x6558, &frame))
        }
        3 => {
            let frame = link(rng, kind, &inner);
            (17, vxlan(rng.pick(&[4789, 8472]), &frame))
        }
        _ => {
            let words = rng.byte() & 0x3f;
            if rng.once_in(2) {
                return (17, geneve(words, kind, &inner));
            }
            let frame = link(rng, kind, &inner);
            (17, geneve(words, 0x6558, &frame))
        }
    }
}

/// Two to four fragments of one packet, or of several under one name, that overlap, lie and leave
/// things out.
pub fn fragments(rng: &mut Rng) -> Vec<Vec<u8>> {
    let is_v4 = rng.once_in(2);
    let id = 7;
    let several: Vec<(u8, Vec<u8>)> = (0..2).map(|_| pieces(rng, is_v4)).collect();
    let count = 2 + rng.below(3);
    let mut frames = Vec::new();
    let mut reached = 0;
    for number in 0..count {
        let (next, whole) = &several[usize::from(rng.once_in(3))];
        // Mostly where the last one ended, sometimes before or anywhere.
        let offset = match rng.below(6) {
            0 => rng.below(whole.len() / 8 + 1) * 8,
            1 => reached - reached.min(8),
            2 if number > 0 => 0,
            _ => reached,
        };
        let offset = offset.min(whole.len() / 8 * 8);
        let end = (offset + (1 + rng.below(5)) * 8).min(whole.len());
        let end = if number + 1 == count || rng.once_in(4) {
            whole.len()
        } else {
            end
        };
        reached = end / 8 * 8;
        let part = Part {
            id,
            offset,
            more: end < whole.len(),
        };
        let piece = &whole[offset..end];
        let (kind, packet) = if is_v4 {
            (IPV4, ipv4(&[], *next, NODE4, part, piece))
        } else {
            let claimed = if offset > 0 && rng.once_in(2) {
                rng.pick(&[6, 17, 60, 44, 51])
            } else {
                *next
            };
            (IPV6, ipv6(44, &fragment(claimed, part, piece)))
        };
        let mut frame = ethernet(&[], kind, &packet);
        if rng.once_in(3) {
            // Whoever reads on behind the end reads a harmless rest.
            let harmless = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &tcp(80, &[0; 40])].concat();
            frame.extend(&harmless[rng.pick(&[0_usize, 4, 8, 16])..]);
        }
        frames.push(frame);
    }
    frames
}

/// What is cut in pieces, and what it is.
fn pieces(rng: &mut Rng, is_v4: bool) -> (u8, Vec<u8>) {
    let port = rng.pick(&PORTS);
    let mut content = if rng.once_in(4) {
        udp(port, &tcp(25, &[0; 16]))
    } else {
        tcp(port, &[0; 24])
    };
    let mut next = if rng.once_in(4) { 17 } else { 6 };
    for _ in 0..rng.below(4) {
        let units = if rng.once_in(6) { rng.byte() & 31 } else { 0 };
        if is_v4 {
            content = authentication(next, units, &content);
            next = 51;
        } else {
            let kind = rng.pick(&[60, 60, 43, 51, 44, 0]);
            content = match kind {
                44 => fragment(next, Part::default(), &content),
                51 => authentication(next, units, &content),
                _ => extension(next, units, &content),
            };
            next = kind;
        }
    }
    if rng.once_in(6) {
        // In a tunnel.
        if is_v4 {
            let inner = ipv4(&[], next, ELSEWHERE, Part::default(), &content);
            return match rng.below(3) {
                0 => (4, inner),
                1 => (47, gre(rng.byte(), IPV4, &inner)),
                _ => (17, vxlan(4789, &ethernet(&[], IPV4, &inner))),
            };
        }
        return (41, ipv6(next, &content));
    }
    (next, content)
}
