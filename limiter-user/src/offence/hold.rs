//! A sanction that one step of one case put on a tenant.

use serde::{Deserialize, Serialize};

use super::{
    action::How,
    ladder::Step,
    time::Moment,
    words::{Sanction, Severity},
};

/// A sanction, from its beginning to its end. It carries its step, so that a changed policy file
/// changes nothing about what is in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hold {
    /// Since when it is in force, or proposed.
    pub since: Moment,
    /// Why it is there.
    pub step: Step,
    /// For what.
    pub severity: Severity,
    /// The number of the offence; 0: it does not count.
    pub offence: u32,
    /// Where it stands.
    pub status: Status,
    /// Whether it ever was in force.
    pub forced: bool,
    /// Before this its conditions do not lift it.
    pub not_before: Option<Moment>,
    /// When the condition `time` is met.
    pub until: Option<Moment>,
    /// By when a proposal is to be decided.
    pub deadline: Option<Moment>,
    /// Whether it was told that it was not.
    pub alarmed: bool,
    /// What follows, and when.
    pub then: Option<(Sanction, Moment)>,
}

/// Where a sanction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for an operator.
    Proposed(Why),
    /// It holds.
    InForce,
    /// It is over.
    Ended {
        /// Since when.
        at: Moment,
        /// How that came.
        how: How,
    },
}

/// Why something is only proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The policy wants an operator to confirm it.
    Confirm,
    /// The tenant is observed.
    Observed,
}

impl Hold {
    /// A sanction from `since` on.
    pub(super) fn new(
        step: Step,
        since: Moment,
        severity: Severity,
        offence: u32,
        why: Option<Why>,
    ) -> Self {
        let mut hold = Self {
            since,
            // What is only observed, nobody has to decide.
            deadline: step
                .within
                .filter(|_| why == Some(Why::Confirm))
                .map(|within| since.plus(within)),
            step,
            severity,
            offence,
            status: why.map_or(Status::InForce, Status::Proposed),
            forced: false,
            not_before: None,
            until: None,
            alarmed: false,
            then: None,
        };
        hold.start(since);
        hold
    }

    /// Its time runs from `at` on; what follows follows only on what is in force.
    fn start(&mut self, at: Moment) {
        self.not_before = self.step.length.map(|length| at.plus(length.at_least));
        self.until = self.step.length.map(|length| at.plus(length.at_most));
        if self.status == Status::InForce {
            self.forced = true;
            self.deadline = None;
            self.then = self.step.then.map(|(what, after)| (what, at.plus(after)));
        }
    }

    /// An operator wants it.
    pub(super) fn confirm(&mut self, at: Moment) {
        self.status = Status::InForce;
        self.since = at;
        self.start(at);
    }

    /// It is over.
    pub(super) fn end(&mut self, at: Moment, how: How) {
        self.status = Status::Ended { at, how };
        self.then = None;
        self.deadline = None;
    }

    /// Whether it is in force or proposed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.status, Status::Ended { .. })
    }

    /// What the tenant suffers from it right now.
    #[must_use]
    pub const fn suffered(&self) -> Option<Sanction> {
        match self.status {
            Status::InForce => Some(self.step.sanction),
            Status::Proposed(Why::Confirm) => self.step.meanwhile,
            Status::Proposed(Why::Observed) | Status::Ended { .. } => None,
        }
    }
}
