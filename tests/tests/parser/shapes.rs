//! Every shape a packet can have, one by one.

use limiter_common::packet::{self, Kind, Packet};
use limiter_tests::forge::build::{
    IPV4, IPV6, NODE4, Part, authentication, ethernet, extension, fragment, geneve, gre, ipv4,
    ipv6, pppoe, snap, tcp, udp, vxlan,
};

use crate::{inside, read};

const TO: [u8; 4] = [203, 0, 113, 5];
const WHOLE: Part = Part {
    id: 7,
    offset: 0,
    more: false,
};

fn mail() -> Vec<u8> {
    tcp(25, b"EHLO")
}

fn v4(payload: &[u8]) -> Vec<u8> {
    ipv4(&[], 6, TO, WHOLE, payload)
}

fn part(offset: usize, more: bool) -> Part {
    Part {
        offset,
        more,
        ..WHOLE
    }
}

/// A fragment of something of `protocol`.
fn piece4(protocol: u8, part: Part, payload: &[u8]) -> Packet {
    read(&ethernet(
        &[],
        IPV4,
        &ipv4(&[], protocol, TO, part, payload),
    ))
}

fn piece6(next: u8, part: Part, payload: &[u8]) -> Packet {
    read(&ethernet(
        &[],
        IPV6,
        &ipv6(44, &fragment(next, part, payload)),
    ))
}

fn assert_mail(what: &str, packet: &Packet) {
    assert_eq!(packet.kind, Kind::Tcp, "{what}: {packet:?}");
    assert_eq!(packet.destination_port, 25, "{what}");
    assert!(packet.opens() && !packet.truncated, "{what}: {packet:?}");
    assert_eq!(packet.payload_len, 4, "{what}: {packet:?}");
}

#[test]
fn link_layers() {
    let tags: [&[u16]; 6] = [
        &[],
        &[0x8100],
        &[0x88a8, 0x8100],
        &[0x9100, 0x9200],
        &[0x8100; 3],
        &[0x8100; 4],
    ];
    for tags in tags {
        for (kind, packet) in [(IPV4, v4(&mail())), (IPV6, ipv6(6, &mail()))] {
            let name = format!("{tags:x?} {kind:x}");
            assert_mail(&name, &read(&ethernet(tags, kind, &packet)));
            assert_mail(&name, &read(&snap(tags, kind, &packet)));
            for short in [false, true] {
                assert_mail(&name, &read(&pppoe(tags, kind, short, &packet)));
            }
        }
    }
    // Deeper than anybody stacks them.
    let deep = read(&ethernet(&[0x8100; 5], IPV4, &v4(&mail())));
    assert_eq!(deep.kind, Kind::Unresolved);
    assert_eq!(read(&ethernet(&[], 0x0806, &[0; 28])).kind, Kind::Foreign);
    assert_eq!(read(&[0; 13]).kind, Kind::Foreign);
}

#[test]
fn ipv4_headers() {
    for options in 0..=10 {
        let packet = ipv4(&vec![1; options * 4], 6, TO, WHOLE, &mail());
        assert_mail("options", &read(&ethernet(&[], IPV4, &packet)));
    }
    for words in [0, 2, 4, 30] {
        let packet = ipv4(&[], 51, TO, WHOLE, &authentication(6, words, &mail()));
        assert_mail("AH", &read(&ethernet(&[], IPV4, &packet)));
    }
    // As a large packet before it is cut says.
    let mut large = v4(&mail());
    large[2..4].fill(0);
    assert_mail("length 0", &read(&ethernet(&[], IPV4, &large)));
    let mut padded = ethernet(&[], IPV4, &v4(&mail()));
    padded.extend([0; 30]);
    assert_mail("padding", &read(&padded));
    for (at, value) in [(0, 0x44), (0, 0x65), (3, 20), (3, 23)] {
        let mut wrong = v4(&mail());
        wrong[2] = 0;
        wrong[at] = value;
        let packet = read(&ethernet(&[], IPV4, &wrong));
        assert_eq!(packet.kind, Kind::Unresolved, "byte {at} {value}");
    }
    // The IP header is there, what it announces is not.
    let short = &ethernet(&[], IPV4, &v4(&mail()))[..14 + 22];
    assert_eq!(read(short).kind, Kind::Unresolved);
    let ports = read(&ethernet(&[], IPV4, &v4(&mail()))[..14 + 24]);
    assert_eq!((ports.kind, ports.destination_port), (Kind::Tcp, 25));
    assert!(ports.truncated);
}

