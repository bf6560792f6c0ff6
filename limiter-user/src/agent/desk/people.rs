//! What people ask the desk, and say of reports.

use std::collections::BTreeMap;

use log::info;
use serde_json::Value;

use super::{
    super::judiciary::{submission, unheard},
    Counting, Desk, about, outcome,
    paper::{Paper, Saying},
};
use crate::{
    complaint::{Attribution, Report},
    control::{
        node::NodeError,
        peer::Peer,
        routes_complaints::{ComplaintDesk, ComplaintFilter, ComplaintWord},
    },
    court::{CourtError, Now, Submission},
    ledger::{ComplaintRow, Ledger, LedgerError},
    offence::{Action, Moment, Part, Per, Record, Signal},
    report::complaint::{
        ComplaintClock, ComplaintDetails, ComplaintOutcome, ComplaintState, ComplaintSummary,
    },
};

/// How many reports are listed at once.
const MOST_LISTED: usize = 1_000;

impl ComplaintDesk for Desk {
    fn most_bytes(&self) -> usize {
        self.around.rules().0.bytes
    }

    fn hand_in(&self, bytes: &[u8], by: &Peer) -> Result<ComplaintOutcome, NodeError> {
        let taken = self.take_in(bytes, Some(by));
        let taken = taken.map_err(|error| unheard(&error))?;
        let mut outcome = taken.outcome;
        if let Some(refusal) = taken.refusal {
            outcome.why = format!("{refusal}; {}", refusal.advice());
        }
        Ok(outcome)
    }

    fn list(&self, filter: &ComplaintFilter) -> Result<Vec<ComplaintSummary>, NodeError> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let tenant = filter.tenant.as_deref();
        let rows = self.ask(|ledger| ledger.complaint_list(&states, tenant, MOST_LISTED))?;
        let now = self.court.clock();
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        let summaries = rows.iter().map(|row| {
            let record = row.tenant.as_ref().map(|tenant| {
                let kept = records.entry(tenant.clone());
                &*kept.or_insert_with(|| self.court.record(tenant).0)
            });
            summary(row, &Paper::read(row), record, now)
        });
        Ok(summaries.collect())
    }

    fn show(&self, id: &str) -> Result<ComplaintDetails, NodeError> {
        let row = self.find(id)?;
        let actions = self.ask(|ledger| ledger.came_of(&row.id))?;
        let actions: Vec<Action> = actions
            .and_then(|actions| serde_json::from_value(actions).ok())
            .unwrap_or_default();
        let paper = Paper::read(&row);
        let now = self.court.clock();
        let record = row
            .tenant
            .as_ref()
            .map(|tenant| self.court.record(tenant).0);
        Ok(ComplaintDetails {
            complaint: summary(&row, &paper, record.as_ref(), now),
            followed: followed(&actions),
            raw: String::from_utf8_lossy(&row.raw).into_owned(),
            bytes: Some(paper.bytes),
            facts: row.report,
        })
    }

    fn say(
        &self,
        id: &str,
        word: &ComplaintWord,
        reason: &str,
        by: &Peer,
    ) -> Result<ComplaintOutcome, NodeError> {
        let _turn = self.turn();
        let row = self.find(id)?;
        let mut paper = Paper::read(&row);
        let what = match word {
            ComplaintWord::Assign { tenant } => Some(tenant.clone()),
            ComplaintWord::Handled { clock } => Some(clock.clone()),
            ComplaintWord::Dismiss => None,
        };
        let now = self.court.clock();
        paper.said.push(Saying {
            wall: now.wall.millis(),
            by: serde_json::to_value(by).unwrap_or(Value::Null),
            said: word.as_str().to_owned(),
            what,
            reason: reason.to_owned(),
        });
        let said = match word {
            ComplaintWord::Assign { tenant } => self.assign(row, paper, tenant, (by, reason)),
            ComplaintWord::Dismiss => self.dismiss(row, &paper, (by, reason)),
            ComplaintWord::Handled { clock } => self.handled(row, &paper, clock, (by, reason)),
        }?;
        info!("{by}: {} {}: {reason}", word.as_str(), said.id);
        Ok(said)
    }
}

