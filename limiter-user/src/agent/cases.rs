//! What people say of cases and records: heard by the court, and carried out before the answer.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use log::info;

use super::{
    desk::owners_of,
    hints as advice,
    judiciary::{Judiciary, submission, unheard},
    live::LiveNode,
};
use crate::{
    complaint::attribute::Owner,
    control::{
        node::NodeError,
        peer::Peer,
        routes_court::{Added, CaseAction, Closing, Said},
    },
    court::{Submission, Verdict},
    inspect::record::{About, CaseName, Shelf, Times, holds, name_of, next_steps},
    ledger::NoteRow,
    offence::{Action, Case, Moment, Record, Sanction, Signal, Status, Why, Word},
    report::{
        case::{CaseDetails, CaseSummary, Dropped, HeardOutcome, NextStep, NoteOutcome},
        dossier::{Counters, Dossier},
    },
};

impl LiveNode {
    /// Hears a person's word about a tenant.
    pub(super) fn say(
        &self,
        tenant: &str,
        said: Said,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let judiciary = self.court_for(tenant)?;
        let word = match said {
            Said::Contact => Word::Contact,
            Said::Acknowledgement => Word::Acknowledgement,
            Said::Acquit => Word::Acquit,
        };
        info!("{by} says {} of {tenant:?}", said.as_str());
        self.speak_of(judiciary, tenant, word, reason, by)
    }

    /// Adds to a tenant's record what the node cannot see.
    pub(super) fn add_offence(
        &self,
        tenant: &str,
        added: &Added,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let judiciary = self.court_for(tenant)?;
        if let Added::Listing {
            address,
            force: false,
            ..
        } = added
        {
            let owner = owners_of(&self.shared.lock()).owner(*address);
            is_ours(*address, &owner)?;
        }
        let (before, happened, _) = judiciary.court.record(tenant);
        let tenant = tenant.to_owned();
        let signal = match added {
            Added::Severity(severity) => Signal::Offence {
                tenant,
                severity: *severity,
                reason: reason.to_owned(),
                by: by.to_string(),
                happened,
            },
            Added::Listing {
                list,
                address,
                incident,
                force: _,
            } => Signal::Listing {
                tenant,
                id: incident_id(list, *address, incident.as_deref()),
                list: list.trim().to_owned(),
                happened,
            },
            Added::Bounces { hard, soft } => Signal::Bounces {
                tenant,
                hard: *hard,
                soft: *soft,
                happened,
            },
        };
        self.bring(judiciary, &before, submission(signal, reason, by))
    }

    /// Declares the wall clock right.
    pub(super) fn settle_clock(&self, reason: &str, by: &Peer) -> Result<(), NodeError> {
        let judiciary = self.judiciary()?;
        let signal = Signal::Settle { by: by.to_string() };
        let heard = judiciary.say(submission(signal, reason, by));
        heard.map_err(|error| unheard(&error))?;
        info!("{by} says that the wall clock is right");
        Ok(())
    }

    /// Writes a note beside a case.
    pub(super) fn add_note(
        &self,
        tenant: &str,
        name: &CaseName,
        text: &str,
        by: &Peer,
    ) -> Result<NoteOutcome, NodeError> {
        let judiciary = self.judiciary()?;
        // Also of a case that the engine has forgotten, or of whoever is no tenant any more.
        self.shelf(judiciary)?.case(tenant, name)?;
        let wall = judiciary.court.study(|study| study.wall);
        let row = NoteRow {
            tenant: tenant.to_owned(),
            policy: name.policy.clone(),
            number: name.number,
            wall: wall.millis(),
            by: serde_json::to_value(by).unwrap_or_default(),
            text: text.to_owned(),
        };
        let written = judiciary.court.write(|page| page.note(&row));
        written.map_err(|error| unheard(&error))?;
        Ok(NoteOutcome {
            tenant: tenant.to_owned(),
            case: name.to_string(),
        })
    }

    /// Confirms, rejects or closes.
    pub(super) fn act_on(
        &self,
        tenant: &str,
        name: &CaseName,
        action: &CaseAction,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let judiciary = self.court_for(tenant)?;
        let (record, ..) = judiciary.court.record(tenant);
        let kept = record.ladders.get(&name.policy);
        let open = kept.and_then(|kept| kept.open.as_ref());
        let Some(case) = open.filter(|case| case.id == name.number) else {
            return self.act_on_closed(judiciary, (tenant, name), action, &record, (reason, by));
        };
        let word = match action {
            CaseAction::Confirm(sanction) => Word::Confirm(waiting(name, case, *sanction)?),
            CaseAction::Reject(sanction) => Word::Reject(waiting(name, case, *sanction)?),
            CaseAction::Close { how, others } => {
                if !others {
                    nothing_else(tenant, name, &record)?;
                }
                match how {
                    Closing::Review => Word::Review,
                    Closing::Override => Word::Reinstate,
                    Closing::Acquit => Word::Acquit,
                }
            }
            CaseAction::Note => {
                return Err(NodeError::Refused {
                    what: "a note changes nothing".to_owned(),
                    remedy: "`limiter case note` writes one down".to_owned(),
                });
            }
        };
        info!("{by}: {} {name} of {tenant:?}", action.as_str());
        self.speak_of(judiciary, tenant, word, reason, by)
    }

