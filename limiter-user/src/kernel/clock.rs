//! The kernel's clock and the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The kernel's monotonic clock, ns: what `bpf_ktime_get_ns` counts in.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place to write to. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanos
}

/// The wall-clock time of a moment of the kernel's clock, as the two stand to each other now.
#[must_use]
pub fn wall_time(monotonic: u64) -> SystemTime {
    let now = monotonic_ns();
    let wall = SystemTime::now();
    let time = if monotonic >= now {
        wall.checked_add(Duration::from_nanos(monotonic - now))
    } else {
        wall.checked_sub(Duration::from_nanos(now - monotonic))
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// The moment of the kernel's clock that is `duration` from now.
#[must_use]
pub fn from_now(duration: Duration) -> u64 {
    monotonic_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let soon = from_now(Duration::from_secs(60));
        let left = wall_time(soon).duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(59), "{left:?}");
    }
}
