//! What is read is counted exactly, however it is cut into packets.

use std::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::dialog::Wire;

/// How a client sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    OneByOne,
    Pipelined,
    Chunks,
    ChunksInOneGo,
}

#[derive(Clone, Debug)]
struct Mail {
    style: Style,
    lower: bool,
    recipients: usize,
    lines: Vec<String>,
    /// Refused at DATA: every recipient was. The client resets.
    refused: bool,
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("MAIL FROM:<a@b>".into()),
        Just("RCPT TO:<a@b>".into()),
        Just("DATA".into()),
        Just("BDAT 100000 LAST".into()),
        Just("RSET".into()),
        Just(".".into()),
        Just("..".into()),
        Just(". ".into()),
        Just(".\n".into()),
        Just("\u{16}\u{3}\u{1}".into()),
        "[ -~\u{e4}]{0,90}",
        // Half of a line end is harmless in a text, where no dot stands alone.
        "[a-z]{1,9}\n[a-z]{1,9}\n",
        "[a-z]{1,9}\r[a-z]{1,9}",
    ]
}

fn mail() -> impl Strategy<Value = Mail> {
    (
        prop::sample::select(vec![
            Style::OneByOne,
            Style::Pipelined,
            Style::Chunks,
            Style::ChunksInOneGo,
        ]),
        any::<bool>(),
        1_usize..6,
        prop::collection::vec(line(), 0..12),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(style, lower, recipients, lines, refused)| Mail {
            style,
            lower,
            recipients,
            lines,
            refused: refused && matches!(style, Style::OneByOne | Style::Pipelined),
        })
}

/// What the client says at once, and the bytes of each answer.
type Step = (Vec<u8>, Vec<usize>);

impl Mail {
    fn command(&self, line: &str) -> Vec<u8> {
        if self.lower {
            format!("{}\r\n", line.to_lowercase()).into_bytes()
        } else {
            format!("{line}\r\n").into_bytes()
        }
    }

    /// The text as DATA carries it, dots doubled, its end included.
    fn text(&self) -> Vec<u8> {
        let mut text = b"Subject: x\r\n".to_vec();
        for line in &self.lines {
            // A lone LF begins a line for some servers only: nobody sends a dot there.
            if line.starts_with('.') {
                text.push(b'.');
            }
            text.extend(line.replace(".\n", ".x\n").bytes());
            text.extend(b"\r\n");
        }
        text.extend(b".\r\n");
        text
    }

    fn chunks(&self) -> Vec<Vec<u8>> {
        let whole = self.lines.join("\r\n").into_bytes();
        let half = whole.len() / 2;
        let (first, second) = whole.split_at(half);
        vec![
            [
                self.command(&format!("BDAT {}", first.len())),
                first.to_vec(),
            ]
            .concat(),
            [
                self.command(&format!("BDAT {} LAST", second.len())),
                second.to_vec(),
            ]
            .concat(),
        ]
    }

    fn steps(&self) -> Vec<Step> {
        let mut envelope = vec![self.command("MAIL FROM:<a@example.org> SIZE=1000")];
        for number in 0..self.recipients {
            envelope.push(self.command(&format!("RCPT TO:<r{number}@example.net>")));
        }
        let together = |parts: Vec<Vec<u8>>| -> Vec<Step> {
            let answers = vec![14; parts.len()];
            vec![(parts.concat(), answers)]
        };
        let apart = |parts: Vec<Vec<u8>>| -> Vec<Step> {
            parts.into_iter().map(|part| (part, vec![14])).collect()
        };
        let text = if self.refused {
            self.command("RSET")
        } else {
            self.text()
        };
        match self.style {
            Style::OneByOne => {
                envelope.extend([self.command("DATA"), text]);
                apart(envelope)
            }
            Style::Pipelined => {
                envelope.push(self.command("DATA"));
                let mut steps = together(envelope);
                steps.push((text, vec![37]));
                steps
            }
            Style::Chunks => {
                let mut steps = together(envelope);
                steps.extend(apart(self.chunks()));
                steps
            }
            Style::ChunksInOneGo => {
                envelope.extend(self.chunks());
                together(envelope)
            }
        }
    }
}

/// Random choices of the path, from a list that is gone through again and again.
struct Dice {
    values: Vec<u16>,
    at: usize,
}

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.at = (self.at + 1) % self.values.len();
        usize::from(self.values[self.at]) % below
    }
}