impl Desk {
    fn assign(
        &self,
        mut row: ComplaintRow,
        mut paper: Paper,
        tenant: &str,
        (by, reason): (&Peer, &str),
    ) -> Result<ComplaintOutcome, NodeError> {
        let id = &row.id;
        let counts = row.state == ComplaintState::Attributed.as_str();
        let wrongly = row.tenant.clone().filter(|_| counts);
        if wrongly.as_deref() == Some(tenant) {
            return Err(refused(
                format!("{id} counts against {tenant:?} already"),
                "if that is wrong, assign it to whom it is about, or `limiter complaint dismiss`",
            ));
        }
        let (record, ..) = self.court.record(tenant);
        if record.voided.is_complaint(id) {
            return Err(refused(
                format!("{id} was taken out of the count of {tenant:?} by a person"),
                "`limiter offence add` records by hand what was right all the same",
            ));
        }
        let Some(report) = paper.report.clone() else {
            return Err(refused(
                format!("{id} cannot be read, and so not count"),
                "`limiter offence add` records by hand what is true in it",
            ));
        };
        if !report.feedback.accuses() {
            let kind = report.feedback.as_str();
            return Err(refused(
                format!("{id} is a report of the kind {kind}, which accuses nobody of abuse"),
                "`limiter complaint dismiss`, or `limiter offence add` if there was abuse",
            ));
        }
        self.around.knows(tenant)?;
        let happened = match &paper.attribution {
            Some(Attribution::Tenant {
                tenant: proved,
                happened,
                ..
            }) if proved == tenant => *happened,
            _ => None,
        };
        paper.about = about(&report, &Default::default(), None);
        // A person stands behind it.
        paper.reporter = None;
        row.tenant = Some(tenant.to_owned());
        row.state = ComplaintState::Attributed.as_str().to_owned();
        row.why = format!("{by} says so: {reason}");
        row.report = paper.to_json();
        let id = row.id.clone();
        // It counts for the first time against this tenant, whatever was heard of it before.
        let before = self.ask(|ledger| ledger.came_of(&id))?;
        let key = before.map(|_| again(&id, paper.said.len()));
        let first = wrongly
            .iter()
            .map(|whom| withdrawn(whom, &id, (by, reason)));
        let counting = Counting {
            key,
            first: first.collect(),
            by: Some(by),
            reason: Some(reason.to_owned()),
        };
        let counted = self.count(tenant, &report, happened, row, counting);
        let mut outcome = counted.map_err(|error| unheard(&error))?;
        if let Some(whom) = wrongly {
            outcome.followed.extend(self.stands(&whom, &id));
        }
        Ok(outcome)
    }

    /// What became of a complaint that counted against `tenant` and counts no more.
    fn stands(&self, tenant: &str, id: &str) -> Vec<String> {
        let (record, ..) = self.court.record(tenant);
        let mut lines = vec![format!("it counts no more against {tenant}")];
        for (policy, kept) in &record.ladders {
            let open = kept.open.iter().map(|case| (case, &kept.evidence));
            let closed = kept.closed.iter().map(|case| (case, &case.evidence));
            for (case, evidence) in open.chain(closed) {
                if evidence.complaints.listed.contains(id) && !case.is_void() {
                    lines.push(format!(
                        "case {policy}/{} of {tenant} rests on it too, and stands: if it was wrong, \
                         `limiter case close {tenant} {policy}/{} --acquit --reason …`",
                        case.id, case.id
                    ));
                }
            }
        }
        let charge = format!("{} {id}\n", Per::Complaint.as_str());
        if record.charged.keys().any(|key| key.starts_with(&charge)) {
            lines
                .push("what was charged for it stands in the record: credit it by hand".to_owned());
        }
        lines
    }

