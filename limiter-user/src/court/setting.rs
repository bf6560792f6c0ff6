//! What a court needs, and what it shows of itself.

use std::{collections::BTreeMap, time::Duration};

use thiserror::Error;

use super::{bailiff::Bailiff, hearing::Submission};
use crate::{
    ledger::{Ledger, LedgerError},
    notice::Planned,
    offence::{Book, Evidence, Moment, Notice, Reading, Record},
};

/// The clocks of the machine.
pub trait Clocks: Send + Sync {
    /// What they show now.
    fn read(&self) -> Reading;
}

/// Something that people are to be told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    /// Its number in the record book.
    pub number: i64,
    /// What.
    pub notice: &'t Notice,
    /// When, in the engine's time.
    pub at: Moment,
    /// The same moment on the wall clock.
    pub wall: Moment,
    /// The case's evidence, if it is about one.
    pub evidence: Option<&'t Evidence>,
}

/// Says who is told by which ways.
pub trait Herald: Send {
    /// The deliveries of all that came of one thing that was heard.
    fn plan(&self, told: &[Told<'_>], book: &Book) -> Vec<(i64, Planned)>;
}

/// Why something was not heard.
#[derive(Debug, Error)]
pub enum CourtError {
    /// It could not be recorded, and so did not happen.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The record book and what is in memory have come apart.
    #[error("the record book failed while it was written to, and cannot be read since: {0}")]
    Lost(String),
    /// The disk does not answer. What was to be recorded may be in time.
    #[error("the disk with the record book did not answer for {} seconds", .0.as_secs())]
    Hanging(Duration),
}

impl CourtError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Ledger(error) => error.remedy(),
            Self::Lost(_) => {
                "repair state_dir: it is tried again by itself; what is in force stays"
            }
            Self::Hanging(_) => {
                "look at the disk of state_dir (`dmesg`); what was said may be recorded when it \
                 answers again: look before you say it once more"
            }
        }
    }
}

/// All records at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Study<'s> {
    /// By the names of the tenants.
    pub records: &'s BTreeMap<String, Record>,
    /// The policies.
    pub book: &'s Book,
    /// The moment, in the engine's time.
    pub now: Moment,
    /// What the wall clock shows then.
    pub wall: Moment,
}

/// What the clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The engine's time.
    pub engine: Moment,
    /// The wall clock.
    pub wall: Moment,
}

impl Now {
    /// The engine's time when the wall clock showed `wall`; nothing happens in the future.
    #[must_use]
    pub const fn engine(&self, wall: Moment) -> Moment {
        self.engine.minus(self.wall.since(wall))
    }

    /// What the wall clock shows at a moment of the engine's.
    #[must_use]
    pub const fn wall(&self, engine: Moment) -> Moment {
        if engine.0 >= self.engine.0 {
            self.wall.plus(engine.since(self.engine))
        } else {
            self.wall.minus(self.engine.since(engine))
        }
    }
}

/// What a court needs.
pub struct Setting {
    /// The record book.
    pub ledger: Ledger,
    /// The policies.
    pub book: Book,
    /// The clocks.
    pub clocks: Box<dyn Clocks>,
    /// Who carries out.
    pub bailiff: Box<dyn Bailiff>,
    /// Who knows whom to tell how.
    pub herald: Box<dyn Herald>,
    /// What operators said while there was no court; it holds in the kernel already.
    pub later: Vec<Submission>,
}
