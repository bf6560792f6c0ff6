//! Counts of long limits, kept for the next boot and taken up from the last one.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use limiter_common::settings::flags::RESTORED;
use log::{debug, error, info, warn};
use tokio::task::JoinHandle;

use super::{
    AgentError,
    state::{Shared, Trouble},
};
use crate::{
    kernel::{
        Kernel, KernelError, Mirror, clock,
        snapshot::{self, Inheritance, Snapshot, SnapshotError, Taking},
    },
    report::problem::Problem,
    system::clock::MachineClock,
};

/// How old the last counts may be when they are kept again. It is looked every two seconds, so that a
/// power failure loses no more than a minute.
const KEEP_AFTER: Duration = Duration::from_secs(57);

/// Lets the tenants that come into new maps begin with what was kept. Maps that had it before count
/// on by themselves. Gives what is wrong with what was kept, if anything.
///
/// # Errors
///
/// The settings in the kernel cannot be read.
pub fn inherit(
    state_dir: &Path,
    machine: &MachineClock,
    mirror: &mut Mirror,
    kernel: &Kernel,
) -> Result<Option<Problem>, AgentError> {
    if kernel.maps.settings.get(0)?.flags & RESTORED != 0 {
        return Ok(None);
    }
    match snapshot::load(state_dir) {
        Ok(None) => Ok(None),
        Ok(Some(kept)) => {
            let now = machine.reading();
            let taken = kept.taken.clone();
            let inheritance = Inheritance::new(kept, &now, clock::monotonic_ns());
            info!(
                "long limits of {} tenants go on with what was counted before, {} s ago at least",
                inheritance.len(),
                inheritance.elapsed().as_secs()
            );
            if taken.boot != now.boot && !(taken.trusted && now.trusted) {
                warn!(
                    "nobody vouches for the wall clock ({}): the time that the machine was down \
                     does not count, and capacity comes back that much later",
                    if now.trusted {
                        "when the counts were kept"
                    } else {
                        "it is not synchronised yet"
                    }
                );
            }
            mirror.inherit(inheritance);
            Ok(None)
        }
        Err(why) => Ok(Some(lost(state_dir, &why))),
    }
}

/// Says that what was kept is of no use.
fn lost(state_dir: &Path, why: &SnapshotError) -> Problem {
    let path = snapshot::path(state_dir);
    let at = match snapshot::set_aside(state_dir) {
        Ok(aside) => aside,
        Err(error) => {
            error!("cannot move {} aside: {error}", path.display());
            path
        }
    };
    Problem::error(
        format!(
            "what windows of more than an hour had counted before the reboot is lost, they begin \
             from zero: {} cannot be used: {why}",
            at.display()
        ),
        "everything is enforced; look at the disk, and watch who sends much today. The next start \
         of the agent forgets this",
    )
}

/// How many tenants are read while others wait for the agent's state: a few milliseconds.
const AT_ONCE: usize = 1_000;

/// Reads the counts, and leaves the state to others again and again.
fn take(shared: &Shared) -> Result<Snapshot, KernelError> {
    const BREATH: Duration = Duration::from_millis(1);
    let mut taking = Taking::default();
    loop {
        let state = shared.lock();
        let held = Instant::now();
        let maps = &state.kernel.maps;
        let more = state
            .mirror
            .snapshot_some(&mut taking, &maps.blocks, AT_ONCE)?;
        if !more {
            return Ok(taking.finish(state.clock.reading()));
        }
        drop(state);
        // A lock that is taken again at once is never got by whoever waits for it.
        thread::sleep(held.elapsed().max(BREATH));
    }
}

/// Keeps the counts now.
pub fn keep(shared: &Shared) {
    let started = Instant::now();
    let taken = take(shared);
    let state_dir = shared.lock().state_dir();
    let read = started.elapsed();
    let kept = match &taken {
        Ok(taken) => snapshot::keep(&state_dir, taken).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match kept {
        Ok(bytes) => {
            let tenants = taken.map_or(0, |taken| taken.tenants.len());
            debug!(
                "counts of {tenants} tenants kept: {bytes} bytes, read in {read:?}, all in {:?}",
                started.elapsed()
            );
            shared.lock().mended(Trouble::Counts);
        }
        Err(why) => shared.lock().trouble(
            Trouble::Counts,
            Problem::error(
                format!(
                    "cannot keep what long windows have counted in {}: {why}; a reboot would go \
                     back to what was kept last",
                    snapshot::path(&state_dir).display()
                ),
                "make room or repair the directory; it is tried again every minute",
            ),
        ),
    }
}

/// Keeps the counts time and again, one at a time, without holding anybody up.
#[derive(Default)]
pub struct Keeper {
    /// When it began last, by the programs' clock, ns.
    began_ns: Option<u64>,
    last: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Keeps the counts if it is time, and the last time is over.
    pub fn keep_if_due(&mut self, shared: &Shared) {
        let now_ns = clock::monotonic_ns();
        let due = self.began_ns.is_none_or(|began_ns| {
            Duration::from_nanos(now_ns.saturating_sub(began_ns)) >= KEEP_AFTER
        });
        if due && self.last.as_ref().is_none_or(JoinHandle::is_finished) {
            self.began_ns = Some(now_ns);
            self.keep(shared);
        }
    }

    fn keep(&mut self, shared: &Shared) {
        let shared = shared.clone();
        self.last = Some(tokio::task::spawn_blocking(move || keep(&shared)));
    }

    /// Keeps the counts for the last time.
    pub async fn finish(mut self, shared: &Shared) {
        self.wait().await;
        self.keep(shared);
        self.wait().await;
    }

    async fn wait(&mut self) {
        if let Some(last) = self.last.take()
            && let Err(why) = last.await
        {
            error!("keeping counts failed: {why}");
        }
    }
}
