//! The copy of what is in force, for the day on which the record book is lost: one small file beside
//! it. A reboot takes the kernel's sanctions away; without book and copy, everybody who was
//! suspended would be free.
//!
//! It is written after the transaction and after the kernel agrees, so that it never says more than
//! the book did, and only read where the book cannot say it: where there is none, where it is
//! damaged, or where it is older than the copy. Ends are moments of the engine's time, and the
//! engine's clock stands with them, so that downtime and wrong clocks count as they do everywhere.

mod given;
mod keeper;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    offence::{Clock, Moment, Reading, Sanction, Span},
    system::sealed::Sealed,
};

pub use keeper::Spare;

/// The file. The version of its form is raised whenever [`InForce`] changes.
pub const FILE: Sealed = Sealed {
    name: "sanctions.copy",
    magic: "limiter-sanctions 1",
};

/// Why a sanction stands there that an operator put there while there was no record book.
pub const WITHOUT_BOOK: &str = "an operator's word while there was no record book";

/// What is in force at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The engine's clock when it was written.
    pub clock: Clock,
    /// Tenants' own sanctions, by tenant.
    pub sanctions: Vec<Kept>,
}

/// A tenant's own sanction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub sanction: Sanction,
    /// Until when, in the engine's time; `None`: until it is lifted.
    pub until: Option<Moment>,
    /// The same by the wall clock as it was then: for people who read the file.
    pub ends: Option<Timestamp>,
    /// The cases that it follows from: `POLICY/NUMBER`.
    pub cases: Vec<String>,
    /// Why.
    pub reason: String,
}

impl Kept {
    /// How long it goes on at `now`, in the engine's time; `None`: it is over.
    #[must_use]
    pub fn left(&self, now: Moment) -> Option<Option<Span>> {
        match self.until.map(|until| until.since(now)) {
            Some(Span(0)) => None,
            left => Some(left),
        }
    }

    /// Whether it says the same; how the wall clock stands to the engine's time is left aside.
    fn is_same(&self, other: &Self) -> bool {
        let said = |it: &Self| Self {
            ends: None,
            ..it.clone()
        };
        said(self) == said(other)
    }
}

impl InForce {
    /// The sanctions that are not over by `reading`, and the engine's time then.
    #[must_use]
    pub fn at(&self, reading: &Reading) -> (Moment, Vec<(Kept, Option<Span>)>) {
        let now = self.clock.clone().look(reading, false);
        let sanctions = self.sanctions.iter();
        let left = sanctions.filter_map(|kept| Some((kept.clone(), kept.left(now)?)));
        (now, left.collect())
    }
}
