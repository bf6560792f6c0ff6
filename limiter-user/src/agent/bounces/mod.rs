//! Mail that comes back: the mail server's logs are followed, and what they tell of tenants' bounces is
//! brought before the court about once a minute, in one transaction with up to where they were read. Killed
//! at any moment, the next agent reads again what was not written down, and nothing counts twice.
//!
//! How much was sent is heard first: shares of it are asked for with every bounce, and only then.

mod reader;
mod source;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use log::{error, info, warn};

use self::{reader::Reader, source::Source};
use super::{
    clerk::Errands,
    state::{Shared, Trouble},
};
use crate::{
    court::Court,
    policy::{bounces::Bounces as Config, model::Policy},
    report::{problem::Problem, status::BounceStatus},
};

/// What was read so far, for `status`.
pub type BounceTeller = Arc<Mutex<Option<BounceStatus>>>;

/// Looks after the logs that the configuration names.
pub struct Bounces {
    court: Arc<Court>,
    errands: Option<Errands>,
    shared: Shared,
    told: BounceTeller,
    running: Option<Running>,
}

struct Running {
    what: Config,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Bounces {
    /// Nothing is read yet.
    pub fn new(court: Arc<Court>, errands: Option<Errands>, shared: Shared) -> Self {
        Self {
            court,
            errands,
            shared,
            told: BounceTeller::default(),
            running: None,
        }
    }

    /// What was read so far.
    pub fn teller(&self) -> BounceTeller {
        Arc::clone(&self.told)
    }

    /// Reads what `policy` names from now on. May block for as long as a transaction takes.
    pub fn follow(&mut self, policy: &Policy) {
        let what = &policy.node.bounces;
        if self.running.as_ref().map(|running| &running.what) == Some(what) {
            return;
        }
        self.stop();
        let names: Vec<String> = source::names(what);
        let forgotten = self.court.write(|page| page.forget_other_logs(&names));
        if let Err(error) = forgotten {
            warn!("logs that are not read any more are remembered: {error}");
        }
        if what.is_off() {
            return;
        }
        if let Err(error) = self.start(what.clone()) {
            let problem = Problem::error(
                format!("bounces are not counted: {error}"),
                "restart the agent; nothing that the logs hold is lost",
            );
            self.shared.lock().trouble(Trouble::Bounces, problem);
        }
    }

    fn start(&mut self, what: Config) -> Result<(), Box<dyn std::error::Error>> {
        let sources = source::names(&what)
            .into_iter()
            .map(|name| {
                let row = self.court.ledger(|ledger| ledger.log(&name))?;
                Ok(Source::new(name, row))
            })
            .collect::<Result<Vec<Source>, crate::ledger::LedgerError>>()?;
        let names: Vec<&str> = sources.iter().map(Source::name).collect();
        info!("bounces are read from {}", names.join(", "));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader::new(
            Arc::clone(&self.court),
            self.errands.clone(),
            self.shared.clone(),
            Arc::clone(&self.told),
            sources,
        );
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("bounces".to_owned())
            .spawn(move || reader.work(&stopped))?;
        self.running = Some(Running { what, stop, thread });
        Ok(())
    }

    /// Reads nothing any more. What was read is heard.
    pub fn stop(&mut self) {
        let Some(Running { stop, thread, .. }) = self.running.take() else {
            return;
        };
        stop.store(true, Ordering::Relaxed);
        if thread.join().is_err() {
            error!("whoever reads bounces fell over");
        }
        self.shared.lock().mended(Trouble::Bounces);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The uids that the mail server runs as.
fn mail_users(shared: &Shared) -> BTreeSet<u32> {
    use crate::policy::image::Holder;
    let state = shared.lock();
    let of_mta = state.image.uids.iter();
    let of_mta = of_mta.filter(|binding| binding.holder == Holder::Mta);
    of_mta
        .flat_map(|binding| binding.range.first..=binding.range.last)
        .take(1_000)
        .collect()
}
