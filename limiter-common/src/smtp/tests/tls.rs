//! Sessions under TLS: one mail is one, ten thousand are not three hundred.

use std::{vec, vec::Vec};

use super::dialog::Wire;
use crate::smtp::Session;

/// Bytes that a TLS 1.3 record adds; TLS 1.2 adds as much or more.
const RECORD: usize = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Tls12,
    Tls13,
    /// The server asks for another hello.
    Tls13Retry,
    /// A session resumed: no certificates.
    Tls13Resumed,
}

const VERSIONS: [Version; 4] = [
    Version::Tls12,
    Version::Tls13,
    Version::Tls13Retry,
    Version::Tls13Resumed,
];

fn record(kind: u8, length: usize) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend(u16::try_from(length).unwrap().to_be_bytes());
    record.extend_from_slice(&vec![0x17; length]);
    record
}

/// `length` bytes of mail, in records.
fn secret(length: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut left = length;
    while left > 0 {
        let now = left.min(16_000);
        sent.extend(record(0x17, now + 17));
        left -= now;
    }
    sent
}

/// The client's and the server's parts of a handshake, `certificates` bytes of the latter, in
/// segments that are acknowledged one by one.
fn handshake(wire: &mut Wire, version: Version, certificates: usize) {
    let answers = |wire: &mut Wire, bytes: usize| {
        let mut left = bytes;
        while left > 0 {
            let now = left.min(1448);
            wire.hear_and_ack(now);
            left -= now;
        }
    };
    wire.say(record(0x16, 1700));
    match version {
        Version::Tls12 => {
            answers(wire, 600 + certificates);
            wire.say([record(0x16, 70), record(0x14, 1), record(0x16, 40)].concat());
            wire.hear_and_ack(250);
        }
        Version::Tls13 => {
            answers(wire, 700 + certificates);
            wire.say([record(0x14, 1), record(0x17, 69)].concat());
            wire.hear_and_ack(510);
        }
        Version::Tls13Retry => {
            wire.hear_and_ack(99);
            wire.say([record(0x14, 1), record(0x16, 600)].concat());
            answers(wire, 700 + certificates);
            wire.say(record(0x17, 69));
            wire.hear_and_ack(510);
        }
        Version::Tls13Resumed => {
            answers(wire, 250);
            wire.say([record(0x14, 1), record(0x17, 69)].concat());
            wire.hear_and_ack(255);
        }
    }
}

/// Up to where TLS begins.
fn started(implicit: bool) -> Wire {
    if implicit {
        return Wire::new(Session::implicit_tls(3), 3);
    }
    let mut wire = Wire::open(3);
    wire.hear_and_ack(60);
    wire.ask("EHLO client.example.org\r\n", "250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-STARTTLS\r\n250 8BITMIME\r\n");
    wire.ask("STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n");
    wire
}

/// `said` and `answered` bytes of SMTP in a record each.
fn exchange(wire: &mut Wire, said: usize, answered: usize) {
    wire.say(secret(said));
    wire.hear_and_ack(answered + RECORD);
}

/// EHLO and, if asked for, AUTH LOGIN in three steps.
fn login(wire: &mut Wire, implicit: bool, auth: bool) {
    if implicit {
        wire.hear_and_ack(60 + RECORD);
    }
    exchange(wire, 25, 250);
    if auth {
        exchange(wire, 12, 18);
        exchange(wire, 22, 18);
        exchange(wire, 22, 40);
    }
}

/// One mail without pipelining, and the answers of a talkative server.
fn one_mail(wire: &mut Wire, size: usize) {
    exchange(wire, 50, 60);
    exchange(wire, 40, 60);
    exchange(wire, 6, 70);
    exchange(wire, size, 160);
}

fn sessions(unread: bool) -> impl Iterator<Item = (Wire, Version, bool, bool, usize)> {
    VERSIONS.into_iter().flat_map(move |version| {
        [false, true].into_iter().flat_map(move |implicit| {
            [false, true].into_iter().flat_map(move |auth| {
                [1500, 4000, 7000].into_iter().map(move |certificates| {
                    let mut wire = started(implicit);
                    if unread {
                        wire = Wire::new(Session::unknown(), 3);
                    }
                    (wire, version, implicit, auth, certificates)
                })
            })
        })
    })
}

/// 20 MB in base64 are 27.4 MB.
#[test]
fn one_large_mail_is_one() {
    for unread in [false, true] {
        for (mut wire, version, implicit, auth, certificates) in sessions(unread) {
            handshake(&mut wire, version, certificates);
            login(&mut wire, implicit, auth);
            assert!(wire.total.messages <= 1);
            wire.mss = 40 * 1448;
            one_mail(&mut wire, 27_400_000);
            exchange(&mut wire, 6, 40);
            wire.say(record(0x15, 19));
            assert_eq!(
                wire.counted(),
                (1, 1, true),
                "{version:?}, implicit {implicit}, auth {auth}, {certificates}, unread {unread}"
            );
        }
    }
}

