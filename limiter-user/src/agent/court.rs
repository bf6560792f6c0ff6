//! Opens the court of this node.

use std::{sync::Arc, thread, time::Instant};

use log::{debug, warn};

use super::{
    bailiff::{KernelBailiff, Report},
    feed::Feed,
    live::Cutter,
    sent::Sent,
    state::{Shared, Trouble},
};
use crate::{
    court::{Clocks, Court, CourtError, Herald, Setting, Submission},
    ledger::{Ledger, LedgerError},
    offence::Reading,
    policy,
    report::problem::Problem,
    system::clock::MachineClock,
};

/// The court of this node, and what belongs to it.
pub struct Opened {
    /// It.
    pub court: Arc<Court>,
    /// What the kernel refused, from where the record book ends.
    pub feed: Feed,
    /// How much mail went out, from there on.
    pub sent: Sent,
    /// What was carried out last.
    pub carried: Report,
}

/// The machine's clocks, as the court reads them.
struct Clock(Arc<MachineClock>);

impl Clocks for Clock {
    fn read(&self) -> Reading {
        self.0.reading()
    }
}

/// Opens the court: all sanctions of the record book are in force when this returns. Without it
/// everything else is enforced all the same, and an operator's word goes straight to the kernel;
/// `later` is what was said so before this.
///
/// # Errors
///
/// There is no record book to be had.
pub fn open(
    shared: &Shared,
    clock: &Arc<MachineClock>,
    cutter: &Arc<dyn Cutter>,
    herald: Box<dyn Herald>,
    later: Vec<Submission>,
) -> Result<Opened, CourtError> {
    let (state_dir, book, epoch) = {
        let state = shared.lock();
        (
            state.policy.places.state_dir.clone(),
            policy::book::book(&state.policy, &state.image),
            state.counters_epoch(&clock.reading().boot),
        )
    };
    let ledger = Ledger::open(&state_dir)?;
    let feed = Feed::new(epoch.clone(), ledger.positions(Feed::what())?);
    let sent = Sent::new(epoch, ledger.positions(Sent::what())?);
    let carried = Report::default();
    let bailiff = KernelBailiff::new(shared.clone(), Arc::clone(cutter), Arc::clone(&carried));
    let court = Court::open(Setting {
        ledger,
        book,
        clocks: Box::new(Clock(Arc::clone(clock))),
        bailiff: Box::new(bailiff),
        herald,
        later,
    })?;
    Ok(Opened {
        court: Arc::new(court),
        feed,
        sent,
        carried,
    })
}

/// Looks for damage in the whole record book, while it is in use already: at a boot nobody waits until
/// all of it was read. A thread of its own, which is left alone when the agent stops.
pub fn check_ledger(shared: &Shared) {
    let thread = thread::Builder::new().name("ledger-check".to_owned());
    let checked = thread.spawn({
        let shared = shared.clone();
        move || {
            let state_dir = shared.lock().state_dir();
            let started = Instant::now();
            let checked = match Ledger::read_only(&state_dir) {
                Ok(Some(ledger)) => ledger.check(),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            match checked {
                Ok(()) => debug!("the record book is whole: read in {:?}", started.elapsed()),
                Err(error) => shared
                    .lock()
                    .trouble(Trouble::LedgerDamaged, damaged(&error)),
            }
        }
    });
    if let Err(error) = checked {
        warn!("nobody looks for damage in the record book: {error}");
    }
}

fn damaged(error: &LedgerError) -> Problem {
    Problem::error(
        format!(
            "the record book is damaged, though what is in force can be read: {error}; what is \
             written there may be lost"
        ),
        "look at the disk; stop the agent, put the last backup of ledger.db back (or move the file \
         aside) and start it: what is in force stays, and is taken over",
    )
}