/// Sends `said` in segments of any size, the past again now and then, and with it more than was
/// sent yet. Answers come while the client still speaks where it does not wait for them.
fn send(
    wire: &mut Wire,
    stream: &mut Vec<u8>,
    step: &Step,
    isn: u32,
    dice: &mut Dice,
    repeat: bool,
) {
    let start = stream.len();
    stream.extend(&step.0);
    let mut sent = start;
    while sent < stream.len() {
        let most = (stream.len() - sent).min(1448);
        let size = match dice.roll(3) {
            0 => most,
            1 => 1,
            _ => 1 + dice.roll(most),
        };
        let from = if repeat && dice.roll(8) == 0 {
            sent - dice.roll(sent.min(3000) + 1)
        } else {
            sent
        };
        let seq = isn
            .wrapping_add(1)
            .wrapping_add(u32::try_from(from).unwrap());
        wire.packet(seq, &stream[from..sent + size]);
        sent += size;
        if repeat && dice.roll(8) == 0 {
            let from = sent - dice.roll(sent.min(3000) + 1);
            let to = from + dice.roll(sent - from + 1);
            let seq = isn
                .wrapping_add(1)
                .wrapping_add(u32::try_from(from).unwrap());
            wire.packet(seq, &stream[from..to]);
        }
    }
    wire.seq = isn
        .wrapping_add(1)
        .wrapping_add(u32::try_from(stream.len()).unwrap());
    for answer in &step.1 {
        wire.hear(*answer);
        if dice.roll(2) == 0 {
            wire.packet(wire.seq, &[]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn as_many_as_were_sent(
        isn in prop_oneof![any::<u32>(), u32::MAX - 3000..u32::MAX],
        mails in prop::collection::vec(mail(), 0..12),
        rolls in prop::collection::vec(any::<u16>(), 50..200),
        repeat in any::<bool>(),
    ) {
        let mut dice = Dice { values: rolls, at: 0 };
        let mut wire = Wire::open(isn);
        let mut stream = Vec::new();
        wire.hear(60);
        send(&mut wire, &mut stream, &(b"EHLO client.example\r\n".to_vec(), vec![180]), isn,
            &mut dice, repeat);
        let mut messages = 0;
        let mut recipients = 0;
        for mail in &mails {
            for step in mail.steps() {
                send(&mut wire, &mut stream, &step, isn, &mut dice, repeat);
            }
            // A refused DATA was an attempt.
            messages += 1;
            recipients += u32::try_from(mail.recipients).unwrap();
            prop_assert_eq!(wire.counted(), (messages, recipients, false), "after {:?}", mail);
        }
        send(&mut wire, &mut stream, &(b"QUIT\r\n".to_vec(), vec![15]), isn, &mut dice, repeat);
        prop_assert_eq!(wire.counted(), (messages, recipients, false));
    }

    /// Nothing panics and nothing overflows, whatever comes.
    #[test]
    fn any_bytes(
        packets in prop::collection::vec(
            (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..80), any::<bool>()), 0..60),
    ) {
        let mut wire = Wire::open(0);
        for (seq, ack, payload, in_order) in packets {
            wire.ack = ack;
            if in_order {
                wire.say(&payload);
            } else {
                wire.packet(seq, &payload);
            }
        }
    }
}

#[test]
fn the_message_is_counted_with_the_packet_that_lets_it_go() {
    let mut wire = Wire::open(1);
    wire.hear_and_ack(40);
    wire.ask("EHLO a\r\n", "250 mx\r\n");
    wire.ask("MAIL FROM:<a@a>\r\n", "250 ok\r\n");
    assert_eq!(wire.counted(), (0, 0, false));
    wire.say("RCPT ");
    assert_eq!(wire.counted(), (0, 1, false));
    wire.ask("TO:<b@b>\r\n", "250 ok\r\n");
    wire.say("DATA\r");
    assert_eq!(wire.counted(), (0, 1, false));
    wire.say("\n");
    assert_eq!(wire.counted(), (1, 1, false));
}

#[test]
fn a_probe_of_an_address_is_no_message() {
    let mut wire = Wire::open(1);
    wire.hear_and_ack(40);
    for line in [
        "HELO a\r\n",
        "MAIL FROM:<>\r\n",
        "RCPT TO:<b@b>\r\n",
        "QUIT\r\n",
    ] {
        wire.ask(line, "250 ok\r\n");
    }
    assert_eq!(wire.counted(), (0, 1, false));
}

#[test]
fn a_refused_starttls_changes_nothing() {
    let mut wire = Wire::open(1);
    wire.hear_and_ack(40);
    wire.ask("EHLO a\r\n", "250-mx\r\n250 STARTTLS\r\n");
    wire.ask("STARTTLS\r\n", "454 not now\r\n");
    wire.ask("MAIL FROM:<a@a>\r\n", "250 ok\r\n");
    wire.ask("RCPT TO:<b@b>\r\n", "250 ok\r\n");
    wire.ask("DATA\r\n", "354 go\r\n");
    wire.ask("x\r\n.\r\n", "250 ok\r\n");
    assert_eq!(wire.counted(), (1, 1, false));
}

/// A mail of 12 MB in the clear, on a line that loses packets.
#[test]
fn a_large_mail_stays_one() {
    let mut wire = Wire::open(u32::MAX - 70_000);
    wire.hear_and_ack(40);
    wire.ask("EHLO a\r\n", "250 mx\r\n");
    wire.ask(
        "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n",
        "250 ok\r\n250 ok\r\n354 go\r\n",
    );
    let line = format!("{}\r\n", "A".repeat(76));
    let block = line.repeat(1000);
    for number in 0..150 {
        wire.say(&block);
        if number % 2 == 0 {
            let (seq, payload) = wire.sent[wire.sent.len() - 9].clone();
            wire.packet(seq, &payload);
        }
    }
    wire.ask(".\r\n", "250 ok\r\n");
    wire.ask("QUIT\r\n", "221 bye\r\n");
    assert_eq!(wire.counted(), (1, 1, false));
}
