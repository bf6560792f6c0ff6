//! What is to be done. Carrying it out is for others; the state already counts it as done.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    ladder::Lift,
    time::Moment,
    words::{Audience, Part, Sanction, Severity},
};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Put a tenant under a sanction, or change its end: in force before it is told.
    Apply {
        /// Whom.
        tenant: String,
        /// Under what.
        sanction: Sanction,
        /// Until when; `None`: until it is lifted.
        until: Option<Moment>,
    },
    /// Take a sanction back (or forget one that ended by itself).
    LiftSanction {
        /// Whose.
        tenant: String,
        /// Which.
        sanction: Sanction,
    },
    /// Tell somebody.
    Notify(Box<Notice>),
    /// Write a charge down.
    Charge {
        /// Whose doing.
        tenant: String,
        /// Who pays.
        bill: String,
        /// For what: the complaint, the listing, the case.
        cause: String,
        /// By which policy.
        policy: String,
        /// How much, in hundredths, beyond what was charged for the same cause before; `None`: a
        /// person will say.
        cents: Option<u64>,
        /// ISO 4217.
        currency: String,
        /// What a person adds.
        plus: Vec<String>,
        /// Whether it is only proposed: the tenant is observed.
        proposed: bool,
    },
    /// A case was opened.
    OpenCase {
        /// Whose.
        tenant: String,
        /// By which policy.
        policy: String,
        /// Its number, unique for tenant and policy.
        case: u32,
    },
    /// A case was closed.
    CloseCase {
        /// Whose.
        tenant: String,
        /// By which policy.
        policy: String,
        /// Its number.
        case: u32,
    },
    /// A complaint does not count.
    InvalidComplaint {
        /// About whom.
        tenant: String,
        /// Which.
        complaint: String,
        /// By which policy.
        policy: String,
        /// What is missing.
        missing: BTreeSet<Part>,
        /// Whether its format is not accepted.
        format: bool,
    },
    /// Heard, and not counted: a duplicate.
    Duplicate {
        /// About whom.
        tenant: String,
        /// The id that was heard before.
        id: String,
    },
    /// Heard, and no policy speaks of it.
    NoPolicy {
        /// About whom.
        tenant: String,
    },
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Who.
    pub to: Audience,
    /// About whom.
    pub tenant: String,
    /// By which policy; `None`: by an operator's own word.
    pub policy: Option<String>,
    /// The case.
    pub case: Option<u32>,
    /// What.
    pub event: NoticeEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// A sanction is in force.
    Sanctioned {
        /// Which.
        sanction: Sanction,
        /// For what.
        severity: Option<Severity>,
        /// The number of the offence; 0: it does not count.
        offence: u32,
        /// When its time is over.
        until: Option<Moment>,
        /// What lifts it.
        lift: Lift,
        /// What else is said.
        note: Vec<String>,
        /// What follows, and when, if it is not lifted.
        then: Option<(Sanction, Moment)>,
        /// It holds only until a person decided about this.
        #[serde(default)]
        pending: Option<Pending>,
    },
    /// A sanction waits for an operator.
    Proposed {
        /// Which.
        sanction: Sanction,
        /// By when it is to be decided.
        deadline: Option<Moment>,
        /// What holds meanwhile.
        meanwhile: Option<Sanction>,
        /// Only because the tenant is observed.
        observed: bool,
    },
    /// A sanction was lifted: nothing puts the tenant under it any more.
    Lifted {
        /// Which.
        sanction: Sanction,
        /// How.
        how: How,
        /// What else the tenant still suffers, weakest first.
        #[serde(default)]
        still: Vec<Sanction>,
    },
    /// A proposal came to its end, and was never in force.
    Dropped {
        /// Which.
        sanction: Sanction,
        /// How.
        how: How,
        /// What the tenant suffers all the same, weakest first.
        #[serde(default)]
        still: Vec<Sanction>,
    },
    /// A proposal was not decided in time.
    Undecided {
        /// Which.
        sanction: Sanction,
    },
    /// A complaint was not handled in time.
    Overdue {
        /// Which.
        complaint: String,
        /// What was to be done.
        clock: String,
    },
    /// Reports of abuse wait until a person says whose mail they are about. No word of the engine's.
    Unassigned {
        /// The latest.
        complaint: String,
        /// Why it is not clear.
        why: String,
        /// How many wait.
        waiting: u64,
    },
}

/// A proposal that something provisional waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pending {
    /// What is proposed.
    pub sanction: Sanction,
    /// By when it is to be decided.
    pub deadline: Option<Moment>,
}

/// How a sanction came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its conditions were met.
    Rule,
    /// An operator lifted it: by a review that its rule allows, or against its rule.
    Reinstated,
    /// An operator found that it was wrong.
    Acquitted,
    /// An operator did not want what was proposed.
    Rejected,
    /// A stronger one took its place, or the case it warned of is over.
    Superseded,
}
