//! Times as people read them.

use jiff::{Timestamp, tz::TimeZone};

/// `Sun 1 March 2026, 12:00 UTC`. In UTC, because the reader may be anywhere, and said.
#[must_use]
pub fn human(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    time.strftime("%a %-d %B %Y, %H:%M UTC").to_string()
}
