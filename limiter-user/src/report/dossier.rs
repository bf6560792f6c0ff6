//! The evidence report of a tenant: who, what was decided when, on what evidence, by whom. For a
//! delisting request, or for whoever has a right to ask.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    case::{CaseDetails, Charged, ComplaintClock, Heard, HoldStatus, Note, Told},
    duration::Seconds,
    status::TenantStatus,
};
use crate::offence::{Sanction, Standing};

/// The evidence report of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// The node's name.
    pub node: String,
    /// About whom.
    pub tenant: String,
    /// Whose customer it is.
    pub parent: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// Whether it is a tenant of this node now.
    pub known: bool,
    /// The policies that bind it.
    pub policies: Vec<String>,
    /// When this was made.
    pub made: Timestamp,
    /// By whom.
    pub made_by: Option<String>,
    /// From when on it tells.
    pub since: Timestamp,
    /// How far back that is.
    pub span: Seconds,
    /// How it stands by its own record.
    pub standing: Standing,
    /// What is in force or proposed.
    pub holds: Vec<HoldStatus>,
    /// What the kernel counted since the tenant was created; null where it cannot be asked.
    pub counters: Option<Counters>,
    /// The cases that were open at any time since then. What was heard, told and charged stands
    /// beside them, below.
    pub cases: Vec<CaseDetails>,
    /// What was heard, oldest first.
    pub heard: Vec<Heard>,
    /// Whether the oldest of what was heard was left off, because there was too much.
    pub heard_left_off: bool,
    /// What it suffered.
    pub sanctions: Vec<Suffered>,
    /// Reports of abuse about it.
    pub complaints: Vec<Complained>,
    /// What is to be done about them.
    pub clocks: Vec<ComplaintClock>,
    /// What people were told.
    pub notices: Vec<Told>,
    /// What people noted.
    pub notes: Vec<Note>,
    /// What was charged.
    pub charges: Vec<Charged>,
}

/// What the kernel counted of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts that went out.
    pub allowed: u64,
    /// Attempts that were refused.
    pub denied: u64,
    /// Attempts that were sent to the local MTA.
    pub redirected: u64,
    /// Attempts that went out and would have been refused under `mode: enforce`.
    pub would_deny: u64,
}

impl From<&TenantStatus> for Counters {
    fn from(tenant: &TenantStatus) -> Self {
        Self {
            allowed: tenant.allowed,
            denied: tenant.denied,
            redirected: tenant.redirected,
            would_deny: tenant.would_deny,
        }
    }
}

/// What a tenant suffered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suffered {
    /// Which sanction.
    pub sanction: Sanction,
    /// Since when.
    pub since: Timestamp,
    /// Until when it was to last; null: until it is lifted.
    pub until: Option<Timestamp>,
    /// When it was lifted, or ended; null: it is in force.
    pub lifted: Option<Timestamp>,
}

/// A report of abuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complained {
    /// What tells it from all others.
    pub id: String,
    /// When it came.
    pub received: Timestamp,
    /// attributed, ambiguous, unknown, refused or dismissed.
    pub state: String,
    /// Why.
    pub why: String,
}
