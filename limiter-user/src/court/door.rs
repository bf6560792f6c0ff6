//! The court as everybody else knows it: whoever says or asks something comes in here.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use super::{
    bench::{Bench, Read},
    hearing::{Submission, Verdict},
    later::Later,
    setting::{CourtError, Now, Setting, Study},
    shown::Shown,
    sitting::Sitting,
    slate::Slate,
};
use crate::{
    ledger::{Due, Ledger, LedgerError, LogMark, Page, Position},
    notice::Lane,
    offence::{Book, Moment, Notice, Record, Span},
    report::problem::Problem,
};

/// The court. Calls that write may block: on the disk, and on the kernel. Those that only look do not.
pub struct Court {
    bench: Mutex<Bench>,
    /// Since when somebody sits there.
    pub(super) since: Mutex<Option<Instant>>,
    pub(super) shown: Arc<Shown>,
    pub(super) later: Arc<Later>,
    pub(super) slate: Arc<Mutex<Slate>>,
}

impl Court {
    /// Opens the court: the kernel agrees with the record book when this returns, as far as there
    /// are tenants. What the kernel enforces and no record knows of, is taken over as an operator's
    /// word; so is what the copy says was in force, where the book is new or older than the copy.
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub fn open(setting: Setting) -> Result<Self, CourtError> {
        let bench = Bench::open(setting)?;
        let court = Self {
            since: Mutex::default(),
            shown: Arc::clone(&bench.shown),
            later: Arc::clone(&bench.later),
            slate: Arc::clone(&bench.slate),
            bench: Mutex::new(bench),
        };
        drop(court.bench());
        Ok(court)
    }

    /// Hears all of it, or nothing: when this returns, it is on the disk and in force in the kernel.
    /// `positions` are written with it.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then nothing of it happened.
    pub fn hear(
        &self,
        submissions: Vec<Submission>,
        positions: &[Position],
    ) -> Result<Vec<Verdict>, CourtError> {
        self.bench().hear(submissions, positions)
    }

    /// As [`Court::hear`], and writes down what was read of the mail server's logs for it.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then nothing of it happened.
    pub fn hear_of_logs(
        &self,
        submissions: Vec<Submission>,
        logs: &[LogMark],
    ) -> Result<Vec<Verdict>, CourtError> {
        let read = Read {
            positions: &[],
            logs,
        };
        self.bench().hear_read(submissions, read)
    }

    /// Lets happen what is due, and tries again what failed. Gives when to call it next, at the
    /// latest.
    pub fn tick(&self) -> Duration {
        self.bench().tick()
    }

    /// Goes by other policies from now on; tenants that are there again get what they are owed.
    pub fn set_book(&self, book: Book) {
        self.bench().set_book(book);
    }

    /// Makes the kernel agree with all records: after tenants came or went.
    pub fn reconcile(&self) {
        self.bench().reconcile();
    }

    /// The record of a tenant, with the moment at which it was looked at and what the wall clock
    /// showed then.
    #[must_use]
    pub fn record(&self, tenant: &str) -> (Record, Moment, Moment) {
        self.shown.record(tenant)
    }

    /// Looks at all records, as they are now.
    pub fn study<T>(&self, look: impl FnOnce(&Study<'_>) -> T) -> T {
        self.shown.study(look)
    }

    /// What all clocks show now.
    #[must_use]
    pub fn clock(&self) -> Now {
        let (engine, reading) = self.shown.now();
        Now {
            engine,
            wall: reading.wall,
        }
    }

    /// Tells people what the engine does not know of. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// It could not be recorded.
    pub fn tell(&self, notice: Notice) -> Result<(), CourtError> {
        self.bench().tell(notice)
    }

    /// Turns to the record book itself: for what is no record of a tenant, and changes by one
    /// statement.
    pub fn ledger<T>(&self, turn: impl FnOnce(&Ledger) -> T) -> T {
        turn(&self.bench().ledger)
    }

    /// Writes into the record book what the engine does not hear of.
    ///
    /// # Errors
    ///
    /// It could not be recorded.
    pub fn write(
        &self,
        write: impl FnOnce(&Page<'_>) -> Result<(), LedgerError>,
    ) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let written = bench.ledger.begin().and_then(|page| {
            write(&page)?;
            page.commit()
        });
        bench.noted(written)
    }

    /// Forgets what is older than `before` and closed.
    ///
    /// # Errors
    ///
    /// The record book fails; then nothing is forgotten.
    pub fn forget_before(&self, before: Moment) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let forgotten = bench.ledger.forget_before(before);
        bench.noted(forgotten)
    }

    /// Forgets what only counted before `before`, and no case may rest on: none is opened for what is
    /// older than `window`.
    ///
    /// # Errors
    ///
    /// The record book fails; then nothing is forgotten.
    pub fn forget_counts_before(&self, before: Moment, window: Span) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let forgotten = bench.ledger.forget_counts_before(before, window);
        bench.noted(forgotten)
    }

    /// Where the record book is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.shown.state_dir
    }

    /// The policies that are gone by.
    #[must_use]
    pub fn book(&self) -> Book {
        Book::clone(&self.shown.book())
    }

    /// What is to be told and may be: nobody hears of what is not in force yet.
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub fn due(
        &self,
        lane: Lane,
        wall: Moment,
        furthest: Span,
        most: usize,
    ) -> Result<Vec<Due>, CourtError> {
        let bench = self.bench();
        Ok(bench.ledger.due(lane, wall, furthest, &bench.owed, most)?)
    }

    /// What is wrong, for `status`.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.shown.problems();
        problems.extend(self.hanging());
        problems.extend(self.later.problem());
        let book = self.shown.book();
        let missing = book.missing();
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            problems.push(Problem::error(
                format!(
                    "policies that are named and not there: {}",
                    missing.join(", ")
                ),
                "`limiter check` says where they are named",
            ));
        }
        problems
    }

    pub(super) fn bench(&self) -> Sitting<'_> {
        let bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        Sitting::new(bench, self)
    }

    /// The bench, if it is free now.
    pub(super) fn free_bench(&self) -> Option<Sitting<'_>> {
        match self.bench.try_lock() {
            Ok(bench) => Some(Sitting::new(bench, self)),
            Err(TryLockError::Poisoned(bench)) => Some(Sitting::new(bench.into_inner(), self)),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
