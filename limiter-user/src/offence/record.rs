//! What is recorded of one tenant.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    case::Case,
    ends::Said,
    evidence::Evidence,
    ladder::Ladder,
    tally::Tally,
    time::Moment,
    void::Voided,
    words::{Audience, Sanction, words},
};

/// A tenant's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// By the name of the policy.
    pub ladders: BTreeMap<String, LadderRecord>,
    /// Sanctions by an operator's own word, by kind.
    pub own: BTreeMap<Sanction, OwnHold>,
    /// What people said.
    pub said: Said,
    /// Complaints and listings heard, and when.
    pub heard: BTreeMap<String, Moment>,
    /// What was heard and counts no more.
    pub voided: Voided,
    /// What was charged for each cause, in hundredths.
    pub charged: BTreeMap<String, u64>,
    /// What is to be done about complaints (`ID\nCLOCK`), and by when; `None`: done, or told.
    pub clocks: BTreeMap<String, Option<Moment>>,
    /// What the tenant suffers, and until when; `None`: until it is lifted.
    pub effective: BTreeMap<Sanction, Option<Moment>>,
    /// Who heard of a sanction, and that one of its reasons is gone, but not yet that it is over:
    /// another reason held.
    pub untold: BTreeMap<Sanction, BTreeSet<Audience>>,
    /// When time next changes something.
    pub due: Option<Moment>,
}

/// A tenant's record under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LadderRecord {
    /// The open case.
    pub open: Option<Case>,
    /// Closed ones that count, and the last one, in their order.
    pub closed: Vec<Case>,
    /// How many cases there were.
    pub cases: u32,
    /// What was heard since the last case was closed, and belongs to what comes.
    pub evidence: Evidence,
    /// What happened since the last case was closed.
    pub(super) fresh: Tally,
    /// What was heard since then, and happened before.
    pub(super) late: Tally,
}

/// A sanction by an operator's own word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnHold {
    /// Since when.
    pub since: Moment,
    /// Until when; `None`: until it is taken back.
    pub until: Option<Moment>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

words! {
    /// How a tenant stands.
    Standing {
        /// Nothing.
        Good => "good",
        /// A warning stands.
        Warned => "warned",
        /// Its mail does not leave.
        Blocked => "blocked",
        /// Suspended, in part or altogether.
        Suspended => "suspended",
        /// Over.
        Terminated => "terminated",
    }
}

impl Record {
    /// How the tenant stands by itself, its ancestors left aside.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.effective.last_key_value() {
            None => Standing::Good,
            Some((Sanction::Warn, _)) => Standing::Warned,
            Some((Sanction::BlockSmtp, _)) => Standing::Blocked,
            Some((Sanction::SuspendMail | Sanction::SuspendNetwork | Sanction::NullRoute, _)) => {
                Standing::Suspended
            }
            Some((Sanction::Terminate, _)) => Standing::Terminated,
        }
    }
}

impl LadderRecord {
    /// Whether something that happened then belongs to the last case, not to a new one.
    pub(super) fn is_late(&self, happened: Moment) -> bool {
        let closed = self.closed.last().and_then(|case| case.closed);
        closed.is_some_and(|closed| happened <= closed)
    }

    /// Has the closed case with this number count no more, if it is remembered and counted still.
    pub(super) fn void(&mut self, number: u32, at: Moment) -> bool {
        let mut closed = self.closed.iter_mut();
        let Some(case) = closed.find(|case| case.id == number && !case.void) else {
            return false;
        };
        if case.voided.is_none() {
            case.voided = Some(at);
        }
        true
    }

    /// How many offences count at `at`, those of the open case left aside.
    pub(super) fn prior(&self, ladder: &Ladder, at: Moment) -> u32 {
        let counting = self.closed.iter().filter(|case| case.counts(ladder, at));
        counting.fold(0, |sum: u32, _| sum.saturating_add(1))
    }

    /// Closes the open case if it is over: its number.
    pub(super) fn close(&mut self, ladder: Option<&Ladder>, at: Moment) -> Option<u32> {
        if !self.open.as_mut()?.close(at) {
            return None;
        }
        let mut case = self.open.take()?;
        case.evidence = std::mem::take(&mut self.evidence);
        self.fresh = Tally::default();
        self.late = Tally::default();
        let id = case.id;
        self.closed
            .retain(|case| ladder.is_none_or(|ladder| case.counts(ladder, at)));
        self.closed.push(case);
        Some(id)
    }
}
