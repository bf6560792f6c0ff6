//! Cases.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{
    Times, holds, next_steps,
    shelf::{self, Shelf},
};
use crate::{
    control::node::NodeError,
    ledger::CaseRow,
    offence::{Evidence, Moment, Span, Status, Why},
    report::case::{CaseDetails, CaseState, CaseSummary, Charged, MarkStatus, SeenBetween},
};

/// How far back what was heard before a first case is shown: as far as any policy counts.
const BEFORE: Span = Span::days(31);
/// How much of what was heard is shown, the latest.
const MOST_HEARD: usize = 500;

/// The name of a case: `POLICY/N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseName {
    /// By which policy.
    pub policy: String,
    /// Its number.
    pub number: u32,
}

impl FromStr for CaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} names no case: POLICY/NUMBER, such as hostup/1");
        let (policy, number) = text.rsplit_once('/').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        if policy.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            policy: policy.to_owned(),
            number,
        })
    }
}

impl fmt::Display for CaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.policy, self.number)
    }
}

/// The name of a case.
#[must_use]
pub fn name_of(policy: &str, number: u32) -> String {
    format!("{policy}/{number}")
}

/// A case in short.
pub(super) fn summary(row: &CaseRow, times: Times) -> CaseSummary {
    let case = &row.case;
    let in_force = case.holds.iter().filter(|hold| hold.is_open());
    let waiting = case
        .holds
        .iter()
        .filter(|hold| hold.status == Status::Proposed(Why::Confirm));
    CaseSummary {
        case: name_of(&row.policy, case.id),
        tenant: row.tenant.clone(),
        state: match case.closed {
            _ if case.is_void() => CaseState::Void,
            None => CaseState::Open,
            Some(_) => CaseState::Closed,
        },
        opened: times.at(case.opened),
        closed: case.closed.map(|closed| times.at(closed)),
        severity: case.marks.iter().map(|mark| mark.severity).max(),
        // What was wrong never was one.
        offence: if case.is_void() { 0 } else { case.offence() },
        sanction: in_force.filter_map(|hold| hold.suffered()).max(),
        proposed: waiting.clone().map(|hold| hold.step.sanction).max(),
        waiting: {
            let mut all: Vec<_> = waiting.clone().map(|hold| hold.step.sanction).collect();
            all.sort_by_key(|sanction| std::cmp::Reverse(*sanction));
            all
        },
        observed: {
            let holds = case.holds.iter();
            let observed = holds.filter(|hold| hold.status == Status::Proposed(Why::Observed));
            let mut all: Vec<_> = observed.map(|hold| hold.step.sanction).collect();
            all.sort_by_key(|sanction| std::cmp::Reverse(*sanction));
            all
        },
        deadline: waiting
            .filter_map(|hold| hold.deadline)
            .min()
            .map(|deadline| times.at(deadline)),
    }
}

impl Shelf {
    /// Cases, oldest first: all, or one tenant's; the open ones only, unless `all`.
    ///
    /// # Errors
    ///
    /// The record book cannot be read; nothing is known of the tenant.
    pub fn cases(&self, tenant: Option<&str>, all: bool) -> Result<Vec<CaseSummary>, NodeError> {
        if let Some(tenant) = tenant {
            self.must_know(tenant)?;
        }
        let rows = self.ledger.cases(tenant, !all).map_err(shelf::unread)?;
        Ok(rows.iter().map(|row| summary(row, self.times)).collect())
    }

    /// One case, with everything that belongs to it.
    ///
    /// # Errors
    ///
    /// There is none of this name, or the record book cannot be read.
    pub fn case(&self, tenant: &str, name: &CaseName) -> Result<CaseDetails, NodeError> {
        self.must_know(tenant)?;
        let rows = self.ledger.cases(Some(tenant), false);
        let rows = rows.map_err(shelf::unread)?;
        let is_it = |row: &&CaseRow| row.policy == name.policy && row.case.id == name.number;
        let row = rows
            .iter()
            .find(is_it)
            .ok_or_else(|| no_case(tenant, name))?;
        let before = rows
            .iter()
            .filter(|other| other.policy == row.policy && other.case.id < row.case.id)
            .filter_map(|other| other.case.closed)
            .max();
        let from = before
            .unwrap_or(Moment(0))
            .max(row.case.opened.minus(BEFORE));
        let to = row.case.closed.unwrap_or(self.times.now);
        let mut details = self.without_lists(row)?;
        let heard = self.heard(tenant, from, MOST_HEARD)?;
        details.heard = heard
            .into_iter()
            .filter(|(at, _)| *at <= to)
            .map(|(_, heard)| heard)
            .collect();
        details.notices = self
            .told(tenant, from)?
            .into_iter()
            .filter(|told| told.case.as_ref() == Some(&details.summary.case))
            .collect();
        details.charges = self
            .charged(tenant, row.case.opened)?
            .into_iter()
            .filter(|(at, charged)| *at <= to && charged.policy == row.policy)
            .map(|(_, charged)| Charged {
                void: row.case.void,
                ..charged
            })
            .collect();
        details.clocks = self.clocks(tenant)?;
        Ok(details)
    }

    /// A case, without what was heard, told and charged.
    pub(super) fn without_lists(&self, row: &CaseRow) -> Result<CaseDetails, NodeError> {
        let times = self.times;
        let CaseRow {
            tenant,
            policy,
            case,
        } = row;
        let mut all: Vec<_> = case
            .holds
            .iter()
            .map(|hold| holds::of_case(tenant, policy, case, hold, times))
            .collect();
        holds::sort(&mut all);
        let record = self.record(tenant)?.unwrap_or_default();
        let next = match case.closed {
            Some(_) => Vec::new(),
            None => {
                let mut next = self.study(|study| next_steps(tenant, &record, study));
                next.retain(|step| &step.policy == policy);
                next
            }
        };
        let mut notes = self.noted(tenant)?;
        notes.retain(|note| note.case == name_of(policy, case.id));
        Ok(CaseDetails {
            summary: summary(row, times),
            marks: case
                .marks
                .iter()
                .map(|mark| MarkStatus {
                    at: times.at(mark.at),
                    severity: mark.severity,
                    counted: mark.counted,
                    fresh: mark.fresh,
                    offence: mark.offence,
                })
                .collect(),
            holds: all,
            next,
            evidence: Evidence {
                // Told with its times on the wall clock.
                seen: BTreeMap::new(),
                ..case.evidence.without(&record.voided, policy)
            },
            seen: case
                .evidence
                .seen
                .iter()
                .map(|(kind, seen)| {
                    let between = SeenBetween {
                        first: times.at(seen.first),
                        last: times.at(seen.last),
                        let_out: seen.let_out,
                        from: seen.around.from.iter().cloned().collect(),
                        ports: seen.around.ports.iter().copied().collect(),
                    };
                    (kind.trim_matches(['(', ')']).to_owned(), between)
                })
                .collect(),
            heard: Vec::new(),
            notices: Vec::new(),
            notes,
            charges: Vec::new(),
            clocks: Vec::new(),
        })
    }
}

/// There is no such case.
pub(super) fn no_case(tenant: &str, name: &CaseName) -> NodeError {
    NodeError::NotFound {
        what: format!(
            "{tenant:?} has no case {name}; `limiter case list --tenant {tenant} --all` lists them"
        ),
    }
}
