//! What became of the commands that change something.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{faults::FaultReport, status::SanctionStatus};
use crate::offence::Sanction;

/// What became of `reload`: all or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadOutcome {
    /// Whether the new policy is in force. If not, the one before still is.
    pub loaded: bool,
    /// What was found, warnings included.
    pub faults: Vec<FaultReport>,
    /// What changed, for people: `2 tenants added, 1 changed, 0 removed`.
    pub summary: String,
}

/// What became of `observe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserveOutcome {
    /// The tenant; null for the whole node.
    pub tenant: Option<String>,
    /// Until when nothing is refused; null: nothing is suspended any more.
    pub until: Option<Timestamp>,
}

/// What became of `suspend`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanctionOutcome {
    /// The tenant.
    pub tenant: String,
    /// What it is under now.
    pub sanction: Sanction,
    /// When it ends by itself; null: without end.
    pub until: Option<Timestamp>,
    /// Whether the same sanction was in force before, perhaps with another end.
    pub replaced: bool,
    /// For how many tenants it holds: this one, and those below it.
    pub tenants: usize,
    /// Until when it is not carried out, because the node or the tenant is opened (`observe`);
    /// null: it holds now.
    pub opened_until: Option<Timestamp>,
    /// What was cut; null where live sessions are left to the layers that see their packets.
    pub cut: Option<CutOutcome>,
    /// It is in force, and why it is not in the record book yet; null: it is.
    #[serde(default)]
    pub unrecorded: Option<String>,
}

/// What became of the live sessions of whoever was sanctioned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOutcome {
    /// How many sessions were ended.
    pub sessions: u64,
    /// How many are still there: what they send is dropped.
    pub left: u64,
    /// What went wrong, for people.
    pub failures: Vec<String>,
}

/// What became of `reinstate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReinstateOutcome {
    /// The tenant.
    pub tenant: String,
    /// Its own sanctions that are taken back, by the names under which they were put there.
    pub lifted: Vec<Sanction>,
    /// What is in force for it still: other sanctions of its own, and its ancestors'.
    pub remaining: Vec<SanctionStatus>,
    /// What waited for an operator, and was not carried out.
    #[serde(default)]
    pub dropped: Vec<super::case::Dropped>,
    /// Cases that were closed by it.
    #[serde(default)]
    pub closed: Vec<String>,
    /// What else to do, where it did not do all that was asked for.
    #[serde(default)]
    pub hints: Vec<String>,
    /// What comes next.
    #[serde(default)]
    pub next: Vec<super::case::NextStep>,
    /// It is so, and why it is not in the record book yet; null: it is.
    #[serde(default)]
    pub unrecorded: Option<String>,
}
