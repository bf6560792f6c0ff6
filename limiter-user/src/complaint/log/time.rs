//! Times at the beginning of log lines.

use jiff::{Timestamp, Zoned, civil::DateTime, fmt::strtime, tz::TimeZone};

/// The time of a line, and what follows it. `near` is a moment of the same half year.
pub(super) fn read(line: &str, near: Timestamp) -> Option<(Timestamp, &str)> {
    exim(line)
        .or_else(|| rfc3339(line))
        .or_else(|| traditional(line, near))
}

/// `2026-11-20 10:00:01`, with `.123` and ` +0100` where the server is told to.
pub(super) fn exim(line: &str) -> Option<(Timestamp, &str)> {
    let (head, rest) = (line.get(..19)?, line.get(19..)?);
    if head.as_bytes().get(10) != Some(&b' ') {
        return None;
    }
    let time: DateTime = strtime::parse("%Y-%m-%d %H:%M:%S", head)
        .ok()?
        .to_datetime()
        .ok()?;
    let rest = match rest.strip_prefix('.') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let rest = rest.strip_prefix(' ')?;
    if rest.starts_with(['+', '-'])
        && let Some(zone) = rest.get(..5)
        && let Some(after) = rest.get(5..).and_then(|after| after.strip_prefix(' '))
    {
        let text = format!("{head} {zone}");
        let zoned = strtime::parse("%Y-%m-%d %H:%M:%S %z", &text).ok()?;
        return Some((zoned.to_timestamp().ok()?, after));
    }
    Some((local(time)?, rest))
}

/// `2026-11-20T10:00:01.123456+00:00 `.
fn rfc3339(line: &str) -> Option<(Timestamp, &str)> {
    let (time, rest) = line.split_once(' ')?;
    if time.len() > 40 || time.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    Some((time.parse().ok()?, rest))
}

/// `Nov 20 10:00:01 `: local time, without a year.
fn traditional(line: &str, near: Timestamp) -> Option<(Timestamp, &str)> {
    let (head, rest) = (line.get(..15)?, line.get(15..)?);
    let rest = rest.strip_prefix(' ')?;
    let year = Zoned::new(near, TimeZone::system()).year();
    let candidates = [year.checked_sub(1), Some(year), year.checked_add(1)];
    candidates
        .into_iter()
        .flatten()
        .filter_map(|year| {
            let text = format!("{year} {head}");
            let time = strtime::parse("%Y %b %e %H:%M:%S", &text).ok()?;
            local(time.to_datetime().ok()?)
        })
        .min_by_key(|time| time.duration_since(near).abs())
        .map(|time| (time, rest))
}

fn local(time: DateTime) -> Option<Timestamp> {
    let zoned = time.to_zoned(TimeZone::system()).ok()?;
    Some(zoned.timestamp())
}
