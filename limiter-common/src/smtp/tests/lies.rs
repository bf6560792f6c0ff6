//! Clients that want to be read at another place than the server reads.

use std::{format, string::String, vec};

use super::dialog::Wire;

/// A session up to the greeting, with one recipient named.
fn with_recipient(isn: u32) -> Wire {
    let mut wire = Wire::open(isn);
    wire.hear_and_ack(40);
    wire.ask("EHLO a\r\n", "250-mx\r\n250 PIPELINING\r\n");
    wire.ask(
        "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\n",
        "250 ok\r\n250 ok\r\n",
    );
    wire
}

/// What is counted at most for messages that some peer takes for the text of one.
fn hidden(wire: &mut Wire, count: usize) {
    for _ in 0..count {
        wire.ask("MAIL FROM:<a@a>\r\n", "250 ok\r\n");
        wire.ask("RCPT TO:<b@b>\r\n", "250 ok\r\n");
        wire.ask("DATA\r\n", "354 go ahead\r\n");
        wire.ask("text\r\n.\r\n", "250 ok 1767225600 qp 12345\r\n");
    }
}

#[test]
fn odd_commands_end_the_reading() {
    for odd in [
        "DATA x\r\n",
        " DATA\r\n",
        "DATAX\r\n",
        "DATA\n",
        "DATA\r\r\n",
        "NOOP\nDATA\r\n",
        "NOOP\rDATA\r\n",
        "RCPTX\r\n",
        "BDAT\r\n",
        "BDAT x\r\n",
        "BDAT -1\r\n",
        "BDAT +5 LAST\r\n",
        "BDAT 0x10\r\n",
        "BDAT 5 LASTLY\r\n",
        "BDAT 5 LAS\r\n",
        "BDAT 5 LAST LAST\r\n",
        "BDAT 5 6\r\n",
        "\tBDAT 5\r\n",
        "BDAT 4294967296\r\n",
        "BDAT 99999999999999999999\r\n",
        "BDAT 1\r\nxDATA\r\n",
        "NOOP \0\r\n",
        "\u{80}\r\n",
    ] {
        let mut wire = with_recipient(1);
        assert_eq!(wire.counted(), (0, 1, false));
        wire.say(odd);
        assert!(wire.total.estimated, "{odd:?} was read");
        assert!(
            wire.total.messages >= 1 && wire.total.recipients >= 1,
            "{odd:?}"
        );
    }
    let mut wire = with_recipient(1);
    wire.say(format!("NOOP {}\r\n", "x".repeat(5000)));
    assert!(wire.total.estimated);
    for plain in [
        "DATA \r\n",
        "data\t\r\n",
        "BDAT 0\r\n",
        "BDAT 3 last \r\nabc",
        "VRFY x:\u{e4}\r\n",
    ] {
        let mut wire = with_recipient(1);
        wire.say(plain);
        assert!(!wire.total.estimated, "{plain:?} was not read");
    }
}

#[test]
fn texts_that_end_differently_for_some_end_the_reading() {
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n.\r",
        "\r.\n",
        "\r\n.\r\r\n",
        "\0",
    ] {
        let mut wire = with_recipient(1);
        wire.ask("DATA\r\n", "354 go\r\n");
        wire.say(format!("text{end}MAIL FROM:<a@a>\r\n"));
        assert_eq!(wire.counted(), (1, 1, true), "{end:?} was read");
    }
    // At once: the end of the DATA line is the beginning of a line.
    for end in [".\n", ".\r"] {
        let mut wire = with_recipient(1);
        wire.ask("DATA\r\n", "354 go\r\n");
        wire.say(format!("{end}x"));
        assert!(wire.total.estimated, "{end:?} was read");
    }
}

#[test]
fn mail_for_nobody_is_not_read_as_mail() {
    let mut wire = Wire::open(1);
    wire.hear_and_ack(40);
    wire.ask("EHLO a\r\n", "250 mx\r\n");
    wire.ask("DATA\r\n", "503 need MAIL\r\n");
    hidden(&mut wire, 300);
    assert!(
        wire.total.estimated && wire.total.messages >= 300,
        "{:?}",
        wire.total
    );
}

#[test]
fn commands_behind_a_refused_data_are_not_a_text() {
    let mut wire = with_recipient(1);
    wire.ask("DATA\r\n", "554 no valid recipients\r\n");
    wire.ask("NOOP\r\n", "250 ok\r\n");
    hidden(&mut wire, 300);
    assert!(
        wire.total.estimated && wire.total.messages >= 300,
        "{:?}",
        wire.total
    );
}

