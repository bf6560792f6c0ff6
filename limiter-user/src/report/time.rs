//! Times as all texts for operators show them: RFC 3339 to the second with the zone's distance from
//! UTC, `2026-11-22T14:54:10+01:00`, or `…Z` in UTC. Durations beside them are [`Seconds`].

use jiff::{Timestamp, tz::TimeZone};

use super::duration::Seconds;

/// A time on the clock of `zone`.
#[must_use]
pub fn stamp(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    let form = if local.offset().is_zero() {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%:z"
    };
    local.strftime(form).to_string()
}

/// A time in UTC: where the reader's zone is not known.
#[must_use]
pub fn utc(time: Timestamp) -> String {
    stamp(time, &TimeZone::UTC)
}

/// A time, and how far away it is: `2026-11-22T14:54:10+01:00 (in 2h 5m)`.
#[must_use]
pub fn moment(time: Timestamp, zone: &TimeZone) -> String {
    let distance = Timestamp::now().duration_until(time);
    let seconds = distance.unsigned_abs().as_secs();
    let span = Seconds(std::time::Duration::from_secs(seconds));
    let stamp = stamp(time, zone);
    if distance.is_negative() {
        format!("{stamp} ({span} ago)")
    } else {
        format!("{stamp} (in {span})")
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn times_have_one_form() {
        let time: Timestamp = "2026-03-01T12:00:00.987654321Z".parse().unwrap();
        assert_eq!(utc(time), "2026-03-01T12:00:00Z");
        for (hours, text) in [
            (1, "2026-03-01T13:00:00+01:00"),
            (-5, "2026-03-01T07:00:00-05:00"),
        ] {
            let zone = TimeZone::fixed(Offset::constant(hours));
            let stamp = stamp(time, &zone);
            assert_eq!(stamp, text);
            // It can be read back, to the second.
            let back: Timestamp = stamp.parse().unwrap();
            assert_eq!(back.as_second(), time.as_second());
        }
        assert!(moment(Timestamp::MIN, &TimeZone::UTC).ends_with(" ago)"));
        assert!(moment(Timestamp::MAX, &TimeZone::UTC).contains("Z (in "));
    }
}