#[test]
fn ipv6_headers() {
    let kinds = [0, 43, 51, 60, 135, 139, 140, 44];
    // All pairs, in both orders, at both ends of a chain.
    for first in kinds {
        for second in kinds {
            for units in [0, 1, 7] {
                if (first, second) == (44, 44) {
                    continue;
                }
                let (next, bytes) = header(second, units, 6, &mail());
                let (next, bytes) = header(first, units, next, &bytes);
                let name = format!("{first} {second} {units}");
                let packet = ipv6(next, &bytes);
                assert_mail(&name, &read(&ethernet(&[], IPV6, &packet)));
            }
        }
    }
    for (count, kind) in [
        (packet::MAX_HEADERS, Kind::Tcp),
        (packet::MAX_HEADERS + 1, Kind::Unresolved),
    ] {
        let mut content = (6, mail());
        for _ in 0..count {
            content = header(60, 0, content.0, &content.1);
        }
        let packet = ipv6(content.0, &content.1);
        assert_eq!(read(&ethernet(&[], IPV6, &packet)).kind, kind, "{count}");
    }
    for experiment in [253, 254] {
        let packet = read(&ethernet(&[], IPV6, &ipv6(experiment, &mail())));
        assert_eq!(packet.kind, Kind::Unresolved);
    }
    let twice = fragment(44, WHOLE, &fragment(6, WHOLE, &mail()));
    let twice = read(&ethernet(&[], IPV6, &ipv6(44, &twice)));
    assert_eq!(twice.kind, Kind::Unresolved);
    // Where it goes is not where it ends.
    let mut detour = extension(6, 2, &mail());
    detour[3] = 1;
    let detour = read(&ethernet(&[], IPV6, &ipv6(43, &detour)));
    assert_eq!((detour.kind, detour.destination_port), (Kind::Tcp, 25));
    assert!(detour.truncated);
}

fn header(kind: u8, units: u8, next: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let bytes = match kind {
        44 => fragment(next, WHOLE, payload),
        // Eight divides all headers of IPv6.
        51 => authentication(next, units * 2, payload),
        _ => extension(next, units, payload),
    };
    (kind, bytes)
}

#[test]
fn fragments() {
    let whole = tcp(25, &[0; 64]);
    for piece in [piece4, piece6] {
        // Eight bytes show the ports.
        for end in [8, 16, 24, 40] {
            let first = piece(6, part(0, true), &whole[..end]);
            assert_eq!((first.kind, first.destination_port), (Kind::Tcp, 25));
            assert!(first.truncated);
        }
        assert_eq!(piece(6, part(0, true), &[]).kind, Kind::Unresolved);
        for offset in [8, 16] {
            let over = piece(6, part(offset, true), &whole[offset..]);
            assert_eq!(over.kind, Kind::Unresolved, "{offset}");
        }
        assert_eq!(piece(6, part(1280, false), &whole).kind, Kind::Rest);
        assert_eq!(piece(17, part(1280, false), &whole).kind, Kind::Rest);
        assert_eq!(piece(17, part(0, true), &whole).kind, Kind::Other);
        // Somebody could write over the headers: what is near them is refused, or they are.
        assert_eq!(piece(51, part(16, false), &whole).kind, Kind::Unresolved);
        let far = authentication(6, 38, &tcp(80, &[0; 64]));
        assert_eq!(piece(51, part(0, true), &far).kind, Kind::Unresolved);
        let near = authentication(6, 4, &tcp(80, &[0; 64]));
        assert_eq!(piece(51, part(0, true), &near).destination_port, 80);
        assert_eq!(piece(51, part(1280, false), &whole).kind, Kind::Rest);
    }
    // What a later fragment of IPv6 says of itself counts for nothing.
    assert_eq!(piece6(17, part(16, false), &whole).kind, Kind::Unresolved);
    assert_eq!(piece4(17, part(16, false), &whole).kind, Kind::Rest);
}

#[test]
fn tunnels() {
    let (four, six) = (v4(&mail()), ipv6(6, &mail()));
    let frame = ethernet(&[0x8100], IPV4, &four);
    let mut cases = vec![
        (4, four.clone()),
        (41, six.clone()),
        (47, gre(0, 0x883e, &four)),
        (47, gre(0, 0x883e, &[&[0; 4][..], &four].concat())),
        (17, vxlan(4789, &frame)),
        (17, vxlan(8472, &frame)),
    ];
    for flags in [0, 0x80, 0x20, 0x10, 0xa0, 0x90, 0x30, 0xb0] {
        cases.push((47, gre(flags, IPV4, &four)));
        cases.push((47, gre(flags, IPV6, &six)));
        cases.push((47, gre(flags, 0x6558, &frame)));
    }
    for words in [0, 1, 20, 63] {
        cases.push((17, geneve(words, IPV4, &four)));
        cases.push((17, geneve(words, IPV6, &six)));
        cases.push((17, geneve(words, 0x6558, &frame)));
    }
    for (number, (protocol, content)) in cases.iter().enumerate() {
        let name = format!("case {number}, protocol {protocol}");
        let outer4 = ethernet(&[], IPV4, &ipv4(&[], *protocol, NODE4, WHOLE, content));
        let outer6 = ethernet(&[], IPV6, &ipv6(*protocol, content));
        for outer in [outer4, outer6] {
            assert_eq!(read(&outer).kind, Kind::Other, "{name}");
            let inner = inside(&outer);
            assert_mail(&name, &inner);
            assert!(inner.inner, "{name}");
        }
        // The first fragment shows all, or is refused.
        for end in (8..content.len()).step_by(8) {
            let first = ipv4(&[], *protocol, NODE4, part(0, true), &content[..end]);
            // Behind its end stands something harmless.
            let mut first = ethernet(&[], IPV4, &first);
            first.extend(tcp(80, &[0; 80]));
            assert_eq!(inside(&first).kind, Kind::Unresolved, "{name}, {end} bytes");
        }
    }
    for harmless in [udp(53, &four), udp(4790, b""), udp(4789, b"")] {
        let outer = ethernet(&[], IPV4, &ipv4(&[], 17, NODE4, WHOLE, &harmless));
        assert_eq!(inside(&outer).kind, Kind::Foreign);
    }
}
