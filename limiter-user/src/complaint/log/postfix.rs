//! Lines of Postfix.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Account, Said, What, time};

/// Reads a line, if it says something about a message that is asked for.
///
/// What a sender can choose (the Message-ID, its host's name) stands behind what Postfix writes
/// itself in each kind of line, and only the kind of program that knows is believed.
pub(super) fn read(line: &str, near: Timestamp) -> Option<Said> {
    let (time, program, rest) = head(line, near)?;
    let (queue_id, rest) = message(rest)?;
    let what = match program {
        "cleanup" => {
            let id = rest.strip_prefix("message-id=")?;
            let id = id.strip_prefix('<').unwrap_or(id);
            What::MessageId(id.strip_suffix('>').unwrap_or(id).to_owned())
        }
        "pickup" => {
            let uid = rest.strip_prefix("uid=")?.split(' ').next()?;
            What::Account(Account::Uid(uid.parse().ok()?))
        }
        "smtpd" => What::Account(client(rest.strip_prefix("client=")?)?),
        "smtp" => {
            if !rest.starts_with("to=<") || !rest.contains(", status=sent") {
                return None;
            }
            What::Delivered(relay(rest))
        }
        _ => return None,
    };
    Some(Said {
        queue_id: queue_id.to_owned(),
        time,
        what,
        own_format: false,
    })
}

/// The time of a line, which of Postfix's programs wrote it, and what it says.
pub(crate) fn head(line: &str, near: Timestamp) -> Option<(Timestamp, &str, &str)> {
    let (time, rest) = time::read(line, near)?;
    let (_host, rest) = rest.split_once(' ')?;
    let (tag, rest) = rest.split_once(": ")?;
    Some((time, program(tag)?, rest))
}

/// The program in `postfix/smtpd[4711]` or `postfix-out/submission/smtpd`.
pub(crate) fn program(tag: &str) -> Option<&str> {
    let path = tag.split('[').next()?;
    let (instance, _) = path.split_once('/')?;
    instance.starts_with("postfix").then_some(())?;
    path.rsplit('/').next()
}

/// Which message a text is about, and what it says of it.
pub(crate) fn message(text: &str) -> Option<(&str, &str)> {
    let (queue_id, rest) = text.split_once(": ")?;
    let is_id = (5..=20).contains(&queue_id.len())
        && queue_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then_some((queue_id, rest))
}

/// `host[192.0.2.1], sasl_method=PLAIN, sasl_username=bob@example.org`.
pub(crate) fn client(rest: &str) -> Option<Account> {
    let mut fields = rest.split(", ");
    let host = fields.next()?;
    if let Some(login) = fields.find_map(|field| field.strip_prefix("sasl_username=")) {
        return Some(Account::Login(login.trim().to_owned()));
    }
    let address: IpAddr = host.rsplit('[').next()?.split(']').next()?.parse().ok()?;
    // A filter of the node that hands a message back says nothing about whose it is.
    (!address.is_loopback()).then(|| Account::Address(address.to_canonical()))
}

/// The address in `…, relay=host[192.0.2.1]:25, …`.
fn relay(rest: &str) -> Option<IpAddr> {
    let (_, relay) = rest.split_once(", relay=")?;
    let relay = relay.split(", ").next()?;
    let address: IpAddr = relay.rsplit('[').next()?.split(']').next()?.parse().ok()?;
    Some(address.to_canonical())
}
