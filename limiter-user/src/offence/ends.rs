//! When a sanction ends, as a function of what was said and of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    action::How,
    hold::{Hold, Status, Why},
    ladder::{Condition, Lift},
    signal::Word,
    time::Moment,
    words::Sanction,
};

/// What people said about a tenant, and when last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    contact: Option<Moment>,
    acknowledgement: Option<Moment>,
    review: Option<Moment>,
    reinstate: Option<Moment>,
    acquit: Option<Moment>,
    confirm: BTreeMap<Sanction, Moment>,
    reject: BTreeMap<Sanction, Moment>,
    lift: BTreeMap<Sanction, Moment>,
}

impl Said {
    /// Takes `word` down.
    pub(super) fn note(&mut self, word: Word, at: Moment) {
        match word {
            Word::Contact => self.contact = Some(at),
            Word::Acknowledgement => self.acknowledgement = Some(at),
            Word::Review => self.review = Some(at),
            Word::Reinstate => self.reinstate = Some(at),
            Word::Acquit => self.acquit = Some(at),
            Word::Confirm(sanction) => {
                self.confirm.insert(sanction, at);
            }
            Word::Lift(sanction) => {
                self.lift.insert(sanction, at);
            }
            Word::Reject(sanction) => {
                self.reject.insert(sanction, at);
            }
        }
    }

    /// When a `sanction` that began at `since` is taken back, whatever its rule.
    pub(super) fn taken_back(&self, sanction: Sanction, since: Moment) -> Option<Moment> {
        let lifted = self.lift.get(&sanction).copied();
        let said = [self.reinstate, self.acquit, lifted];
        earliest(said.map(|said| after(said, since)))
    }

    /// When an operator's own sanction that began at `since` is taken back: also by a review.
    pub(super) fn own_taken_back(&self, sanction: Sanction, since: Moment) -> Option<Moment> {
        earliest([self.taken_back(sanction, since), after(self.review, since)])
    }

    /// When a proposal is confirmed.
    pub(super) fn confirmed(&self, hold: &Hold) -> Option<Moment> {
        let said = self.confirm.get(&hold.step.sanction).copied();
        after(said, hold.since).filter(|_| matches!(hold.status, Status::Proposed(_)))
    }

    /// When `hold` ends if nobody says anything more, and how.
    pub(super) fn end(&self, hold: &Hold) -> Option<(Moment, How)> {
        let by_rule = match hold.status {
            Status::Ended { .. } => return None,
            Status::InForce => self.lifted(hold),
            // What is only observed passes as it would have passed.
            Status::Proposed(Why::Observed) => self.lifted(hold),
            Status::Proposed(Why::Confirm) => None,
        };
        let rejected = match hold.status {
            Status::Proposed(_) => self.reject.get(&hold.step.sanction).copied(),
            Status::InForce | Status::Ended { .. } => None,
        };
        let suffered = hold.suffered().unwrap_or(hold.step.sanction);
        let taken_back = self.taken_back(suffered, hold.since);
        [
            (after(self.acquit, hold.since), How::Acquitted),
            (taken_back, How::Reinstated),
            (after(rejected, hold.since), How::Rejected),
            (by_rule, self.by_rule(hold)),
        ]
        .into_iter()
        .filter_map(|(at, how)| at.map(|at| (at, how)))
        .min_by_key(|(at, _)| *at)
    }

    fn lifted(&self, hold: &Hold) -> Option<Moment> {
        match &hold.step.lift {
            Lift::Any(conditions) => earliest(
                conditions
                    .iter()
                    .map(|condition| self.met(*condition, hold)),
            ),
            Lift::All(conditions) => conditions
                .iter()
                .map(|condition| self.met(*condition, hold))
                .collect::<Option<Vec<Moment>>>()?
                .into_iter()
                .max(),
        }
    }

    /// Whose doing it is when the rule of `hold` lifts it: an operator's, if the review is what
    /// was missing.
    fn by_rule(&self, hold: &Hold) -> How {
        let (Lift::Any(conditions) | Lift::All(conditions)) = &hold.step.lift;
        let others = conditions
            .iter()
            .filter(|condition| **condition != Condition::Review)
            .map(|condition| self.met(*condition, hold));
        let reviewed = conditions
            .contains(&Condition::Review)
            .then(|| self.met(Condition::Review, hold))
            .flatten();
        let decided = reviewed.is_some_and(|reviewed| match hold.step.lift {
            Lift::Any(_) => others.flatten().all(|other| reviewed < other),
            Lift::All(_) => others.flatten().all(|other| other < reviewed),
        });
        if decided { How::Reinstated } else { How::Rule }
    }

    /// When `condition` is met: words from the moment after they were spoken, and not before the
    /// shortest time.
    fn met(&self, condition: Condition, hold: &Hold) -> Option<Moment> {
        let said = match condition {
            Condition::Time => return hold.until,
            Condition::Never => return None,
            Condition::Contact => self.contact,
            Condition::Acknowledgement => self.acknowledgement,
            Condition::Review => self.review,
        };
        let met = after(said, hold.since)?;
        Some(hold.not_before.map_or(met, |earliest| earliest.max(met)))
    }
}

/// A word counts for what began before it, from the next moment on.
fn after(said: Option<Moment>, since: Moment) -> Option<Moment> {
    said.filter(|said| *said > since).map(Moment::next)
}

fn earliest(moments: impl IntoIterator<Item = Option<Moment>>) -> Option<Moment> {
    moments.into_iter().flatten().min()
}
