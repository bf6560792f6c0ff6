//! What the clocks of this machine say, for whatever has to outlive an agent or a boot.
//!
//! A test may put them forward together, and pretend another boot: see [`Simulation`].

use std::{
    fs, mem,
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use log::error;

use crate::{
    kernel::clock,
    offence::{Moment, Reading, Span},
};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a test pretends, beside an offset of all clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// How far all clocks are put forward, s.
    pub offset_s: u64,
    /// Another boot than this one.
    pub boot: Option<SimulatedBoot>,
    /// How far the wall clock alone is set wrong, s.
    pub wall_s: i64,
    /// Whether the wall clock is known to be right; `None`: as the machine says.
    pub trusted: Option<bool>,
}

/// A boot that never was: `ID`, or `ID@SECONDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedBoot {
    /// Its id.
    pub id: String,
    /// When it began: seconds of the boot clock of the machine as it was put forward.
    pub at_s: u64,
}

impl FromStr for SimulatedBoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, at) = text.split_once('@').unwrap_or((text, "0"));
        match at.parse() {
            Ok(at_s) if !id.is_empty() => Ok(Self {
                id: id.to_owned(),
                at_s,
            }),
            _ => Err("an id, or an id, `@` and seconds of the boot clock".to_owned()),
        }
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct MachineClock {
    /// The boot's id; empty where the kernel does not tell.
    boot: String,
    /// When the boot began: ns of the boot clock.
    booted_ns: u64,
    simulated: Option<Simulated>,
}

/// What a test can change while the agent runs.
#[derive(Debug)]
struct Simulated {
    wall_ms: AtomicI64,
    trusted: Mutex<Option<bool>>,
}

impl MachineClock {
    /// The clocks as they are, or as a test pretends them to be. How far the clocks are put forward
    /// is for [`clock::set_offset_ns`].
    #[must_use]
    pub fn new(simulation: Option<Simulation>) -> Self {
        let pretended = simulation.as_ref().and_then(|it| it.boot.clone());
        let (boot, at_s) = match pretended {
            Some(SimulatedBoot { id, at_s }) => (id, at_s),
            None => (boot_id(), 0),
        };
        Self {
            boot,
            booted_ns: at_s.saturating_mul(1_000_000_000),
            simulated: simulation.map(|it| Simulated {
                wall_ms: AtomicI64::new(it.wall_s.saturating_mul(1_000)),
                trusted: Mutex::new(it.trusted),
            }),
        }
    }

    /// Whether a test may put the clocks forward.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Sets the wall clock wrong by so many seconds more, and says whether it is known to be right;
    /// `None` leaves that as it is. Does nothing where nothing is simulated.
    pub fn pretend(&self, wall_s: i64, trusted: Option<bool>) {
        let Some(simulated) = &self.simulated else {
            return;
        };
        let more = wall_s.saturating_mul(1_000);
        simulated.wall_ms.fetch_add(more, Ordering::Relaxed);
        if trusted.is_some() {
            *simulated
                .trusted
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = trusted;
        }
    }

    /// What they say now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let since_1970 = clock::wall_now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut wall = Moment(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
        let mut trusted = None;
        if let Some(simulated) = &self.simulated {
            let wrong = simulated.wall_ms.load(Ordering::Relaxed);
            wall = Moment(wall.0.saturating_add_signed(wrong));
            trusted = *simulated
                .trusted
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
        }
        let up_ns = clock::boot_ns().saturating_sub(self.booted_ns);
        Reading {
            wall,
            boot: self.boot.clone(),
            up: Span(up_ns / 1_000_000),
            trusted: trusted.unwrap_or_else(is_synchronised),
        }
    }
}

/// Which boot this is.
fn boot_id() -> String {
    match fs::read_to_string(BOOT_ID) {
        Ok(id) => id.trim().to_owned(),
        Err(why) => {
            error!("cannot read {BOOT_ID}: {why}; every start counts as another boot");
            // Never the same twice.
            static STARTS: AtomicU64 = AtomicU64::new(0);
            let start = STARTS.fetch_add(1, Ordering::Relaxed);
            let since = clock::wall_now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            format!(
                "unknown-{}-{}-{start}",
                since.as_nanos(),
                std::process::id()
            )
        }
    }
}

/// Whether the kernel's wall clock is kept right by somebody (NTP, PTP): what `adjtimex` says.
fn is_synchronised() -> bool {
    // SAFETY: a structure of integers, for which zeros are valid; no mode is set: it only reads.
    let (state, status) = unsafe {
        let mut answer: libc::timex = mem::zeroed();
        (libc::adjtimex(&raw mut answer), answer.status)
    };
    state >= 0 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_go_on_within_a_boot() {
        let machine = MachineClock::new(None);
        assert!(!machine.is_simulated());
        machine.pretend(3_600, Some(true));
        let (first, second) = (machine.reading(), machine.reading());
        assert_eq!(first.boot, second.boot);
        assert_eq!(first.boot.len(), 36, "{first:?}");
        assert!(second.up >= first.up && second.up.0 - first.up.0 < 60_000);
        // 2020: the wall clock is the machine's, whatever a test would like.
        let now = UNIX_EPOCH.elapsed().unwrap().as_millis();
        assert!(u128::from(second.wall.0).abs_diff(now) < 60_000);
    }

    #[test]
    fn a_test_pretends() {
        let real = MachineClock::new(None).reading();
        let machine = MachineClock::new(Some(Simulation {
            offset_s: 0,
            boot: Some("boot-2@1".parse().unwrap()),
            wall_s: 7_200,
            trusted: Some(true),
        }));
        let reading = machine.reading();
        assert_eq!(reading.boot, "boot-2");
        assert!(reading.trusted);
        assert!(reading.wall.since(real.wall) >= Span::seconds(7_200));
        assert!(reading.up.0 < real.up.0 + 60_000 - 1_000);
        machine.pretend(-14_400, Some(false));
        let reading = machine.reading();
        assert!(!reading.trusted);
        assert!(real.wall.since(reading.wall) > Span::seconds(7_000));
    }

    #[test]
    fn boots_are_read() {
        let boot: SimulatedBoot = "b@5".parse().unwrap();
        assert_eq!((boot.id.as_str(), boot.at_s), ("b", 5));
        assert_eq!("b".parse::<SimulatedBoot>().unwrap().at_s, 0);
        for wrong in ["", "@5", "b@", "b@x"] {
            wrong.parse::<SimulatedBoot>().unwrap_err();
        }
    }
}