#[test]
fn a_handshake_alone_is_no_mail() {
    let mut wire = started(false);
    wire.say(record(0x16, 1700));
    wire.hear_and_ack(4000);
    wire.say(record(0x15, 2));
    assert_eq!(wire.counted(), (0, 0, true));
}

#[test]
fn mail_before_tls_counts_too_and_once() {
    let mut wire = Wire::open(3);
    wire.hear_and_ack(60);
    wire.ask("EHLO a\r\n", "250 mx\r\n");
    for _ in 0..5 {
        wire.ask(
            "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nRCPT TO:<c@c>\r\nDATA\r\n",
            "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        );
        wire.ask("x\r\n.\r\n", "250 ok\r\n");
    }
    assert_eq!(wire.counted(), (5, 10, false));
    wire.ask("STARTTLS\r\n", "220 go\r\n");
    handshake(&mut wire, Version::Tls13, 4000);
    login(&mut wire, false, false);
    one_mail(&mut wire, 3000);
    exchange(&mut wire, 6, 40);
    assert_eq!(wire.counted(), (6, 11, true));
}

/// Many mails of an honest client: not below half, not far above.
#[test]
fn honest_clients_pay_about_what_they_send() {
    for (mut wire, version, implicit, auth, certificates) in sessions(false) {
        handshake(&mut wire, version, certificates);
        login(&mut wire, implicit, auth);
        for _ in 0..100 {
            one_mail(&mut wire, 3000);
        }
        let counted = wire.total.messages;
        assert!((90..=180).contains(&counted), "{counted}, {version:?}");

        let mut wire = started(implicit);
        handshake(&mut wire, version, certificates);
        login(&mut wire, implicit, auth);
        // As Postfix does: the envelope at once, then the text.
        for _ in 0..100 {
            exchange(&mut wire, 96, 65);
            exchange(&mut wire, 3000, 37);
        }
        let counted = wire.total.messages;
        assert!((50..=110).contains(&counted), "{counted}, {version:?}");
    }
}

/// The tersest server known: `250 ok`, `250 ok`, `354 go ahead`, `250 ok 1767225600 qp 12345`.
const TERSE: [usize; 4] = [8, 8, 14, 28];
const MANY: usize = 10_000;
/// What a tenant may send whom ten thousand would pass by.
const LIMIT: u32 = 300;

fn many(style: impl Fn(&mut Wire)) {
    for unread in [false, true] {
        for (mut wire, version, implicit, auth, certificates) in sessions(unread) {
            handshake(&mut wire, version, certificates);
            login(&mut wire, implicit, auth);
            style(&mut wire);
            let Due {
                messages,
                recipients,
            } = Due::of(&wire);
            assert!(
                messages > 4 * LIMIT && recipients >= messages,
                "{messages}, {recipients}"
            );
        }
    }
}

struct Due {
    messages: u32,
    recipients: u32,
}

impl Due {
    fn of(wire: &Wire) -> Self {
        Self {
            messages: wire.total.messages,
            recipients: wire.total.recipients,
        }
    }
}

#[test]
fn ten_thousand_one_by_one() {
    many(|wire| {
        for _ in 0..MANY {
            for answer in TERSE {
                exchange(wire, 20, answer);
            }
        }
    });
}

#[test]
fn ten_thousand_pipelined() {
    many(|wire| {
        for _ in 0..MANY {
            // The text and the next envelope at once.
            exchange(wire, 500, TERSE.iter().sum());
        }
    });
}

/// With chunks there is no need to wait at all: three answers, and they come in large records.
#[test]
fn ten_thousand_in_one_go() {
    many(|wire| {
        for _ in 0..MANY / 200 {
            wire.say(secret(200 * 100));
            // Acknowledged with packets that carry nothing.
            wire.hear_and_ack(200 * 44 + RECORD);
        }
    });
    many(|wire| {
        wire.say(secret(MANY * 100));
        for _ in 0..MANY / 200 {
            wire.hear_and_ack(200 * 44 + RECORD);
        }
    });
}

/// Who does not acknowledge the answers is bounded by what he sends himself.
#[test]
fn unacknowledged_mail_is_not_free() {
    let mut wire = started(false);
    handshake(&mut wire, Version::Tls13Resumed, 0);
    for _ in 0..1000 {
        wire.say(secret(1_000_000));
    }
    assert!(wire.total.messages >= 15, "{:?}", wire.total);
}

/// Records that lie about their length do not stretch the free handshake.
#[test]
fn a_handshake_does_not_last() {
    let mut wire = started(false);
    wire.say(record(0x16, 1700));
    wire.hear_and_ack(200);
    for _ in 0..300 {
        // What was read as a record's content goes out again as mail.
        let seq = wire.seq;
        wire.packet(seq, &record(0x16, 200));
        wire.say(secret(188));
        wire.hear_and_ack(58 + RECORD);
    }
    assert!(wire.total.messages >= 90, "{:?}", wire.total);
}
