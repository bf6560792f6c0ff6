//! A mail complained about that stands in the text of the complaint, and what services such as
//! SpamCop write above it.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{fields, text};

/// How far into a text a header block is looked for, bytes.
const LOOKED_AT: usize = 256 << 10;
/// How many lines a header block may begin with until it has shown to be one.
const PROBED_LINES: usize = 40;
/// How many fields that every mail has make a header block.
const ENOUGH: usize = 3;

/// Fields by which a header block is known.
const KNOWN: [&str; 14] = [
    "received",
    "return-path",
    "delivered-to",
    "from",
    "to",
    "date",
    "sent",
    "subject",
    "message-id",
    "dkim-signature",
    "authentication-results",
    "mime-version",
    "content-type",
    "x-received",
];

/// A message inside a text.
pub(super) struct Inline {
    /// The message, without quote marks.
    pub message: String,
    /// What the complainant wrote above it.
    pub above: String,
}

/// Finds the message in a text.
pub(super) fn find(text: &str) -> Option<Inline> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > LOOKED_AT {
            return None;
        }
        let rest = text.get(at..)?;
        if begins_header(rest) {
            let above = text.get(..at)?.trim();
            let quoted = line.starts_with('>');
            let message = if quoted {
                rest.lines()
                    .flat_map(|line| [unquoted(line), "\n"])
                    .collect()
            } else {
                rest.to_owned()
            };
            return Some(Inline {
                message,
                above: above.to_owned(),
            });
        }
        at += line.len();
    }
    None
}

/// Whether a header block begins here.
fn begins_header(text: &str) -> bool {
    let mut known = 0;
    for (number, line) in text.lines().take(PROBED_LINES).enumerate() {
        let line = unquoted(line);
        if line.starts_with([' ', '\t']) && number > 0 {
            continue;
        }
        match fields::field(line) {
            Some((name, _)) if KNOWN.contains(&name.as_str()) => known += 1,
            Some((name, _)) if number > 0 && name != "http" && name != "https" => {}
            _ => return false,
        }
        if known >= ENOUGH {
            return true;
        }
    }
    false
}

fn unquoted(line: &str) -> &str {
    let bare = line.trim_start_matches('>');
    if bare.len() == line.len() {
        line
    } else {
        bare.strip_prefix(' ').unwrap_or(bare)
    }
}

/// What a service's own line says: `Email from 192.0.2.1 / Sun, 22 Nov 2026 06:00:00 +0000`.
pub(super) fn stated(above: &str) -> Option<(IpAddr, Option<Timestamp>)> {
    above.lines().take(200).find_map(|line| {
        let rest = line.trim().strip_prefix("Email from ")?;
        let (address, time) = rest.split_once('/').unwrap_or((rest, ""));
        Some((text::ip(address)?, fields::date(time)))
    })
}
