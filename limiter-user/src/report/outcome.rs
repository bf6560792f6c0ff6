//! What became of the commands that change something.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::faults::FaultReport;

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