    /// Acquits of a case that is closed: it counts no more. Nothing else can be done to one.
    fn act_on_closed(
        &self,
        judiciary: &Judiciary,
        (tenant, name): (&str, &CaseName),
        action: &CaseAction,
        record: &Record,
        (reason, by): (&str, &Peer),
    ) -> Result<HeardOutcome, NodeError> {
        // It may be none, or a closed one: the record book knows.
        self.shelf(judiciary)?.case(tenant, name)?;
        let acquits = matches!(
            action,
            CaseAction::Close {
                how: Closing::Acquit,
                ..
            }
        );
        if !acquits {
            return Err(NodeError::Refused {
                what: format!("case {name} of {tenant:?} is closed: nothing of it holds or waits"),
                remedy: format!(
                    "if it was wrong, `limiter case close {tenant} {name} --acquit --reason …`: it \
                     counts no more; `limiter case note {tenant} {name} …` adds a note"
                ),
            });
        }
        let kept = record.ladders.get(&name.policy);
        let closed = kept.and_then(|kept| kept.closed.iter().find(|case| case.id == name.number));
        if closed.is_none_or(Case::is_void) {
            return Err(NodeError::Refused {
                what: match closed {
                    Some(_) => format!("case {name} of {tenant:?} was found wrong already"),
                    None => format!("case {name} of {tenant:?} counts no more: it is forgotten"),
                },
                remedy: format!(
                    "nothing is left to undo; `limiter case note {tenant} {name} …` adds a note"
                ),
            });
        }
        info!("{by}: case {name} of {tenant:?} was wrong");
        let signal = Signal::Void {
            tenant: tenant.to_owned(),
            policy: name.policy.clone(),
            case: name.number,
            by: by.to_string(),
        };
        let said = judiciary.say(submission(signal, reason, by));
        said.map_err(|error| unheard(&error))?;
        // Whoever looks at the case sees it there.
        self.add_note(tenant, name, &format!("it was wrong: {reason}"), by)?;
        Ok(HeardOutcome {
            voided: vec![name.to_string()],
            ..self.outcome(judiciary, tenant, record, None)
        })
    }

    /// Cases, as the record book has them.
    pub(super) fn list_cases(
        &self,
        tenant: Option<&str>,
        all: bool,
    ) -> Result<Vec<CaseSummary>, NodeError> {
        self.shelf(self.judiciary()?)?.cases(tenant, all)
    }

    /// One case, as the record book has it.
    pub(super) fn show_case(
        &self,
        tenant: &str,
        name: &CaseName,
    ) -> Result<CaseDetails, NodeError> {
        self.shelf(self.judiciary()?)?.case(tenant, name)
    }

    /// The evidence report of a tenant.
    pub(super) fn make_dossier(
        &self,
        tenant: &str,
        span: Duration,
        by: &Peer,
    ) -> Result<Dossier, NodeError> {
        let shelf = self.shelf(self.judiciary()?)?;
        let (node, counters) = {
            let state = self.shared.lock();
            let status = state.view().status(Some(tenant), &[]);
            let counters = status
                .ok()
                .and_then(|status| status.tenants.first().map(Counters::from));
            (state.policy.node.name.clone(), counters)
        };
        let about = About {
            node,
            counters,
            made_by: Some(by.to_string()),
        };
        shelf.dossier(tenant, span, about)
    }

    /// The record book, open beside the court: whoever reads it keeps nobody waiting.
    fn shelf(&self, judiciary: &Judiciary) -> Result<Shelf, NodeError> {
        let state_dir = judiciary.court.state_dir();
        let (book, times) = judiciary
            .court
            .study(|study| (study.book.clone(), Times::from(study)));
        Shelf::open(state_dir, book, times)
    }

    /// The court, for a tenant that there is.
    fn court_for(&self, tenant: &str) -> Result<&Judiciary, NodeError> {
        // Who it cannot be about is said before anything is recorded.
        drop(self.shared.lock().own_sanctions(tenant)?);
        self.judiciary()
    }

