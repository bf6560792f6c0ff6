//! `complaints`: where reports of abuse come in, and whom and what is believed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    complaints::Complaints,
    findings::Findings,
    item::{Fields, Parsed, Scalar, refuse},
    section_node::section,
    section_tenant::texts,
    value,
};

/// The key that is read here.
pub(super) const KEY: &str = "complaints";

/// The shortest and the longest `max_size`, bytes.
const SIZES: (usize, usize) = (64 << 10, 100 << 20);

/// The shortest and the longest `keep`.
const KEEP: (Duration, Duration) = (
    Duration::from_secs(86_400),
    Duration::from_secs(100 * 365 * 86_400),
);

/// Reads it; what is left out is the default. Relative paths start at the directory of `config`.
pub(super) fn complaints(fields: &Fields<'_>, config: &Path, out: &mut Findings) -> Complaints {
    let base = config.parent().unwrap_or(Path::new("/"));
    let item = fields.get(KEY);
    let known = [
        "maildir",
        "keep",
        "max_size",
        "received_by",
        "authserv_ids",
        "reporters",
        "logs",
        "direct_logs",
    ];
    let fields = section(item.as_ref(), out, &known);
    let maildir = fields.set("maildir").and_then(|item| {
        item.parse(out, "the path of a Maildir", |scalar| {
            value::path(scalar, base)
        })
    });
    let mut complaints = Complaints {
        maildir,
        ..Complaints::default()
    };
    if let Some(item) = fields.set("keep") {
        let read = item.parse(out, "a duration such as 90d or 1y", |scalar| {
            value::duration(scalar, KEEP.0, KEEP.1)
        });
        complaints.keep = read.unwrap_or(complaints.keep);
    }
    if let Some(item) = fields.set("max_size")
        && let Some(bytes) = item.parse(out, "a size, such as 25M", size)
    {
        complaints.max_size = bytes;
    }
    for (key, place) in [
        ("received_by", &mut complaints.received_by),
        ("authserv_ids", &mut complaints.authserv_ids),
        ("reporters", &mut complaints.reporters),
    ] {
        if let Some(item) = fields.get(key) {
            let allowed = "a list of names of hosts, such as [mx.example.org]";
            *place = texts(&item, out, allowed, host);
        }
    }
    for (key, place) in [
        ("logs", &mut complaints.logs),
        ("direct_logs", &mut complaints.direct_logs),
    ] {
        if let Some(item) = fields.get(key) {
            let path = |scalar: Scalar<'_>| -> Parsed<PathBuf> { value::path(scalar, base) };
            *place = texts(&item, out, "a list of paths", path);
        }
    }
    // A log that is named as one that only the mail server writes to is no other.
    let direct = complaints.direct_logs.clone();
    complaints.logs.retain(|path| !direct.contains(path));
    complaints
}

/// A number of bytes, KiB (`K`) or MiB (`M`).
fn size(scalar: Scalar<'_>) -> Parsed<usize> {
    let allowed = "a size from 64K to 100M, written like 500K or 25M";
    let (digits, shift) = match scalar.text.as_bytes().last() {
        Some(b'K') => (scalar.text.strip_suffix('K'), 10),
        Some(b'M') => (scalar.text.strip_suffix('M'), 20),
        _ => (Some(scalar.text), 0),
    };
    let digits = digits.unwrap_or_default();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = digits
        .parse::<usize>()
        .ok()
        .filter(|_| plain)
        .and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes < SIZES.0 => refuse("is too small", allowed),
        Some(bytes) if bytes <= SIZES.1 => Ok(bytes),
        Some(_) => refuse("is too large", allowed),
        None => refuse("is not a size", allowed),
    }
}

/// The name of a host or a domain, in lower case.
fn host(scalar: Scalar<'_>) -> Parsed<String> {
    let name = scalar.text.trim_end_matches('.');
    let fits = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if fits {
        return Ok(name.to_lowercase());
    }
    refuse("is not the name of a host", "a name such as mx.example.org")
}
