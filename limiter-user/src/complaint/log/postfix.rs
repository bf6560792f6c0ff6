//! Lines of Postfix.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Account, Said, What, time};

/// Reads a line, if it says something about a message that is asked for.
///
/// What a sender can choose (the Message-ID, its host's name) stands behind what Postfix writes
/// itself in each kind of line, and only the kind of program that knows is believed.
pub(super) fn read(line: &str, near: Timestamp) -> Option<Said> {
    let (time, rest) = time::read(line, near)?;
    let (_host, rest) = rest.split_once(' ')?;
    let (tag, rest) = rest.split_once(": ")?;
    let program = tag.split('[').next()?;
    // `postfix/smtpd`, `postfix-out/submission/smtpd`.
    let (instance, _) = program.split_once('/')?;
    if !instance.starts_with("postfix") {
        return None;
    }
    let program = program.rsplit('/').next()?;
    let (queue_id, rest) = rest.split_once(": ")?;
    let is_id = (5..=20).contains(&queue_id.len())
        && queue_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id {
        return None;
    }
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

/// `host[192.0.2.1], sasl_method=PLAIN, sasl_username=bob@example.org`.
fn client(rest: &str) -> Option<Account> {
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
