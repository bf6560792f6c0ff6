//! Numbers, durations, names and paths as the files write them.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use limiter_common::abi::MAX_CGROUP_DEPTH;

use super::{
    glob::Glob,
    item::{Parsed, Scalar, refuse},
    model::UidRange,
};

/// The last uid: the one above means "none" to the kernel.
const MAX_UID: u32 = u32::MAX - 1;
/// The longest name of an interface, in bytes.
const MAX_INTERFACE: usize = 15;
/// The longest user name, in bytes.
const MAX_USER: usize = 255;

/// A whole number from `min` to `max`.
pub(super) fn whole(scalar: Scalar<'_>, min: u32, max: u32) -> Parsed<u32> {
    let allowed = format!("a whole number from {min} to {max}");
    let text = scalar.text;
    if !scalar.plain {
        return refuse(
            "is text, not a number",
            format!("{allowed}, without quotes"),
        );
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("is not a whole number", allowed);
    }
    match text.parse::<u32>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(number) if number < min => refuse("is too small", allowed),
        _ if text.starts_with('-') => refuse("is negative", allowed),
        _ => refuse("is too large", allowed),
    }
}

/// A port.
pub(super) fn port(scalar: Scalar<'_>) -> Parsed<u16> {
    let number = whole(scalar, 1, u32::from(u16::MAX))?;
    u16::try_from(number).or_else(|_| refuse("is too large", "a port from 1 to 65535"))
}

/// The units of durations, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("y", 365 * 86_400_000),
];

/// A duration from `min` to `max`: a whole number and a unit.
pub(super) fn duration(scalar: Scalar<'_>, min: Duration, max: Duration) -> Parsed<Duration> {
    let allowed = format!(
        "a duration from {} to {}, written like 90s, 15m, 1h or 30d",
        human(min),
        human(max)
    );
    let text = scalar.text;
    let split = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let what = if unit.is_empty() && !digits.is_empty() {
            "has no unit"
        } else {
            "is not a duration"
        };
        return refuse(what, allowed);
    };
    if digits.is_empty() {
        return refuse("is not a duration", allowed);
    }
    let duration = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .map(Duration::from_millis);
    match duration {
        Some(duration) if duration < min => refuse("is too short", allowed),
        Some(duration) if duration <= max => Ok(duration),
        _ => refuse("is too long", allowed),
    }
}

/// A duration as the files write it, in the largest unit up to days that holds it whole: `90s`,
/// `1h`. What is finer than a millisecond is dropped.
pub(super) fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    UNITS[..5]
        .iter()
        .rev()
        .find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)))
        .map_or_else(
            || format!("{millis}ms"),
            |(unit, factor)| format!("{}{unit}", millis / u128::from(*factor)),
        )
}

/// A uid, or a range of uids with both ends. Uid 0 is refused.
pub(super) fn uids(scalar: Scalar<'_>) -> Parsed<UidRange> {
    let allowed = format!("a uid from 1 to {MAX_UID}, or a range such as 2100-2199");
    let (first, last) = match scalar.text.split_once('-') {
        Some((first, last)) => (first.trim(), last.trim()),
        None => (scalar.text, scalar.text),
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok().filter(|uid| *uid <= MAX_UID))
    };
    match (number(first), number(last)) {
        (None, _) | (_, None) => refuse("is neither a uid nor a range of uids", allowed),
        (Some(None), _) | (_, Some(None)) => refuse("is too large for a uid", allowed),
        (Some(Some(0)), _) => refuse(
            "holds uid 0: root is the node itself, not a tenant",
            allowed,
        ),
        (Some(Some(first)), Some(Some(last))) if last < first => refuse(
            "ends before it starts",
            format!("a range from low to high: {last}-{first}"),
        ),
        (Some(Some(first)), Some(Some(last))) => Ok(UidRange { first, last }),
    }
}

