//! Small readings of text that strangers wrote.

use std::net::IpAddr;

/// The most that is kept of a value, bytes.
const LONGEST_VALUE: usize = 1_000;
/// The most of a value that is shown in a refusal or a remark, characters.
const LONGEST_SHOWN: usize = 80;

/// Where the first line of `bytes` ends, behind its newline.
pub(super) fn line_end(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |at| at + 1)
}

/// Whether a line holds nothing but white space.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// The text in `bytes`, with what is no UTF-8 and no text replaced: it ends up on terminals.
pub(super) fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| match c {
            '\t' | '\n' => c,
            // What turns the direction of writing can make a text look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A value, cut where it becomes too long to keep.
pub(super) fn bounded(value: &str) -> String {
    let value = value.trim();
    let mut end = value.len().min(LONGEST_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().to_owned()
}

/// A value, cut to be shown.
pub(super) fn shown(value: &str) -> String {
    let mut chars = value.trim().chars();
    let mut shown: String = chars.by_ref().take(LONGEST_SHOWN).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What stands in angle brackets, else the whole value: a Message-ID, an address.
pub(super) fn unbracketed(value: &str) -> &str {
    let value = value.trim();
    match (value.rfind('<'), value.rfind('>')) {
        (Some(open), Some(close)) if open < close => value.get(open + 1..close).unwrap_or(value),
        (Some(open), None) => value.get(open + 1..).unwrap_or(value),
        _ => value,
    }
    .trim()
}

/// An address of mail, without its name and brackets, if it is one.
pub(super) fn mailbox(value: &str) -> Option<String> {
    let value = unbracketed(value);
    let value = value
        .strip_prefix("mailto:")
        .unwrap_or(value)
        .trim_matches('"');
    // Without brackets a comment or anything else may stand beside it.
    let value = value
        .split(|c: char| c.is_whitespace() || c == '(')
        .find(|word| word.contains('@'))?;
    (value.len() <= 320).then(|| value.to_owned())
}

/// The domain of an address of mail, in the form that domains are compared in.
pub(super) fn domain_of(address: &str) -> Option<String> {
    let (_, domain) = address.rsplit_once('@')?;
    domain_name(domain)
}

/// A domain in the form that domains are compared in: lower case, no dot at its end.
pub(super) fn domain_name(value: &str) -> Option<String> {
    let value = value
        .trim()
        .trim_matches(['<', '>', '[', ']', '"', ';', ','])
        .trim_end_matches('.');
    let fits = value.len() <= 253
        && value.contains('.')
        && value.parse::<IpAddr>().is_err()
        && value
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63)
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    fits.then(|| value.to_lowercase())
}

/// An address as mail writes it: `192.0.2.1`, `[192.0.2.1]`, `IPv6:2001:db8::1`,
/// `dns; name (192.0.2.1)`.
pub(super) fn ip(value: &str) -> Option<IpAddr> {
    let value = value.trim();
    plain_ip(value).or_else(|| {
        let open = value.rfind(['(', '['])?;
        let inside = value.get(open + 1..)?;
        plain_ip(inside.split([')', ']']).next()?)
    })
}

fn plain_ip(value: &str) -> Option<IpAddr> {
    let value = value.trim().trim_start_matches('[').trim_end_matches(']');
    let value = match value.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("ipv6:") => value.get(5..)?,
        _ => value,
    };
    value
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Whether an address can be that of a mail server in the Internet: neither private, nor the
/// machine's own, nor unspecified.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => {
            // 2002::/16 in Received fields is how a large provider writes its inner addresses.
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.segments()[0] == 0x2002)
        }
    }
}
