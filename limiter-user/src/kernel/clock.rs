//! The programs' clock, and how the wall clock stands to it.
//!
//! The programs reckon by the kernel's monotonic clock plus an offset
//! ([`Settings::clock_offset_ns`](limiter_common::settings::Settings)). It is 0 wherever mail is
//! limited in earnest; a test puts the clock forward by it instead of waiting for hours. The agent
//! adds the same offset, and writes it into the kernel with the other settings, so that an offset
//! that an earlier agent left there does not outlive its test.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;

/// How far this process's clocks are ahead of the machine's, ns.
static OFFSET_NS: AtomicU64 = AtomicU64::new(0);

/// How far the clocks here are ahead of the machine's, ns: 0 but in tests.
#[must_use]
pub fn offset_ns() -> u64 {
    OFFSET_NS.load(Ordering::Relaxed)
}

/// Puts the clocks here so far ahead of the machine's. What the programs go by is written by
/// [`Mirror::write_clock`](super::Mirror::write_clock).
pub fn set_offset_ns(offset_ns: u64) {
    OFFSET_NS.store(offset_ns, Ordering::Relaxed);
}

/// The clock that the programs reckon by, ns: what `bpf_ktime_get_ns` counts in, and the offset.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).saturating_add(offset_ns())
}

/// How long the machine runs since it booted, suspension included, and the offset, ns.
#[must_use]
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME).saturating_add(offset_ns())
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place to write to. The call cannot fail for these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanos
}

/// The wall clock, and the offset.
#[must_use]
pub fn wall_now() -> SystemTime {
    let offset = Duration::from_nanos(offset_ns());
    let now = SystemTime::now();
    now.checked_add(offset).unwrap_or(now)
}

/// [`wall_now`] with a date.
#[must_use]
pub fn timestamp() -> Timestamp {
    Timestamp::try_from(wall_now()).unwrap_or(Timestamp::MAX)
}

/// The wall-clock time of a moment of the programs' clock, as the two stand to each other now.
#[must_use]
pub fn wall_time(monotonic: u64) -> SystemTime {
    let now = monotonic_ns();
    let wall = wall_now();
    let time = if monotonic >= now {
        wall.checked_add(Duration::from_nanos(monotonic - now))
    } else {
        wall.checked_sub(Duration::from_nanos(now - monotonic))
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// The moment of the programs' clock that is `duration` from now.
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
        let left = wall_time(soon).duration_since(wall_now()).unwrap();
        assert!(
            left <= Duration::from_secs(60) && left > Duration::from_secs(59),
            "{left:?}"
        );
    }
}