/// The name of a system user.
pub(super) fn user(scalar: Scalar<'_>) -> Parsed<String> {
    let text = scalar.text;
    let allowed = format!("the name of a system user, at most {MAX_USER} bytes");
    if scalar.plain && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("is a number", "a user name; numbers belong under `uids`");
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | ',');
    if text.is_empty() || text.len() > MAX_USER || text.starts_with('-') || text.contains(bad) {
        return refuse("is not a user name", allowed);
    }
    Ok(text.to_owned())
}

/// A user who can be a tenant: not root.
pub(super) fn tenant_user(scalar: Scalar<'_>) -> Parsed<String> {
    let name = user(scalar)?;
    if name == "root" {
        return refuse(
            "is the node itself, not a tenant",
            "any other user; root's connections are nobody's",
        );
    }
    Ok(name)
}

/// A glob of interface names.
pub(super) fn interface(scalar: Scalar<'_>) -> Parsed<String> {
    let text = scalar.text;
    let allowed = "the name of an interface, at most 15 bytes, `*`, `?` and `[…]` allowed";
    let glob = match Glob::new(text) {
        Ok(glob) => glob,
        Err(error) => return refuse(error.to_string(), allowed),
    };
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    let too_long = glob
        .literal()
        .is_some_and(|name| name.len() > MAX_INTERFACE);
    if text.is_empty() || too_long || text.contains(bad) || matches!(text, "." | "..") {
        return refuse("is not the name of an interface", allowed);
    }
    Ok(text.to_owned())
}

/// The path of a cgroup below the mount, `/` itself only where `root` allows it. Doubled and
/// trailing slashes are dropped.
pub(super) fn cgroup(scalar: Scalar<'_>, globs: bool, root: bool) -> Parsed<String> {
    let allowed = if globs {
        "a path below the cgroup v2 mount, such as /user.slice/user-2001.slice; `*`, `?` and `[…]` \
         stand for a part of one level, and everything below a match is matched too"
    } else {
        "a path below the cgroup v2 mount, such as / or /machine.slice"
    };
    let text = scalar.text;
    if !text.starts_with('/') {
        return refuse("does not start with `/`", allowed);
    }
    if text.contains(char::is_control) {
        return refuse("holds a control character", allowed);
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return refuse("holds `.` or `..`", allowed);
    }
    if parts.is_empty() {
        return if root {
            Ok("/".to_owned())
        } else {
            refuse("would claim the whole node", allowed)
        };
    }
    if u32::try_from(parts.len()).map_or(true, |depth| depth > MAX_CGROUP_DEPTH) {
        return refuse(
            "is too deep",
            format!("a path of at most {MAX_CGROUP_DEPTH} levels"),
        );
    }
    if globs {
        if parts.iter().any(|part| part.contains("**")) {
            return refuse("holds `**`", allowed);
        }
        for part in &parts {
            if let Err(error) = Glob::check(part) {
                return refuse(error.to_string(), allowed);
            }
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A path, made absolute from the directory `base`; `.` and doubled slashes are dropped.
pub(super) fn path(scalar: Scalar<'_>, base: &Path) -> Parsed<PathBuf> {
    if scalar.text.is_empty() || scalar.text.contains(char::is_control) {
        return refuse("is not a path", "a path, absolute or relative to this file");
    }
    Ok(base
        .join(scalar.text)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

/// A text on one line that is not empty.
pub(super) fn line(scalar: Scalar<'_>) -> Parsed<String> {
    if scalar.text.trim().is_empty() || scalar.text.contains(char::is_control) {
        return refuse("is not a name", "a text on one line, not empty");
    }
    Ok(scalar.text.to_owned())
}

/// One of several words.
pub(super) fn word<T: Copy>(scalar: Scalar<'_>, words: &[(&'static str, T)]) -> Parsed<T> {
    match words.iter().find(|(name, _)| *name == scalar.text) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            refuse("is not known", names.join(" | "))
        }
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
