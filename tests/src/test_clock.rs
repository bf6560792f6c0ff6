//! The clocks that an agent is told to go by instead of the machine's.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// What a simulated agent is started with. What the agent was told while it ran is here too, so
/// that its next life goes on from there.
#[derive(Debug, Default)]
pub struct TestClock {
    /// How far all clocks are ahead, s.
    pub(crate) ahead_s: AtomicU64,
    /// Which boot it is, and when it began by the boot clock, s. None: the machine's own.
    boot: Mutex<Option<(u32, u64)>>,
    /// Whether the wall clock is vouched for; `None`: as the machine says.
    trusted: Mutex<Option<bool>>,
}

impl TestClock {
    /// Says whether the wall clock is known to be right, from the next start on.
    pub fn trust(&self, trusted: bool) {
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(trusted);
    }

    /// Another boot, after so long.
    pub(crate) fn boot(&self, down: Duration) {
        let ahead_s = self.ahead_s.fetch_add(down.as_secs(), Ordering::Relaxed) + down.as_secs();
        let up = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel has it");
        let up_s = u64::try_from(up.tv_sec()).expect("it starts from zero");
        let mut boot = self.boot.lock().unwrap_or_else(PoisonError::into_inner);
        let number = boot.map_or(0, |(number, _)| number) + 1;
        *boot = Some((number, up_s + ahead_s));
    }

    /// The options of `limiter run`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        let mut arguments = vec![format!("--simulated-clock={ahead_s}")];
        let boot = *self.boot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, at_s)) = boot {
            arguments.push(format!("--simulated-boot=boot-{number}@{at_s}"));
        }
        let trusted = *self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trusted) = trusted {
            arguments.push(format!("--simulated-trust={trusted}"));
        }
        arguments
    }
}