    fn dismiss(
        &self,
        mut row: ComplaintRow,
        paper: &Paper,
        (by, reason): (&Peer, &str),
    ) -> Result<ComplaintOutcome, NodeError> {
        match ComplaintState::of(&row.state) {
            Some(ComplaintState::Dismissed) => {
                return Err(refused(
                    format!("{} was dismissed already", row.id),
                    "nothing is left to do",
                ));
            }
            Some(ComplaintState::Attributed) => {
                if let Some(tenant) = row.tenant.clone() {
                    return self.take_back(row, paper, &tenant, (by, reason));
                }
            }
            _ => {}
        }
        row.state = ComplaintState::Dismissed.as_str().to_owned();
        row.why = format!("{by}: {reason}");
        row.report = paper.to_json();
        self.keep(&row).map_err(|error| unheard(&error))
    }

    /// Dismisses one that counted: it counts no more.
    fn take_back(
        &self,
        mut row: ComplaintRow,
        paper: &Paper,
        tenant: &str,
        (by, reason): (&Peer, &str),
    ) -> Result<ComplaintOutcome, NodeError> {
        row.state = ComplaintState::Dismissed.as_str().to_owned();
        row.why = format!("{by}: {reason}");
        row.report = paper.to_json();
        let mut outcome = outcome(&row, false);
        let mut taken = withdrawn(tenant, &row.id, (by, reason));
        taken.complaint = Some(row);
        let heard = self.court.hear(vec![taken], &[]);
        heard.map_err(|error| unheard(&error))?;
        outcome.followed = self.stands(tenant, &outcome.id);
        Ok(outcome)
    }

    fn handled(
        &self,
        mut row: ComplaintRow,
        paper: &Paper,
        clock: &str,
        (by, reason): (&Peer, &str),
    ) -> Result<ComplaintOutcome, NodeError> {
        let counts = row.state == ComplaintState::Attributed.as_str();
        let Some(tenant) = row.tenant.clone().filter(|_| counts) else {
            return Err(refused(
                format!("{} counts against nobody, and has no clocks", row.id),
                "`limiter complaint assign` has it count, `limiter complaint dismiss` ends it",
            ));
        };
        let (record, ..) = self.court.record(&tenant);
        let key = format!("{}\n{clock}", row.id);
        if !record.clocks.contains_key(&key) {
            return Err(NodeError::NotFound {
                what: format!(
                    "no policy of {tenant:?} has a clock {clock:?} for {}",
                    row.id
                ),
            });
        }
        row.report = paper.to_json();
        let mut outcome = outcome(&row, false);
        let signal = Signal::Handled {
            tenant,
            complaint: row.id.clone(),
            clock: clock.to_owned(),
            by: by.to_string(),
        };
        let mut handled = submission(signal, reason, by);
        handled.complaint = Some(row);
        let heard = self.court.hear(vec![handled], &[]);
        let verdicts = heard.map_err(|error| unheard(&error))?;
        outcome.followed = verdicts
            .iter()
            .flat_map(|verdict| followed(&verdict.actions))
            .collect();
        Ok(outcome)
    }

    /// The report with this id, or the only one whose id begins so.
    fn find(&self, id: &str) -> Result<ComplaintRow, NodeError> {
        let ids = self.ask(|ledger| ledger.complaint_ids(id))?;
        let found = match ids.as_slice() {
            [found] => found,
            [found, ..] if found == id => found,
            [] => {
                return Err(NodeError::NotFound {
                    what: format!("there is no complaint {id:?}"),
                });
            }
            _ => {
                return Err(refused(
                    format!("several complaints begin with {id:?}"),
                    "give more of it: `limiter complaint list` shows them",
                ));
            }
        };
        let row = self.ask(|ledger| ledger.complaint(found))?;
        row.ok_or_else(|| NodeError::NotFound {
            what: format!("there is no complaint {id:?}"),
        })
    }

