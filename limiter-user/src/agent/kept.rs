//! Keeping the policy in force as the last good one, while other work goes on: of a large node it is
//! tens of megabytes.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    policy::{last_good, model::Policy},
    report::problem::Problem,
};

/// Keeps policies, one after the other.
#[derive(Debug, Default)]
pub struct LastGood {
    /// The number of the policy that came last.
    last: Arc<AtomicU64>,
    /// Held while one is written.
    writing: Arc<Mutex<()>>,
}

/// A policy that is being kept.
#[derive(Debug)]
#[must_use = "whoever has it kept says so only when it is"]
pub struct Keeping {
    state_dir: PathBuf,
    work: io::Result<thread::JoinHandle<io::Result<()>>>,
}

impl LastGood {
    /// Begins to keep a policy, and lets go of what it took the place of: both take their time.
    pub fn begin(&self, policy: &Arc<Policy>, before: impl Send + 'static) -> Keeping {
        let state_dir = policy.places.state_dir.clone();
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (last, writing) = (Arc::clone(&self.last), Arc::clone(&self.writing));
        let policy = Arc::clone(policy);
        let work = thread::Builder::new()
            .name("last-good".to_owned())
            .spawn(move || {
                drop(before);
                let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
                // A later one says what this one would, and more.
                if last.load(Ordering::Relaxed) == number {
                    last_good::keep(&policy)?;
                }
                Ok(())
            });
        Keeping { state_dir, work }
    }
}

impl Keeping {
    /// Waits until it is kept.
    ///
    /// # Errors
    ///
    /// What is wrong, if it is not.
    pub fn finish(self) -> Result<(), Problem> {
        let panicked = |_| Err(io::Error::other("the thread that keeps it panicked"));
        let kept = self
            .work
            .and_then(|work| work.join().unwrap_or_else(panicked));
        kept.map_err(|error| {
            Problem::error(
                format!(
                    "cannot keep the policy in {}: {error}; after a reboot with bad files there is \
                     nothing to go by",
                    last_good::path(&self.state_dir).display()
                ),
                "make room or repair the directory, then `limiter reload`",
            )
        })
    }
}
