//! Packets to run the packet programs on, each another than the last where that matters.

use limiter_tests::forge::build::{IPV4, IPV6, Part, ethernet, ipv4, ipv6, tcp, udp};

/// Whoever may send within limits.
pub const ALLOWED: [u8; 4] = [198, 51, 100, 7];
/// Whose limit is used up.
pub const FULL: [u8; 4] = [198, 51, 100, 8];
/// Whose messages are counted.
pub const COUNTED: [u8; 4] = [198, 51, 100, 9];
/// Where the packets of programs on this node come from: connections of their own at either layer.
pub const MADE_HERE: [u8; 4] = [198, 51, 100, 10];
/// Another such address.
pub const MADE_HERE_TOO: [u8; 4] = [198, 51, 100, 11];
/// Where packets go.
pub const ELSEWHERE: [u8; 4] = [203, 0, 113, 5];
/// A prefix that is blocked in the end.
pub const BLOCKED: [u8; 4] = [203, 0, 113, 77];

/// Bytes of payload.
const PAYLOAD: usize = 512;
/// Over how many connections first packets go round: few enough that none is forgotten.
const CONNECTIONS: u32 = 64;

/// Gives the `n`th packet of a kind.
pub type Packets = Box<dyn Fn(u32) -> Vec<u8>>;

/// The same packet again and again.
fn same(frame: Vec<u8>) -> Packets {
    Box::new(move |_| frame.clone())
}

fn frame(from: [u8; 4], to: [u8; 4], protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(&[], protocol, to, Part::default(), content);
    packet[12..16].copy_from_slice(&from);
    ethernet(&[], IPV4, &packet)
}

/// A segment of a connection that is nobody's business.
pub fn unrelated() -> Packets {
    same(frame(
        ALLOWED,
        ELSEWHERE,
        6,
        &established(443, 4321, 7, &[0x55; PAYLOAD]),
    ))
}

/// The same by IPv6.
pub fn unrelated6() -> Packets {
    let content = established(443, 4321, 7, &[0x55; PAYLOAD]);
    same(ethernet(&[], IPV6, &ipv6(6, &content)))
}

/// A datagram.
pub fn datagram() -> Packets {
    same(frame(ALLOWED, ELSEWHERE, 17, &udp(443, &[0x55; PAYLOAD])))
}

/// First packets, each of another attempt.
pub fn first(from: [u8; 4], to: [u8; 4], port: u16) -> Packets {
    Box::new(move |n| {
        let mut content = tcp(port, &[]);
        let source = u16::try_from(10_000 + n % CONNECTIONS).unwrap();
        content[..2].copy_from_slice(&source.to_be_bytes());
        // Another number: not the same first packet again.
        content[4..8].copy_from_slice(&n.to_be_bytes());
        frame(from, to, 6, &content)
    })
}

/// A session, packet by packet: the connection, a greeting, and then one message that does not end.
pub fn session(from: [u8; 4], port: u16) -> Packets {
    const SOURCE: u16 = 20_000;
    const ISN: u32 = 1;
    const WORDS: [&str; 4] = [
        "EHLO there\r\n",
        "MAIL FROM:<a@example.org>\r\n",
        "RCPT TO:<b@example.net>\r\n",
        "DATA\r\n",
    ];
    Box::new(move |n| {
        let Some(n) = n.checked_sub(1) else {
            let mut opening = tcp(port, &[]);
            opening[..2].copy_from_slice(&SOURCE.to_be_bytes());
            opening[4..8].copy_from_slice(&ISN.to_be_bytes());
            return frame(from, ELSEWHERE, 6, &opening);
        };
        let at = usize::try_from(n).unwrap();
        let said = WORDS
            .iter()
            .take(at)
            .map(|words| words.len())
            .sum::<usize>();
        let text = at.saturating_sub(WORDS.len()) * PAYLOAD;
        let seq = ISN + 1 + u32::try_from(said + text).unwrap();
        let line = format!("{}\r\n", "x".repeat(PAYLOAD / 8 - 2)).repeat(8);
        let words = WORDS
            .get(at)
            .map_or(line.as_bytes(), |words| words.as_bytes());
        frame(from, ELSEWHERE, 6, &established(port, SOURCE, seq, words))
    })
}

/// A segment in the middle of a connection.
fn established(port: u16, source: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut content = tcp(port, payload);
    content[..2].copy_from_slice(&source.to_be_bytes());
    content[4..8].copy_from_slice(&seq.to_be_bytes());
    // PSH, ACK.
    content[13] = 0x18;
    content
}