    /// Speaks before the court: what is different then.
    pub(super) fn speak_of(
        &self,
        judiciary: &Judiciary,
        tenant: &str,
        word: Word,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let (before, ..) = judiciary.court.record(tenant);
        let spoken = judiciary.speak(tenant, word, reason, by);
        spoken.map_err(|error| unheard(&error))?;
        Ok(self.outcome_of_word(judiciary, tenant, word, &before))
    }

    /// What is different from `before` after a word, and what else to do.
    pub(super) fn outcome_of_word(
        &self,
        judiciary: &Judiciary,
        tenant: &str,
        word: Word,
        before: &Record,
    ) -> HeardOutcome {
        advised(tenant, word, self.outcome(judiciary, tenant, before, None))
    }

    fn bring(
        &self,
        judiciary: &Judiciary,
        before: &Record,
        submission: Submission,
    ) -> Result<HeardOutcome, NodeError> {
        let tenant = submission.signal.tenant().unwrap_or_default().to_owned();
        let heard = judiciary.say(submission);
        let verdicts = heard.map_err(|error| unheard(&error))?;
        Ok(self.outcome(judiciary, &tenant, before, verdicts.first()))
    }

    /// What is different from `before`.
    fn outcome(
        &self,
        judiciary: &Judiciary,
        tenant: &str,
        before: &Record,
        verdict: Option<&Verdict>,
    ) -> HeardOutcome {
        let (after, now, wall) = judiciary.court.record(tenant);
        self.difference(judiciary, tenant, before, (&after, now, wall), verdict)
    }

    /// What is different from `before` by a record at this moment, and what the wall clock shows then.
    pub(super) fn difference(
        &self,
        judiciary: &Judiciary,
        tenant: &str,
        before: &Record,
        (after, now, wall): (&Record, Moment, Moment),
        verdict: Option<&Verdict>,
    ) -> HeardOutcome {
        let (cases_before, cases_after) = (open_cases(before), open_cases(after));
        let actions = verdict.map_or(&[][..], |verdict| &verdict.actions);
        let (in_force, opened_until): (BTreeSet<Sanction>, _) = {
            let state = self.shared.lock();
            let own = state.own_sanctions(tenant).into_iter().flatten();
            let own = own
                .filter(|(_, left)| left.is_some())
                .map(|(sanction, _)| Sanction::of_kernel(sanction));
            (own.collect(), state.opened_until(tenant))
        };
        let is_owed = |sanction: &&Sanction| {
            let in_kernel = sanction.in_kernel().map(Sanction::of_kernel);
            in_kernel.is_some_and(|it| !in_force.contains(&it))
        };
        let applied: Vec<Sanction> = after
            .effective
            .iter()
            .filter(|(sanction, until)| before.effective.get(sanction) != Some(until))
            .map(|(sanction, _)| *sanction)
            .collect();
        HeardOutcome {
            tenant: tenant.to_owned(),
            duplicate: verdict.is_some_and(|verdict| verdict.duplicate)
                || actions
                    .iter()
                    .any(|action| matches!(action, Action::Duplicate { .. })),
            no_policy: actions
                .iter()
                .any(|action| matches!(action, Action::NoPolicy { .. })),
            opened: cases_after.difference(&cases_before).cloned().collect(),
            closed: cases_before.difference(&cases_after).cloned().collect(),
            voided: Vec::new(),
            dropped: dropped(before, after),
            hints: Vec::new(),
            next: next(judiciary, tenant, after),
            lifted: before
                .effective
                .keys()
                .filter(|sanction| !after.effective.contains_key(sanction))
                .copied()
                .collect(),
            owed: after.effective.keys().filter(is_owed).copied().collect(),
            standing: after.standing(),
            holds: holds(tenant, after, Times { now, wall }),
            opened_until: opened_until.filter(|_| after.effective.keys().any(is_refusing)),
            cut: if applied.is_empty() {
                None
            } else {
                judiciary.cut(tenant)
            },
            applied,
        }
    }
}

/// With what else to do after a word.
pub(super) fn advised(tenant: &str, word: Word, outcome: HeardOutcome) -> HeardOutcome {
    HeardOutcome {
        hints: advice::hints(tenant, word, &outcome),
        ..outcome
    }
}

/// The names of the open cases of a record.
fn open_cases(record: &Record) -> BTreeSet<String> {
    let all = record.ladders.iter();
    all.filter_map(|(policy, kept)| Some(name_of(policy, kept.open.as_ref()?.id)))
        .collect()
}

/// What a further offence would lead to now.
fn next(judiciary: &Judiciary, tenant: &str, record: &Record) -> Vec<NextStep> {
    let steps = |study: &crate::court::Study<'_>| next_steps(tenant, record, study);
    judiciary.court.study(steps)
}

/// Whether it refuses anything.
fn is_refusing(sanction: &Sanction) -> bool {
    *sanction > Sanction::Warn
}

