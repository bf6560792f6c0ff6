//! What an operator says is heard by the court, and carried out before the answer.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use limiter_common::sanction::Sanction as InKernel;
use log::{error, info};
use serde_json::Value;

use super::{bailiff::Report, cases::advised, live::LiveNode};
use crate::{
    control::{node::NodeError, peer::Peer},
    court::{Court, CourtError, Submission, Verdict, Wanted},
    inspect,
    kernel::{LONGEST_SANCTION, SHORTEST_SANCTION},
    offence::{Record, Sanction, Signal, Span, Word},
    report::outcome::{CutOutcome, ReinstateOutcome, SanctionOutcome},
};

/// The court, and what was carried out last.
pub struct Judiciary {
    /// The court.
    pub court: Arc<Court>,
    /// What was carried out last, by tenant.
    pub carried: Report,
}

impl Judiciary {
    /// Hears a person's word about a tenant, and what follows from it at once.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then it was not said.
    pub fn speak(
        &self,
        tenant: &str,
        word: Word,
        reason: &str,
        by: &Peer,
    ) -> Result<Vec<Verdict>, CourtError> {
        let signal = Signal::Word {
            tenant: tenant.to_owned(),
            word,
            by: by.to_string(),
        };
        self.say(submission(signal, reason, by))
    }

    /// Hears what a person says, and what follows from it at once.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then it was not said. [`CourtError::Hanging`]: nobody knows.
    pub fn say(&self, said: Submission) -> Result<Vec<Verdict>, CourtError> {
        self.court.hear_soon(said)
    }

    /// Has what could not be recorded for this reason heard as soon as it can be; it holds already, or
    /// will in a moment. Gives what to tell the operator of that.
    pub fn owe(&self, said: Submission, why: &CourtError) -> String {
        let after = if self.court.owe(said) {
            "it is kept, holds after a restart and a reboot too, and is recorded by itself"
        } else {
            "it is recorded by itself when the disk takes it; until then it is in memory only: a \
             restart of the agent undoes a reinstatement, a reboot both"
        };
        format!(
            "not in the record book yet: {why}; {after}; {}",
            why.remedy()
        )
    }

    /// What was cut last of a tenant; it is told once.
    pub fn cut(&self, tenant: &str) -> Option<CutOutcome> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.remove(tenant)
    }
}

/// Something that a person says.
pub fn submission(signal: Signal, reason: &str, by: &Peer) -> Submission {
    let by = serde_json::to_value(by).unwrap_or(Value::Null);
    Submission::by(signal, by, Some(reason.to_owned())).once()
}

/// What the court says of itself when it does not hear.
pub fn unheard(error: &CourtError) -> NodeError {
    NodeError::Failed {
        what: error.to_string(),
        remedy: error.remedy().to_owned(),
    }
}

impl LiveNode {
    /// The court.
    ///
    /// # Errors
    ///
    /// Its record book could not be opened.
    pub(super) fn judiciary(&self) -> Result<&Judiciary, NodeError> {
        self.door.judiciary().ok_or_else(|| NodeError::Failed {
            what: "there is no record book, and so no case".to_owned(),
            remedy:
                "`limiter status` says what is wrong with it; mend it, it is tried again by itself"
                    .to_owned(),
        })
    }

