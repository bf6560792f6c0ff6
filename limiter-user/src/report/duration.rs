//! Durations: seconds in JSON, `90s`, `15m`, `1h`, `30d` for people.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use thiserror::Error as ThisError;

/// Seconds in a minute, an hour and a day, with their letters, longest first.
const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];

/// A duration that is seconds in JSON: a whole number where it is one, a fraction otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// So many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl fmt::Display for Seconds {
    /// The two largest parts: `1h`, `1h 5m`, `250ms`; more would be noise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        if rest == 0 {
            return match self.0.subsec_millis() {
                0 => f.write_str("0s"),
                millis => write!(f, "{millis}ms"),
            };
        }
        let mut parts = 0;
        for (size, letter) in UNITS {
            let count = rest / size;
            rest %= size;
            if count > 0 {
                let space = if parts > 0 { " " } else { "" };
                write!(f, "{space}{count}{letter}")?;
                parts += 1;
            }
            // `1d 5s` would only look exact.
            if parts == 2 || (parts == 1 && count == 0) {
                break;
            }
        }
        if self.0.as_secs() < 60 && self.0.subsec_millis() > 0 {
            write!(f, " {}ms", self.0.subsec_millis())?;
        }
        Ok(())
    }
}

/// What is wrong with a duration.
#[derive(Debug, ThisError, PartialEq, Eq)]
#[error("{0:?} is not a duration: a whole number and s, m, h or d, such as 90s, 15m, 1h, 30d")]
pub struct NotADuration(String);

/// Reads `90s`, `15m`, `1h`, `30d`, and `0`.
///
/// # Errors
/// Anything else, and what is longer than a `u64` of seconds.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let wrong = || NotADuration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let letter = text.chars().last().ok_or_else(wrong)?;
    let (size, _) = UNITS
        .into_iter()
        .find(|(_, name)| *name == letter)
        .ok_or_else(wrong)?;
    let digits = text.strip_suffix(letter).ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(
        count.checked_mul(size).ok_or_else(wrong)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("0", 0), ("90s", 90), ("15m", 900), ("1h", 3600)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in [
            "",
            "5",
            "h",
            "-1h",
            "1.5h",
            "1h30m",
            "1 h",
            "+1h",
            "1é",
            "99999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_short() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (1_500, "1s 500ms"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (93_600_000, "1d 2h"),
            (2_592_000_000, "30d"),
        ] {
            assert_eq!(Seconds(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn json_is_seconds() {
        let json = |millis| serde_json::to_string(&Seconds(Duration::from_millis(millis))).unwrap();
        assert_eq!(json(3_600_000), "3600");
        assert_eq!(json(1_500), "1.5");
        let back: Seconds = serde_json::from_str("1.5").unwrap();
        assert_eq!(back, Seconds(Duration::from_millis(1_500)));
        assert!(serde_json::from_str::<Seconds>("-1").is_err());
    }
}
