//! Who sits at the bench, since when, and how long somebody waits for it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    bench::Bench,
    door::Court,
    hearing::{Submission, Verdict},
    setting::CourtError,
};
use crate::{ledger::Ledger, report::problem::Problem, system::patience};

/// How long whoever says something waits until it is recorded. A database that another program holds
/// gives up sooner.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long whoever looks waits for what only the bench knows.
const GLANCE: Duration = Duration::from_secs(3);
/// How long words may take until they are kept.
const KEEPING: Duration = Duration::from_secs(2);
/// After how long the disk is said to hang.
const HANGS: Duration = Duration::from_secs(5);
/// How often it is looked whether the bench is free.
const LOOKS: Duration = Duration::from_millis(5);
/// A word counts for what began before it, from the next moment on.
const NEXT_MOMENT: Duration = Duration::from_millis(2);

/// The bench, as long as it is held. What is wrong there is shown when it is let go.
pub(super) struct Sitting<'c> {
    bench: MutexGuard<'c, Bench>,
    court: &'c Court,
}

impl<'c> Sitting<'c> {
    pub(super) fn new(bench: MutexGuard<'c, Bench>, court: &'c Court) -> Self {
        *since(court) = Some(Instant::now());
        Self { bench, court }
    }
}

impl Deref for Sitting<'_> {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl DerefMut for Sitting<'_> {
    fn deref_mut(&mut self) -> &mut Bench {
        &mut self.bench
    }
}

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        self.court.shown.set_problems(self.bench.problems());
        *since(self.court) = None;
    }
}

fn since(court: &Court) -> MutexGuard<'_, Option<Instant>> {
    court.since.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Court {
    /// Hears what a person says, and what follows from it at once; not longer than a few seconds.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then it was not said. [`CourtError::Hanging`]: nobody knows yet; what
    /// has a key may be brought again.
    pub fn hear_soon(self: &Arc<Self>, said: Submission) -> Result<Vec<Verdict>, CourtError> {
        if self.is_busy_for(PATIENCE) {
            return Err(CourtError::Hanging(PATIENCE));
        }
        let court = Arc::clone(self);
        let heard = patience::within(PATIENCE, move || {
            let Some(mut bench) = court.bench_within(PATIENCE) else {
                return Err(CourtError::Hanging(PATIENCE));
            };
            // What was said before comes before.
            bench.hear_later()?;
            let verdicts = bench.hear(vec![said], &[])?;
            drop(bench);
            thread::sleep(NEXT_MOMENT);
            court.tick();
            Ok(verdicts)
        });
        heard.unwrap_or(Err(CourtError::Hanging(PATIENCE)))
    }

    /// Hears what an operator said while it could not be recorded, as soon as it can; it holds
    /// already. It is kept beside the record book when this returns, if that takes no more than
    /// seconds: whether it is, is given.
    pub fn owe(self: &Arc<Self>, submission: Submission) -> bool {
        self.say_later(submission);
        let court = Arc::clone(self);
        let kept = patience::within(KEEPING, move || {
            court.keep_words();
            if let Some(mut bench) = court.free_bench() {
                bench.spare_what_holds();
            }
        });
        kept.is_some() && self.later.is_kept()
    }

    /// Notes down what an operator said and the record book does not have. It is not kept yet.
    pub fn say_later(&self, submission: Submission) {
        let (now, reading) = self.shown.now();
        self.later.say(submission, now, reading.wall);
    }

    fn keep_words(&self) {
        let mut slate = self.slate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = self.later.keep(|words| slate.keep(words)) {
            log::warn!("what operators said cannot be kept: {why}");
        }
    }

    /// Turns to the record book itself, if nobody keeps it for long.
    pub fn ledger_soon<T>(&self, turn: impl FnOnce(&Ledger) -> T) -> Option<T> {
        let bench = self.bench_within(GLANCE)?;
        Some(turn(&bench.ledger))
    }

    /// Whether the disk does not answer.
    #[must_use]
    pub fn is_hanging(&self) -> bool {
        self.is_busy_for(HANGS)
    }

    /// What is to be told of a disk that does not answer.
    pub(super) fn hanging(&self) -> Option<Problem> {
        let busy = since(self).map(|since| since.elapsed())?;
        (busy >= HANGS).then(|| {
            Problem::error(
                format!(
                    "the disk with the record book does not answer for {} seconds: offences are not \
                     recorded; what operators say holds, and is not recorded",
                    busy.as_secs()
                ),
                "look at the disk of state_dir (`dmesg`); all that waits is recorded by itself when it \
                 answers again",
            )
        })
    }

    fn is_busy_for(&self, long: Duration) -> bool {
        since(self).is_some_and(|since| since.elapsed() >= long)
    }

    fn bench_within(&self, patience: Duration) -> Option<Sitting<'_>> {
        let until = Instant::now() + patience;
        loop {
            if let Some(bench) = self.free_bench() {
                return Some(bench);
            }
            if Instant::now() >= until || self.is_busy_for(patience) {
                return None;
            }
            thread::sleep(LOOKS);
        }
    }
}
