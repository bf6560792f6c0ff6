//! The corpus, spoiled in thousands of ways: never a panic, never slow.

use std::time::{Duration, Instant};

use super::{names, sample};
use crate::complaint::{Limits, Refusal, Trust, parse};

/// How many spoiled reports are read.
const MUTATIONS: u32 = 20_000;
/// No single one may take longer.
const SLOWEST: Duration = Duration::from_secs(2);

/// A small generator, so that a failure can be had again (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let rolled = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(rolled).unwrap() % below.max(1)
    }
}

const SPLICES: [&[u8]; 20] = [
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\xff\xfe",
    b"--",
    b"=",
    b"=?utf-8?Q?",
    b"?=",
    b"(",
    b")",
    b"<",
    b">",
    b"\"",
    b"; ",
    b":",
    b"[",
    b"\r",
    b"{\"xarf_version\":\"4.0.0\"}",
    b"Content-Type: multipart/mixed; boundary=",
    b"Content-Transfer-Encoding: base64\r\n",
];

fn spoil(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
            1 => bytes.truncate(at),
            2 => {
                let splice = SPLICES[dice.roll(SPLICES.len())];
                bytes.splice(at..at, splice.iter().copied());
            }
            3 => {
                let end = (at + dice.roll(200)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + dice.roll(400)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let from = dice.roll(other.len());
                let end = (from + dice.roll(600)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(dice.roll(256)).unwrap();
                }
            }
        }
    }
}

#[test]
fn spoiled_reports_are_read_or_refused() {
    let samples: Vec<Vec<u8>> = names().iter().map(|name| sample(name)).collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let trust = Trust {
        authserv_ids: vec!["mx.node.example.net".to_owned()],
        reporters: vec!["yahoo.com".to_owned()],
    };
    let (mut good, mut refused) = (0_u32, 0_u32);
    for number in 0..MUTATIONS {
        let mut bytes = samples[dice.roll(samples.len())].clone();
        let other = &samples[dice.roll(samples.len())];
        spoil(&mut bytes, other, &mut dice);
        let begun = Instant::now();
        match parse(&bytes, &Limits::default(), &trust) {
            Ok(report) => {
                assert!(!report.id.is_empty());
                good += 1;
            }
            // That is what a caught panic becomes.
            Err(Refusal::Internal) => {
                panic!("mutation {number} panicked: {}", bytes.escape_ascii())
            }
            Err(_) => refused += 1,
        }
        assert!(
            begun.elapsed() < SLOWEST,
            "mutation {number} took {:?}",
            begun.elapsed()
        );
    }
    assert!(
        good > MUTATIONS / 5 && refused > MUTATIONS / 20,
        "{good} read, {refused} refused"
    );
}