#[test]
fn commands_in_a_refused_chunk_are_not_a_chunk() {
    let mut wire = with_recipient(1);
    wire.ask("BDAT 1000000000\r\n", "500 unknown command\r\n");
    hidden(&mut wire, 300);
    assert!(
        wire.total.estimated && wire.total.messages >= 300,
        "{:?}",
        wire.total
    );
}

/// In one go, acknowledged meanwhile with packets that carry nothing.
#[test]
fn a_blast_behind_a_refused_data_shows_in_its_answers() {
    let mut wire = with_recipient(1);
    wire.ask("DATA\r\n", "554 no valid recipients\r\n");
    let message = "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nBDAT 5 LAST\r\nhello";
    wire.say(format!("NOOP\r\n{}", message.repeat(1000)));
    for _ in 0..100 {
        wire.hear_and_ack(44 * 10);
    }
    assert!(
        wire.total.estimated && wire.total.messages >= 150,
        "{:?}",
        wire.total
    );
}

/// Every segment is sent twice: first a lie that the server never gets, then the truth.
#[test]
fn the_same_numbers_with_other_content() {
    for lie in ["NOOP\r\n", "MAIL FROM:<a@a>\r\n", "RSET\r\n"] {
        let mut wire = Wire::open(1);
        wire.hear_and_ack(40);
        wire.ask("EHLO a\r\n", "250 mx\r\n");
        let messages = 1000;
        for _ in 0..messages {
            for (truth, answer) in [
                ("MAIL FROM:<a@a>\r\n", 14),
                ("RCPT TO:<b@b>\r\n", 14),
                ("DATA\r\n", 37),
                ("text\r\n.\r\n", 37),
            ] {
                let mut false_words = String::new();
                while false_words.len() + lie.len() <= truth.len() {
                    false_words.push_str(lie);
                }
                while false_words.len() < truth.len() {
                    false_words.push(' ');
                }
                let seq = wire.seq;
                wire.packet(seq, false_words.as_bytes());
                wire.say(truth);
                wire.hear(answer);
            }
        }
        assert!(wire.total.estimated, "{lie:?}: {:?}", wire.total);
        assert!(wire.total.messages >= messages, "{lie:?}: {:?}", wire.total);
        assert!(
            wire.total.recipients >= messages,
            "{lie:?}: {:?}",
            wire.total
        );
    }
}

#[test]
fn a_gap_ends_the_reading() {
    let mut wire = with_recipient(1);
    wire.seq = wire.seq.wrapping_add(10);
    wire.say("DATA\r\n");
    assert_eq!(wire.counted(), (1, 1, true));
}

#[test]
fn data_from_before_the_beginning_ends_the_reading() {
    let mut wire = Wire::open(1_000_000);
    wire.hear_and_ack(40);
    wire.seq = 5;
    wire.say("EHLO a\r\n");
    assert_eq!(wire.counted(), (1, 1, true));
    hidden(&mut wire, 300);
    assert!(wire.total.messages >= 300, "{:?}", wire.total);
}

/// After four gigabytes, too, a gap is a gap.
#[test]
fn a_gap_after_a_very_long_session() {
    let mut wire = with_recipient(1);
    wire.say("BDAT 1000000000\r\n");
    let million = vec![b'x'; 1_000_000];
    for part in 0..5 {
        for _ in 0..1000 {
            let seq = wire.seq;
            wire.packet(seq, &million);
            wire.seq = seq.wrapping_add(1_000_000);
        }
        wire.say(format!(
            "BDAT {}\r\n",
            if part == 4 { 0 } else { 1_000_000_000 }
        ));
    }
    assert_eq!(wire.counted(), (1, 1, false));
    wire.seq = wire.seq.wrapping_add(10);
    wire.say("NOOP\r\n");
    assert!(wire.total.estimated);
}

/// A first acknowledgement far ahead must not hide the answers to come.
#[test]
fn false_acknowledgements() {
    let mut wire = Wire::open(1);
    let truth = wire.ack;
    let mut wire = {
        wire.session = crate::smtp::Session::open(1);
        wire.ack = truth.wrapping_add(1 << 30);
        wire.packet(wire.seq, &[]);
        wire.ack = truth;
        wire
    };
    hidden(&mut wire, 300);
    assert!(
        wire.total.estimated && wire.total.messages >= 300,
        "{:?}",
        wire.total
    );

    // One far ahead later on is a great many answers: only the liar pays for it.
    let mut wire = with_recipient(1);
    let truth = wire.ack;
    wire.ack = truth.wrapping_add(1 << 30);
    wire.packet(wire.seq, &[]);
    wire.ack = truth;
    wire.session.distrust();
    hidden(&mut wire, 10);
    assert!(wire.total.messages >= 300, "{:?}", wire.total);
}
