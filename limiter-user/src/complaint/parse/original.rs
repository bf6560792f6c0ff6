//! The mail that is complained about.

use super::{
    super::{
        limits::Limits,
        report::{Hop, Original, SourceFrom},
    },
    fields::{self, Fields},
    received, text,
};
use std::net::IpAddr;

/// The original with its fields, as long as they are needed.
pub(super) struct Read {
    pub original: Original,
    pub fields: Fields,
}

/// Reads a message, or its header block alone; `None` if it has no fields.
pub(super) fn read(bytes: &[u8], headers_only: bool, limits: &Limits) -> Option<Read> {
    let bytes = skip_envelope(bytes);
    let (block, body) = fields::split(bytes);
    let truncated = block.len() > limits.original_header_bytes;
    let kept = if truncated {
        let kept = block.get(..limits.original_header_bytes).unwrap_or(block);
        let end = kept.iter().rposition(|byte| *byte == b'\n');
        kept.get(..end.map_or(kept.len(), |end| end + 1))
            .unwrap_or(kept)
    } else {
        block
    };
    let fields = Fields::read(kept, limits.original_header_fields);
    if fields.is_empty() {
        return None;
    }
    let mut original = from_fields(&fields, limits);
    original.headers = text::clean(kept);
    original.truncated = truncated || fields.more;
    original.whole =
        !headers_only && !text::is_blank(body.get(..body.len().min(4_096)).unwrap_or(body));
    Some(Read { original, fields })
}

/// Leaves out blank lines and a line `From …` before the first field.
fn skip_envelope(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    for _ in 0..8 {
        let line = rest.get(..text::line_end(rest)).unwrap_or(rest);
        let skip = !line.is_empty()
            && (text::is_blank(line) || line.starts_with(b"From ") || line.starts_with(b">From "));
        if !skip {
            break;
        }
        rest = rest.get(line.len()..).unwrap_or_default();
    }
    rest
}

fn from_fields(fields: &Fields, limits: &Limits) -> Original {
    let from = fields
        .all("from")
        .flat_map(|value| value.split(','))
        .filter_map(text::mailbox);
    let signed = fields
        .all("dkim-signature")
        .filter_map(|value| tag(value, "d"));
    Original {
        message_id: fields
            .get("message-id")
            .map(text::unbracketed)
            .filter(|id| !id.is_empty())
            .map(text::bounded),
        subject: fields
            .get("subject")
            .map(|value| text::bounded(&fields::unstructured(&text::bounded(value)))),
        from_domains: from
            .filter_map(|address| text::domain_of(&address))
            .take(limits.listed)
            .collect(),
        dkim_domains: signed
            .filter_map(text::domain_name)
            .take(limits.listed)
            .collect(),
        received: fields
            .all("received")
            .take(limits.listed)
            .map(received::hop)
            .collect(),
        ..Original::default()
    }
}

/// The value of a tag in a list `a=1; b=2` (RFC 6376).
fn tag<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.split(';').find_map(|tag| {
        let (key, value) = tag.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(value.trim())
    })
}

/// Which address handed the message over to whoever received it, by its header.
///
/// The newest field that names a public address was written by the receiving side; only where that
/// is a hop inside a provider (both ends of one name) an older one counts, and is called so: the
/// sender chooses its own name, and writes everything below.
pub(super) fn source(original: &Original, fields: &Fields) -> Option<(IpAddr, SourceFrom)> {
    let mut deeper = false;
    for hop in &original.received {
        let Some(address) = hop.address.filter(|address| text::is_public(*address)) else {
            continue;
        };
        if !is_internal(hop) {
            let from = if deeper {
                SourceFrom::Deeper
            } else {
                SourceFrom::FirstHop
            };
            return Some((address, from));
        }
        // The name alone is what the sending side said.
        deeper |= !is_inside_outlook(address);
    }
    spf_client(fields).map(|address| (address, SourceFrom::Deeper))
}

/// Whether both ends of a hop belong to one organisation, by their names.
fn is_internal(hop: &Hop) -> bool {
    let names = (
        received::name(hop.from.as_deref()),
        received::name(hop.by.as_deref()),
    );
    let (Some(from), Some(by)) = names else {
        return false;
    };
    let same = |labels: usize| {
        let tail = |name: &str| {
            let labels: Vec<String> = name.rsplit('.').take(labels).map(str::to_owned).collect();
            labels
        };
        let (from, by) = (tail(&from), tail(&by));
        from.len() == labels && from == by
    };
    // `co.uk` and the like: three labels have to be the same.
    let short = by.rsplit('.').nth(1).is_some_and(|label| label.len() <= 3);
    if short { same(3) } else { same(2) }
}

/// Whether an address is one of those that Outlook's servers have among themselves. Its reports
/// (JMRP) hold several hops between them, and no Source-IP.
fn is_inside_outlook(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            matches!((a, b), (40, 92 | 93 | 107) | (52, 100..=103))
                || (a == 104 && b == 47 && c < 128)
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            (a == 0x2603 && matches!(b, 0x1096 | 0x10a6 | 0x10b6 | 0x10c6 | 0x10d6))
                || (a == 0x2a01 && b == 0x0111 && matches!(c, 0xf400 | 0xf403))
        }
    }
}

/// The client that the receiver's SPF check names.
fn spf_client(fields: &Fields) -> Option<IpAddr> {
    let received_spf = fields.get("received-spf").and_then(|value| {
        let (_, rest) = value.split_once("client-ip=")?;
        text::ip(rest.split([';', ' ']).next()?.trim_matches('"'))
    });
    let results = || {
        let value = fields.get("authentication-results")?;
        let (_, rest) = value.split_once("sender IP is ")?;
        text::ip(rest.split([')', ' ']).next()?)
    };
    received_spf
        .or_else(results)
        .filter(|address| text::is_public(*address))
}
