//! What the client is told, in the form that mail servers take from a milter.

use std::time::Duration;

use crate::submission::Reply;

/// Longer lines are cut.
const MOST_TEXT: usize = 400;

/// A refusal of the gate.
pub(super) fn refusal(reply: &Reply) -> Vec<u8> {
    line(&reply.status, &reply.text)
}

/// There are more recipients than are looked at.
pub(super) fn too_many(most: usize) -> Vec<u8> {
    line(
        "5.5.3",
        &format!("a message may have {most} recipients at most"),
    )
}

/// It goes too fast, and cannot be made to wait.
pub(super) fn too_fast(pause: Duration) -> Vec<u8> {
    let seconds = pause.as_secs().max(1);
    line(
        "4.7.1",
        &format!("too fast; try again in {seconds} seconds"),
    )
}

/// Who submitted it cannot be found out.
pub(super) fn unknown() -> Vec<u8> {
    line(
        "4.3.0",
        "cannot find out who submitted this; try again later",
    )
}

/// `450 4.7.1 text`. A mail server takes a per cent sign for the beginning of something.
fn line(status: &str, text: &str) -> Vec<u8> {
    let status = if is_status(status) { status } else { "4.7.1" };
    let code = if status.starts_with('5') { 550 } else { 450 };
    let mut bytes = format!("{code} {status} ").into_bytes();
    for letter in text.chars().take(MOST_TEXT) {
        match letter {
            '%' => bytes.extend(b"%%"),
            ' '..='~' => bytes.extend(u8::try_from(letter)),
            _ => bytes.push(b'?'),
        }
    }
    bytes.push(0);
    bytes
}

/// Whether this is an enhanced status of an error: `4.7.1`.
fn is_status(status: &str) -> bool {
    let mut parts = status.split('.');
    let class = parts.next();
    let numbers = parts
        .by_ref()
        .take(2)
        .filter(|part| (1..=3).contains(&part.len()) && part.bytes().all(|it| it.is_ascii_digit()))
        .count();
    matches!(class, Some("4" | "5")) && numbers == 2 && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &str, text: &str) -> String {
        let reply = Reply {
            status: status.to_owned(),
            text: text.to_owned(),
        };
        String::from_utf8(refusal(&reply)).unwrap()
    }

    #[test]
    fn a_line_has_a_code_a_status_and_a_text() {
        assert_eq!(said("4.7.1", "slow down"), "450 4.7.1 slow down\0");
        assert_eq!(said("5.7.1", "no"), "550 5.7.1 no\0");
        assert_eq!(said("5.7.510", "100 %"), "550 5.7.510 100 %%\0");
    }

    #[test]
    fn nothing_breaks_out_of_the_line() {
        assert_eq!(
            said("4.7.1", "a\r\n250 ok\0\u{e4}"),
            "450 4.7.1 a??250 ok??\0"
        );
        assert_eq!(said("4.7.1", &"x".repeat(1000)).len(), 10 + 400 + 1);
        for status in [
            "", "2.0.0", "4", "4.7", "4.7.1.1", "4.x.1", "5.7.\r", "4..1",
        ] {
            assert_eq!(said(status, "x"), "450 4.7.1 x\0", "{status:?}");
        }
    }
}
