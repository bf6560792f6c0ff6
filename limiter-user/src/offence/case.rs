//! A case: one offence of one tenant under one policy, from its opening to its end. What is heard
//! while it is open joins it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    action::How,
    evidence::Evidence,
    hold::{Hold, Status},
    ladder::{Ladder, Step},
    time::Moment,
    words::{Sanction, Severity},
};

/// A case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its number, unique for tenant and policy.
    pub id: u32,
    /// When it was opened.
    pub opened: Moment,
    /// When it was closed.
    pub closed: Option<Moment>,
    /// How it came to be as grave as it is.
    pub marks: BTreeSet<Mark>,
    /// Its sanctions, sorted.
    pub holds: Vec<Hold>,
    /// What it rests on; gathered when it is closed.
    pub evidence: Evidence,
    /// It was wrong, and never counts.
    pub void: bool,
    /// Since when it counts no more, if it was found wrong after it was closed.
    #[serde(default)]
    pub voided: Option<Moment>,
}

/// A moment at which a case became as grave as this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Moment,
    /// How grave.
    pub severity: Severity,
    /// Whether it counts: mail left the node, or the policy punishes attempts.
    pub counted: bool,
    /// Whether it is something new, not what led to the case before.
    pub fresh: bool,
    /// The number of the offence; 0: it does not count.
    pub offence: u32,
}

impl Mark {
    /// Whether `other` adds nothing to it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.severity >= other.severity
            && self.counted >= other.counted
            && self.fresh >= other.fresh
    }
}

impl Case {
    /// An empty case.
    pub(super) fn new(id: u32, opened: Moment) -> Self {
        Self {
            id,
            opened,
            closed: None,
            marks: BTreeSet::new(),
            holds: Vec::new(),
            evidence: Evidence::default(),
            void: false,
            voided: None,
        }
    }

    /// When it began to count.
    #[must_use]
    pub fn counted(&self) -> Option<Moment> {
        let counted = self.marks.iter().filter(|mark| mark.counted);
        counted.map(|mark| mark.at).min()
    }

    /// The number of the offence; 0: it does not count.
    #[must_use]
    pub fn offence(&self) -> u32 {
        let numbers = self.marks.iter().map(|mark| mark.offence);
        numbers.max().unwrap_or_default()
    }

    /// Whether it still counts at `at`.
    #[must_use]
    pub fn counts(&self, ladder: &Ladder, at: Moment) -> bool {
        let remembered = |counted: Moment| {
            ladder
                .forget_after
                .is_none_or(|span| counted.plus(span) > at)
        };
        let wrong = self.void || self.voided.is_some_and(|since| since < at);
        !wrong && self.counted().is_some_and(remembered)
    }

    /// Whether it was found wrong.
    #[must_use]
    pub const fn is_void(&self) -> bool {
        self.void || self.voided.is_some()
    }

    /// Whether the tenant lost a service over it, and has it again.
    #[must_use]
    pub fn reinstated(&self) -> bool {
        self.closed.is_some()
            && self
                .holds
                .iter()
                .any(|hold| hold.forced && hold.step.sanction > Sanction::Warn)
    }

    /// Takes back what was said at the moment of `mark` and is covered by it now that it counts;
    /// `steps` are those that follow from a mark. What another mark of that moment led to as well
    /// stays: what is new is not covered by what is not, however grave.
    pub(super) fn unsay(&mut self, mark: &Mark, steps: impl Fn(&Mark) -> Vec<Step>) {
        let covered = |old: &Mark| old.at >= mark.at && !old.counted && mark.covers(old);
        let all = std::mem::take(&mut self.marks);
        let (unsaid, left): (Vec<Mark>, Vec<Mark>) = all.into_iter().partition(covered);
        self.holds.retain_mut(|hold| {
            let led = |old: &&Mark| steps(old).contains(&hold.step);
            if hold.since < mark.at || hold.offence > 0 || !unsaid.iter().any(|old| led(&old)) {
                return true;
            }
            let others = left
                .iter()
                .filter(|old| old.at >= mark.at && !old.counted && led(old));
            let gravest = others.map(|old| old.severity).max();
            hold.severity = gravest.unwrap_or(hold.severity);
            gravest.is_some()
        });
        self.marks = left.into_iter().collect();
    }

    /// Closes it at `at` if nothing more than warnings is left where there was more, or nothing
    /// at all.
    pub(super) fn close(&mut self, at: Moment) -> bool {
        let serious = |hold: &&Hold| hold.step.sanction > Sanction::Warn;
        let left = if self.holds.iter().any(|hold| serious(&hold)) {
            self.holds.iter().filter(serious).any(Hold::is_open)
        } else {
            self.holds.iter().any(Hold::is_open)
        };
        if left {
            return false;
        }
        for hold in self.holds.iter_mut().filter(|hold| hold.is_open()) {
            hold.end(at, How::Superseded);
        }
        let acquitted = |hold: &Hold| {
            matches!(
                hold.status,
                Status::Ended {
                    how: How::Acquitted,
                    ..
                }
            )
        };
        self.void |= self.holds.iter().any(acquitted);
        self.closed = Some(at);
        true
    }
}