    /// Puts a tenant under a sanction by an operator's own word.
    pub(super) fn suspend(
        &self,
        tenant: &str,
        sanction: Sanction,
        duration: Option<Duration>,
        reason: &str,
        by: &Peer,
    ) -> Result<SanctionOutcome, NodeError> {
        let Some(in_kernel) = sanction.in_kernel() else {
            return Err(NodeError::Refused {
                what: "a warning comes from an offence".to_owned(),
                remedy: "`limiter offence add TENANT --severity S --reason …`".to_owned(),
            });
        };
        if duration.is_some_and(|length| !(SHORTEST_SANCTION..=LONGEST_SANCTION).contains(&length))
        {
            return Err(crate::kernel::SanctionError::Length.into());
        }
        // Whom it cannot be for is said before anything is recorded.
        let replaced = {
            let state = self.shared.lock();
            state.can_be_under(tenant, in_kernel)?;
            let mut own = state.own_sanctions(tenant)?;
            own.any(|(which, left)| which == in_kernel && left.is_some())
        };
        let whom = format!("{by} puts {tenant:?} under {}", sanction.as_str());
        let signal = Signal::Suspend {
            tenant: tenant.to_owned(),
            sanction,
            length: duration.map(Span::from),
            reason: reason.to_owned(),
            by: by.to_string(),
        };
        let submission = submission(signal, reason, by);
        let mut unrecorded = None;
        let heard = match self.door.judiciary() {
            Some(judiciary) => match judiciary.say(submission.clone()) {
                Ok(_) => Some(judiciary),
                Err(error) => {
                    error!("{whom}, and it cannot be recorded yet: {error}");
                    unrecorded = Some((judiciary, submission, error));
                    None
                }
            },
            None => {
                self.door.hear_later(submission);
                None
            }
        };
        info!("{whom}");
        let cut = match heard {
            Some(judiciary) => judiciary.cut(tenant),
            // Whatever is wrong with the record book: an operator's word holds at once.
            None => {
                // It is owed before it holds, so that what is recorded does not undo it.
                if let Some((judiciary, submission, _)) = &unrecorded {
                    judiciary.court.say_later(submission.clone());
                }
                let cut = self.suspend_in_kernel(tenant, in_kernel, duration)?;
                if unrecorded.is_none() {
                    self.door.follow();
                }
                Some(cut)
            }
        };
        let unrecorded =
            unrecorded.map(|(judiciary, submission, error)| judiciary.owe(submission, &error));
        let state = self.shared.lock();
        let Some(until_s) = state.own_end(tenant, in_kernel)? else {
            return Err(NodeError::Failed {
                what: format!("{} is recorded and not in force yet", sanction.as_str()),
                remedy: "it is tried again every second; `limiter status` says why".to_owned(),
            });
        };
        Ok(SanctionOutcome {
            tenant: tenant.to_owned(),
            sanction,
            until: inspect::end_of(until_s),
            replaced,
            tenants: state.below(tenant),
            opened_until: state.view().opened_until(tenant)?,
            cut,
            unrecorded,
        })
    }

    fn suspend_in_kernel(
        &self,
        tenant: &str,
        sanction: InKernel,
        duration: Option<Duration>,
    ) -> Result<CutOutcome, NodeError> {
        let sanctioned = self.shared.lock().sanction(tenant, sanction, duration)?;
        Ok(self.cutter.cut(tenant, sanction, &sanctioned.affected))
    }

