//! Whose clock the programs go by: the machine's, or one that a test puts forward.

use std::time::Duration;

use log::{error, warn};

use super::{AgentError, state::State};
use crate::{
    kernel::{Kernel, clock},
    system::clock::{MachineClock, Simulation},
};

/// How far the clocks can be put forward in all.
const MOST: Duration = Duration::from_secs(50 * 365 * 86_400);

/// Decides by which clock this agent goes, before it writes anything into the kernel. A clock that a
/// test put forward is the machine's again in an agent that is not told to simulate one.
///
/// # Errors
///
/// The settings in the kernel cannot be read.
pub fn choose(simulation: Option<Simulation>, kernel: &Kernel) -> Result<MachineClock, AgentError> {
    let pinned_ns = kernel.maps.settings.get(0)?.clock_offset_ns;
    if let Some(simulation) = &simulation {
        // It never goes back while the pins live.
        let wanted_ns = Duration::from_secs(simulation.offset_s).min(MOST);
        let wanted_ns = u64::try_from(wanted_ns.as_nanos()).unwrap_or(u64::MAX);
        clock::set_offset_ns(wanted_ns.max(pinned_ns));
        warn!(
            "THE CLOCK IS SIMULATED ({} s ahead): for tests only. Whoever may use the control \
             socket can end every limit's window and every sanction",
            clock::offset_ns() / 1_000_000_000
        );
    } else {
        clock::set_offset_ns(0);
        if pinned_ns != 0 {
            error!(
                "an agent with a simulated clock left the programs' clock {} s ahead: it is the \
                 machine's again now. What was counted and sanctioned by the other clock holds \
                 that much longer; `limiter detach` before the start lets all of it go",
                pinned_ns / 1_000_000_000
            );
        }
    }
    Ok(MachineClock::new(simulation))
}

impl State {
    /// Puts the clocks forward. What ends by that has ended when this returns.
    ///
    /// # Errors
    ///
    /// The clocks would be too far ahead (`Ok(false)`), or the kernel refuses.
    pub fn advance_clock(&mut self, by: Duration) -> Result<bool, AgentError> {
        let before_ns = clock::offset_ns();
        let ahead = Duration::from_nanos(before_ns).saturating_add(by);
        if ahead > MOST {
            return Ok(false);
        }
        clock::set_offset_ns(u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX));
        if let Err(error) = self.mirror.write_clock(&mut self.kernel) {
            clock::set_offset_ns(before_ns);
            return Err(error.into());
        }
        warn!("the simulated clock is put forward by {} s", by.as_secs());
        self.tidy_sanctions();
        Ok(true)
    }
}
