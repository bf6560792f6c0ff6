//! Lines of Postfix: who brought a message, from whom it is, and what became of it.
//!
//! A remote server's words stand in the parentheses at the end, behind everything that Postfix says
//! itself; so each line is read from its beginning, field by field, and what is not in its place makes the
//! line none. Postfix writes control characters as `?`: no reply ends a line.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{
    Heard, Said, Source,
    failure::{self, Asked, Reply},
};
use crate::complaint::log::{Account, postfix as log};

/// Reads a line of a file. `near` is a moment of the same half year, for times without a year.
pub(super) fn read(line: &str, near: Timestamp) -> Option<Said> {
    let (time, program, text) = log::head(line, near)?;
    said(program, text, time)
}

/// Reads what `program` (`smtp`, `qmgr`) said.
pub(super) fn said(program: &str, text: &str, time: Timestamp) -> Option<Said> {
    let (id, rest) = log::message(text)?;
    let heard = match program {
        "pickup" => {
            let uid = rest.strip_prefix("uid=")?.split(' ').next()?;
            Heard::Brought(Source::By(Account::Uid(uid.parse().ok()?)))
        }
        "smtpd" => Heard::Brought(client(rest.strip_prefix("client=")?)),
        "qmgr" if rest == "removed" => Heard::Gone,
        "qmgr" => sender(rest)?,
        // Whoever delivers, under whatever name; some also fail what nobody was asked for.
        _ => delivery(rest)?,
    };
    Some(Said {
        id: id.to_owned(),
        time,
        heard,
    })
}

/// Behind `client=`.
fn client(rest: &str) -> Source {
    // Who may say so is configured (smtpd_authorized_xforward_hosts): a filter that hands it back.
    let before = rest
        .split(", ")
        .find_map(|field| field.strip_prefix("orig_queue_id="));
    if let Some(before) = before {
        return Source::Message(before.trim().to_owned());
    }
    log::client(rest).map_or(Source::Node, Source::By)
}

/// `from=<a@b>, size=812, nrcpt=1 (queue active)`, or `from=<a@b>, status=expired, returned to sender`.
fn sender(rest: &str) -> Option<Heard> {
    let (sender, rest) = address(rest.strip_prefix("from=<")?)?;
    if rest.starts_with(", status=expired") || rest.starts_with(", status=force-expired") {
        return Some(Heard::Expired);
    }
    let rest = rest.strip_prefix(", size=")?;
    let size = rest.split(',').next()?;
    size.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Heard::From(sender.to_owned()))
}

/// `to=<a@b>, orig_to=<c>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (…)`.
fn delivery(rest: &str) -> Option<Heard> {
    let (to, mut rest) = address(rest.strip_prefix("to=<")?)?;
    if let Some(behind) = rest.strip_prefix(", orig_to=<") {
        rest = address(behind)?.1;
    }
    let (mut asked, mut dsn) = (Asked::Nobody, None);
    let to = to.to_owned();
    loop {
        rest = rest.strip_prefix(", ")?;
        let (key, behind) = rest.split_once('=')?;
        if key == "status" {
            let (status, text) = behind.split_once(' ').unwrap_or((behind, ""));
            let text = text.strip_prefix('(').unwrap_or(text);
            return match status {
                "sent" | "delivered" => Some(Heard::Delivered(to)),
                "deferred" => {
                    let ours = failure::is_ours(asked, dsn);
                    Some(if ours {
                        Heard::Nothing
                    } else {
                        Heard::Deferred(to)
                    })
                }
                "bounced" => Some(Heard::Failed {
                    failure: failure::judge(asked, dsn, &reply(text)),
                    to,
                }),
                _ => None,
            };
        }
        let (value, _) = behind.split_once(", ").unwrap_or((behind, ""));
        match key {
            "relay" => asked = relay(value),
            "dsn" => dsn = failure::Status::read(value),
            "conn_use" | "delay" | "delays" => {}
            _ => return None,
        }
        rest = behind.get(value.len()..)?;
    }
}

/// `mx.example[192.0.2.1]:25`, `local`, `none`, `host[private/lmtp]`: whether another host was asked.
fn relay(relay: &str) -> Asked {
    let address = relay
        .rsplit_once('[')
        .and_then(|(_, rest)| rest.split(']').next())
        .and_then(|address| address.parse::<IpAddr>().ok());
    match address {
        Some(address) if !address.to_canonical().is_loopback() => Asked::Remote,
        _ => Asked::Nobody,
    }
}

/// `host mx[192.0.2.1] said: 550 no such user (in reply to RCPT TO command))`.
fn reply(text: &str) -> Reply<'_> {
    let text = text.strip_suffix(')').unwrap_or(text);
    let said = text.split_once(" said: ").map_or(text, |(_, said)| said);
    // The last words are Postfix's own.
    let (said, at) = said
        .rsplit_once(" (in reply to ")
        .map_or((said, ""), |(said, at)| (said, at));
    Reply {
        code: failure::code(said),
        to_recipient: at.starts_with("RCPT TO command"),
        to_message: at.starts_with("end of DATA command") || at.starts_with("DATA command"),
        text: said,
    }
}

/// The address up to `>`, and what follows. Quoted local parts may hold anything but control characters.
fn address(text: &str) -> Option<(&str, &str)> {
    let end = super::end_of_address(text, '>')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}
