//! What the record book says, for people: from the court's memory, or from the book itself, agent or
//! no agent.

mod cases;
mod dossier;
mod holds;
mod shelf;
mod status;
pub mod stranded;
mod words;

use jiff::Timestamp;

use crate::{
    court::Study,
    offence::{Moment, Record, Span},
};

pub use cases::{CaseName, name_of};
pub use dossier::About;
pub use holds::{holds, next_steps};
pub use shelf::Shelf;
pub use status::{add_to_explanation, add_to_status};

/// Tells moments of the engine by the wall clock as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Now, in the engine's time.
    pub now: Moment,
    /// What the wall clock shows.
    pub wall: Moment,
}

impl Times {
    /// The wall clock at `moment`. How far the two clocks are apart is told to the second, so that a
    /// moment reads the same each time although both are read one after the other, and drift.
    #[must_use]
    pub fn at(self, moment: Moment) -> Timestamp {
        let whole = |apart: Span| Span::seconds(apart.0.saturating_add(500) / 1_000);
        let ahead = whole(self.wall.since(self.now));
        let behind = whole(self.now.since(self.wall));
        moment.plus(ahead).minus(behind).timestamp()
    }
}

impl From<&Study<'_>> for Times {
    fn from(study: &Study<'_>) -> Self {
        Self {
            now: study.now,
            wall: study.wall,
        }
    }
}

/// Whether there is anything to tell of a record.
fn is_worth_telling(record: &Record) -> bool {
    !record.effective.is_empty() || record.ladders.values().any(|kept| kept.cases > 0)
}

#[cfg(test)]
mod tests;
