//! Lines of Exim's main log: who brought a message, from whom it is, and what became of it.
//!
//! The first word behind the arrow is the recipient, then come Exim's own words (`R=`, `T=`, `H=`), and
//! behind the first `: ` why it failed. Exim writes control characters as escapes.

use super::{
    Heard, Said, Source,
    failure::{self, Asked, Reply, Status},
};
use crate::complaint::log::exim as log;

/// What Exim writes before another server's words.
const REFUSED: &str = "SMTP error from remote mail server after ";

/// Reads a line.
pub(super) fn read(line: &str) -> Option<Said> {
    let (time, id, rest) = log::head(line)?;
    let heard = match rest.split_once(' ') {
        Some(("<=", rest)) => Heard::Accepted {
            source: source(rest),
            sender: sender(rest)?,
        },
        Some(("=>" | "->" | ">>", rest)) => Heard::Delivered(recipient(rest)?.0),
        Some(("**", rest)) => {
            let (to, rest) = recipient(rest)?;
            Heard::Failed {
                failure: failed(rest),
                to,
            }
        }
        _ if rest == "Completed" || rest.starts_with("Completed ") => Heard::Gone,
        _ => return None,
    };
    Some(Said {
        id: id.to_owned(),
        time,
        heard,
    })
}

fn source(rest: &str) -> Source {
    log::account(rest).0.map_or(Source::Node, Source::By)
}

/// The first word; empty for `<>`.
fn sender(rest: &str) -> Option<String> {
    let sender = rest.get(..super::end_of_address(rest, ' ').unwrap_or(rest.len()))?;
    Some(if sender == "<>" {
        String::new()
    } else {
        sender.to_owned()
    })
}

/// The recipient, and what follows.
fn recipient(rest: &str) -> Option<(String, &str)> {
    // Without more: `** x@y: reason`.
    let space = super::end_of_address(rest, ' ').unwrap_or(rest.len());
    let word = rest.get(..space)?;
    let to = word.strip_suffix(':').unwrap_or(word);
    (!to.is_empty()).then(|| (to.to_owned(), rest.get(to.len()..).unwrap_or_default()))
}

/// What `R=… T=… H=… X=…: reason` says.
fn failed(rest: &str) -> Option<failure::Failure> {
    let (known, reason) = split_reason(rest)?;
    if reason.ends_with("retry timeout exceeded") {
        // It could not be delivered for as long as Exim tries.
        return Some(failure::Failure::Other);
    }
    let Some(answer) = reason.strip_prefix(REFUSED) else {
        return unrouted(reason);
    };
    let (command, answer) = split_command(answer)?;
    let asked = match log::host(known) {
        Some(host) if !host.is_loopback() => Asked::Remote,
        _ => Asked::Nobody,
    };
    let answer = behind_host(answer);
    let code = failure::code(answer)?;
    let status = answer
        .get(4..)
        .and_then(|text| text.split([' ', '-']).next())
        .and_then(Status::read);
    let command = command.strip_prefix("pipelined ").unwrap_or(command);
    let reply = Reply {
        code: Some(code),
        to_recipient: command.starts_with("RCPT TO"),
        to_message: command.starts_with("end of data") || command == "DATA",
        text: answer,
    };
    failure::judge(asked, status, &reply)
}

/// What Exim found out itself: that there is nowhere to send it.
fn unrouted(reason: &str) -> Option<failure::Failure> {
    let nowhere = [
        "Unrouteable address",
        "Unknown user",
        "unknown user",
        "all relevant MX records point to non-existent hosts",
        "an MX or SRV record indicated no SMTP service",
    ];
    let is_one = nowhere.iter().any(|text| reason.starts_with(text));
    is_one.then_some(failure::Failure::Hard)
}

/// Splits at the first `: ` outside quotes: what Exim knows, and why.
fn split_reason(rest: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in rest.bytes().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted && rest.as_bytes().get(at + 1) == Some(&b' ') => {
                return Some((rest.get(..at)?, rest.get(at + 2..)?));
            }
            _ => {}
        }
    }
    None
}

/// `RCPT TO:<x@y>: 550 …`, `end of data: 554 …`.
fn split_command(text: &str) -> Option<(&str, &str)> {
    match text.find(":<") {
        Some(at) if !text.get(..at)?.contains(": ") => {
            let address = text.get(at + 2..)?;
            let end = super::end_of_address(address, '>')?;
            let behind = address.get(end + 1..)?;
            // `MAIL FROM:<a@b> SIZE=812: 550 …`.
            let (_, answer) = behind.split_once(": ")?;
            Some((text.get(..at)?, answer))
        }
        _ => text.split_once(": "),
    }
}

/// Older ones write `host mx [192.0.2.1]: ` before the answer.
fn behind_host(answer: &str) -> &str {
    match answer.strip_prefix("host ") {
        Some(rest) => rest.split_once("]: ").map_or(answer, |(_, answer)| answer),
        None => answer,
    }
}