    fn ask<T>(&self, ask: impl FnOnce(&Ledger) -> Result<T, LedgerError>) -> Result<T, NodeError> {
        let asked = self.court.ledger(ask);
        asked.map_err(|error| unheard(&CourtError::from(error)))
    }
}

fn refused(what: String, remedy: &str) -> NodeError {
    NodeError::Refused {
        what,
        remedy: remedy.to_owned(),
    }
}

/// The key of a complaint that counted before, against somebody else.
fn again(id: &str, said: usize) -> String {
    format!("{id}\n{said}")
}

/// That a complaint counts no more against `tenant`.
fn withdrawn(tenant: &str, id: &str, (by, reason): (&Peer, &str)) -> Submission {
    let signal = Signal::Withdrawn {
        tenant: tenant.to_owned(),
        complaint: id.to_owned(),
        by: by.to_string(),
    };
    submission(signal, reason, by)
}

fn summary(
    row: &ComplaintRow,
    paper: &Paper,
    record: Option<&Record>,
    now: Now,
) -> ComplaintSummary {
    let report = paper.report.as_ref();
    let reporter = |report: &Report| {
        let reporter = &report.reporter;
        reporter
            .verified
            .clone()
            .or_else(|| reporter.address.clone())
    };
    ComplaintSummary {
        id: row.id.clone(),
        received: Moment::of_millis(row.received).timestamp(),
        state: ComplaintState::of(&row.state).unwrap_or(ComplaintState::Unknown),
        tenant: row.tenant.clone(),
        why: row.why.clone(),
        reporter: report.and_then(reporter),
        feedback: report.map(|report| report.feedback.as_str().to_owned()),
        clocks: record.map_or_else(Vec::new, |record| clocks(&row.id, paper, record, now)),
    }
}

fn clocks(id: &str, paper: &Paper, record: &Record, now: Now) -> Vec<ComplaintClock> {
    let from = format!("{id}\n");
    let all = record.clocks.range(from.clone()..);
    all.map_while(|(key, due)| Some((key.strip_prefix(&from)?, due)))
        .map(|(clock, due)| {
            let done = paper.said.iter().find(|saying| {
                saying.said == "complaint handled" && saying.what.as_deref() == Some(clock)
            });
            ComplaintClock {
                clock: clock.to_owned(),
                due: due.map(|due| now.wall(due).timestamp()),
                done: done.map(|done| Moment::of_millis(done.wall).timestamp()),
            }
        })
        .collect()
}

/// What came of it, for people.
pub(super) fn followed(actions: &[Action]) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::OpenCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant} is opened")),
        Action::CloseCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant} is closed")),
        Action::Apply {
            tenant, sanction, ..
        } => Some(format!("{tenant} is under {}", sanction.as_str())),
        Action::LiftSanction { tenant, sanction } => {
            Some(format!("{} of {tenant} is lifted", sanction.as_str()))
        }
        Action::Charge { tenant, policy, .. } => {
            Some(format!("{tenant} is charged by policy {policy}"))
        }
        Action::InvalidComplaint {
            policy,
            missing,
            format,
            ..
        } => {
            let mut lacks: Vec<String> = missing.iter().map(lacking).collect();
            if *format {
                lacks.push("its format is not accepted".to_owned());
            }
            Some(format!(
                "policy {policy} does not count it: {}",
                lacks.join(", ")
            ))
        }
        Action::Duplicate { .. } => {
            Some("it was heard before, and does not count again".to_owned())
        }
        Action::NoPolicy { tenant } => Some(format!("no policy of {tenant} speaks of it")),
        Action::Notify(_) => None,
    };
    actions.iter().filter_map(line).collect()
}

fn lacking(part: &Part) -> String {
    format!("it lacks {}", part.as_str())
}
