//! Who sent a report, and whether that is proved.

use super::{
    super::report::Reporter,
    Trust,
    fields::{self, Fields},
    text,
};

/// Reads the sender from the fields of the report itself.
pub(super) fn read(fields: &Fields, trust: &Trust) -> Reporter {
    let mut from = fields.all("from");
    let address = from.next().and_then(text::mailbox);
    // Two From fields are a trick: no reader knows which one was checked.
    let single = from.next().is_none();
    let verified = address
        .as_deref()
        .filter(|_| single)
        .and_then(text::domain_of)
        .and_then(|domain| verified(fields, trust, &domain));
    let trusted = verified.as_deref().is_some_and(|verified| {
        let mut reporters = trust.reporters.iter();
        reporters.any(|reporter| covers(reporter, verified))
    });
    Reporter {
        trusted,
        address: address.map(|address| text::bounded(&fields::unstructured(&address))),
        organisation: None,
        agent: fields
            .get("x-mailer")
            .or_else(|| fields.get("user-agent"))
            .map(text::bounded),
        verified,
    }
}

/// The domain of a signature that this node's own mail server found to hold, if it covers `domain`.
///
/// Only what stands above the second Received field counts, by the server's name: what was there
/// when the mail came in, RFC 8601 has the server remove, and not all do.
fn verified(fields: &Fields, trust: &Trust, domain: &str) -> Option<String> {
    let mut received = 0;
    for (name, value) in fields.each() {
        match name {
            "received" => {
                received += 1;
                if received > 1 {
                    return None;
                }
            }
            "authentication-results" => {
                let bare = without_asides(value);
                let mut results = bare.split(';');
                let server = results.next()?.split_whitespace().next();
                let ours = server.is_some_and(|server| {
                    trust
                        .authserv_ids
                        .iter()
                        .any(|id| id.eq_ignore_ascii_case(server))
                });
                if ours {
                    // The newest one of ours is the only one.
                    return results
                        .filter_map(signer)
                        .find(|signer| covers(signer, domain));
                }
            }
            _ => {}
        }
    }
    None
}

/// The domain in a result `dkim=pass … header.d=DOMAIN`.
fn signer(result: &str) -> Option<String> {
    let mut words = result.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("dkim=pass") {
        return None;
    }
    words.find_map(|word| {
        let (key, value) = word.split_once('=')?;
        if key.eq_ignore_ascii_case("header.d") {
            text::domain_name(value)
        } else if key.eq_ignore_ascii_case("header.i") {
            text::domain_of(value)
        } else {
            None
        }
    })
}

/// Whether a signature of `signer` speaks for `domain`: it is the same, or above it.
fn covers(signer: &str, domain: &str) -> bool {
    domain == signer
        || domain
            .strip_suffix(signer)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// `value` without comments and quoted strings, in which a stranger may have put anything.
fn without_asides(value: &str) -> String {
    let mut bare = String::with_capacity(value.len());
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for c in value.chars() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            c if depth == 0 && !quoted => bare.push(c),
            _ => {}
        }
    }
    bare
}