    /// Lifts what a review lifts, and an operator's own sanctions; everything, if `overriding`.
    pub(super) fn lift(
        &self,
        tenant: &str,
        sanction: Option<Sanction>,
        overriding: bool,
        reason: &str,
        by: &Peer,
    ) -> Result<ReinstateOutcome, NodeError> {
        let before = {
            let state = self.shared.lock();
            in_force(state.own_sanctions(tenant)?)
        };
        let mut unrecorded = None;
        let heard = match self.door.judiciary() {
            Some(judiciary) => {
                let (record, ..) = judiciary.court.record(tenant);
                let word = word(&record, sanction, overriding)?;
                let signal = Signal::Word {
                    tenant: tenant.to_owned(),
                    word,
                    by: by.to_string(),
                };
                let said = submission(signal, reason, by);
                match judiciary.say(said.clone()) {
                    Ok(_) => Some(self.outcome_of_word(judiciary, tenant, word, &record)),
                    Err(error) => {
                        error!(
                            "{by} reinstates {tenant:?}, and it cannot be recorded yet: {error}"
                        );
                        let foreseen = judiciary.court.foresee(tenant, &said);
                        // It is owed before it holds, so that what is recorded does not undo it.
                        judiciary.court.say_later(said.clone());
                        let after = (&foreseen.record, foreseen.now, foreseen.wall);
                        self.lift_in_kernel(tenant, &Wanted::of(after.0, after.1))?;
                        unrecorded = Some(judiciary.owe(said, &error));
                        let heard = self.difference(judiciary, tenant, &record, after, None);
                        Some(advised(tenant, word, heard))
                    }
                }
            }
            None => {
                let in_kernel = sanction.and_then(Sanction::in_kernel);
                self.shared.lock().reinstate(tenant, in_kernel)?;
                let word = match (sanction, overriding) {
                    (Some(sanction), _) => Word::Lift(sanction),
                    (None, true) => Word::Reinstate,
                    (None, false) => Word::Review,
                };
                let signal = Signal::Word {
                    tenant: tenant.to_owned(),
                    word,
                    by: by.to_string(),
                };
                self.door.hear_later(submission(signal, reason, by));
                self.door.follow();
                None
            }
        };
        let state = self.shared.lock();
        let after = in_force(state.own_sanctions(tenant)?);
        // By the names of the record: the kernel knows a termination as a suspension.
        let mut lifted = heard
            .as_ref()
            .map_or_else(Vec::new, |heard| heard.lifted.clone());
        let named: Vec<InKernel> = lifted.iter().filter_map(|it| it.in_kernel()).collect();
        let others = before.into_iter().filter(|which| !after.contains(which));
        lifted.extend(
            others
                .filter(|which| !named.contains(which))
                .map(Sanction::of_kernel),
        );
        let remaining = state.view().sanctions_of(tenant)?;
        drop(state);
        for sanction in &lifted {
            info!("{by} takes {} back from {tenant:?}", sanction.as_str());
        }
        let of_record = heard.map(|heard| (heard.dropped, heard.closed, heard.hints, heard.next));
        let (dropped, closed, hints, next) = of_record.unwrap_or_default();
        Ok(ReinstateOutcome {
            tenant: tenant.to_owned(),
            lifted,
            remaining,
            dropped,
            closed,
            hints,
            next,
            unrecorded,
        })
    }

    /// Lifts what a tenant is not to suffer any more.
    fn lift_in_kernel(&self, tenant: &str, wanted: &Wanted) -> Result<(), NodeError> {
        let mut state = self.shared.lock();
        let own = in_force(state.own_sanctions(tenant)?);
        let gone = own.into_iter().filter(|it| !wanted.kernel.contains_key(it));
        for sanction in gone {
            state.reinstate(tenant, Some(sanction))?;
        }
        Ok(())
    }
}

/// What is to be said so that what is asked for is lifted.
fn word(record: &Record, sanction: Option<Sanction>, overriding: bool) -> Result<Word, NodeError> {
    match (sanction, overriding) {
        (None, true) => Ok(Word::Reinstate),
        (None, false) => Ok(Word::Review),
        (Some(sanction), true) => Ok(Word::Lift(sanction)),
        (Some(sanction), false) => {
            let cases = record.ladders.iter();
            let mut open = cases.filter_map(|(policy, kept)| Some((policy, kept.open.as_ref()?)));
            let by_case = open.find(|(_, case)| {
                let mut holds = case.holds.iter();
                holds.any(|hold| hold.suffered() == Some(sanction))
            });
            match by_case {
                None => Ok(Word::Lift(sanction)),
                Some((policy, case)) => Err(NodeError::Refused {
                    what: format!(
                        "{} follows from case {policy}/{}",
                        sanction.as_str(),
                        case.id
                    ),
                    remedy: "`limiter reinstate` without --sanction lifts what its rules let a \
                             review lift; with --override it is lifted against them"
                        .to_owned(),
                }),
            }
        }
    }
}

fn in_force(own: impl Iterator<Item = (InKernel, Option<Option<Duration>>)>) -> Vec<InKernel> {
    own.filter_map(|(which, left)| left.map(|_| which))
        .collect()
}