/// What waited for an operator before, and waits no more, nor holds.
fn dropped(before: &Record, after: &Record) -> Vec<Dropped> {
    let waits = |record: &Record| -> BTreeSet<Dropped> {
        let all = record.ladders.iter();
        let open = all.filter_map(|(policy, kept)| Some((policy, kept.open.as_ref()?)));
        open.flat_map(|(policy, case)| {
            let holds = case.holds.iter();
            let waiting = holds.filter(|hold| hold.status == Status::Proposed(Why::Confirm));
            waiting.map(move |hold| Dropped {
                case: name_of(policy, case.id),
                sanction: hold.step.sanction,
            })
        })
        .collect()
    };
    let carried_out = |it: &Dropped| after.effective.contains_key(&it.sanction);
    let gone = waits(before)
        .difference(&waits(after))
        .cloned()
        .collect::<Vec<_>>();
    gone.into_iter().filter(|it| !carried_out(it)).collect()
}

/// A blacklisting counts where it hits an address of the provider.
fn is_ours(address: IpAddr, owner: &Owner) -> Result<(), NodeError> {
    if !matches!(owner, Owner::Foreign) {
        return Ok(());
    }
    Err(NodeError::Refused {
        what: format!("{address} is neither an address of this node nor a tenant's"),
        remedy: "look at the address again; --force takes it all the same, where the node's mail \
                 leaves by an address that is translated further on"
            .to_owned(),
    })
}

/// What tells a listing from all others.
fn incident_id(list: &str, address: IpAddr, incident: Option<&str>) -> String {
    let (list, address) = (list.trim(), address.to_canonical());
    match incident.map(str::trim).filter(|text| !text.is_empty()) {
        Some(incident) => format!("{list} {address} {incident}"),
        None => format!("{list} {address}"),
    }
}

/// The sanction of a case that waits for an operator: the one asked for, or the only one.
fn waiting(name: &CaseName, case: &Case, asked: Option<Sanction>) -> Result<Sanction, NodeError> {
    let waiting: BTreeSet<Sanction> = case
        .holds
        .iter()
        .filter(|hold| matches!(hold.status, Status::Proposed(_)))
        .map(|hold| hold.step.sanction)
        .collect();
    let names: Vec<&str> = waiting.iter().map(|it| it.as_str()).collect();
    let mut all = waiting.iter();
    match (asked, all.next(), all.next()) {
        (_, None, _) => Err(NodeError::Refused {
            what: format!("nothing of case {name} waits for an operator"),
            remedy: "`limiter case close` ends it; `limiter case show` tells what holds".to_owned(),
        }),
        (Some(asked), ..) if waiting.contains(&asked) => Ok(asked),
        (None, Some(only), None) => Ok(*only),
        (Some(_), ..) => Err(NodeError::Refused {
            what: format!("of case {name} only {} waits", names.join(", ")),
            remedy: format!(
                "name what waits: --sanction {}",
                names.join(", or --sanction ")
            ),
        }),
        (None, Some(_), Some(_)) => Err(NodeError::Refused {
            what: format!(
                "several sanctions of case {name} wait: {}",
                names.join(", ")
            ),
            remedy: format!("name one: --sanction {}", names.join(", or --sanction ")),
        }),
    }
}

/// The engine hears words about tenants, not about cases: what else one would hold for must have
/// been asked for.
fn nothing_else(tenant: &str, name: &CaseName, record: &Record) -> Result<(), NodeError> {
    let mut others = open_cases(record);
    others.remove(&name.to_string());
    let mut others: Vec<String> = others
        .into_iter()
        .map(|other| format!("case {other}"))
        .collect();
    others.extend(
        record
            .own
            .keys()
            .map(|sanction| format!("{} by an operator's own word", sanction.as_str())),
    );
    if others.is_empty() {
        return Ok(());
    }
    Err(NodeError::Refused {
        what: format!(
            "whoever ends case {name} says so of {tenant:?} as a whole, and that would hold for {} \
             too",
            others.join(", ")
        ),
        remedy: format!(
            "say --others if that is meant; a proposal alone is ended by `limiter case reject \
             {tenant} {name} --reason …`"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_a_strangers_address_is_refused() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let refused = is_ours(address, &Owner::Foreign).unwrap_err();
        assert!(refused.remedy().contains("--force"), "{refused}");
        for owner in [Owner::Node, Owner::Tenant("alice".to_owned())] {
            assert!(is_ours(address, &owner).is_ok());
        }
    }

    #[test]
    fn an_incident_is_known_by_list_and_address() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(
            incident_id(" spamhaus ", mapped, None),
            incident_id("spamhaus", plain, Some(" "))
        );
        assert_ne!(
            incident_id("spamhaus", plain, Some("2026-11")),
            incident_id("spamhaus", plain, None)
        );
    }
}
