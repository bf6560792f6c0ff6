//! The desk: where reports of abuse come in, by the Maildir or by hand.
//!
//! A report is read, held against what this node recorded, and kept; where that proves whose mail it
//! is about, the court hears of it in the same transaction. Its id is the key, so that a report that
//! comes again, also after a crash, counts once.
//!
//! What counts is bounded, because strangers write reports:
//! - Complaints about one Message-ID count once against a tenant, unless this node's records tell that
//!   they were two mails (another message in the queue, another connection): else whoever changes a
//!   header counts twice, and a spammer who gives all mails the same Message-ID only once.
//! - Of whom nobody vouches for (no operator who handed it in, no trusted reporter), [`BY_REPORTER`]
//!   count a day against a tenant, and [`BY_STRANGERS`] of all of them together.
//!
//! What is beyond that is kept, and a person may have it count.

mod around;
mod mailbox;
mod paper;
mod people;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use log::{info, warn};
use serde_json::Value;

pub(super) use self::around::owners_of;
pub use self::{
    around::{Around, NodeAround},
    mailbox::Mailroom,
};
use self::{
    paper::{Paper, Raw},
    people::followed,
};
use crate::{
    complaint::{
        Attribution, NotCounted, Refusal, Report, Vouched, attribute, attribute::Ground, parse,
    },
    control::peer::Peer,
    court::{Court, CourtError, Now, Submission, Verdict},
    ledger::{ComplaintRow, Evidence, Waiting},
    offence::{Audience, Moment, Notice, NoticeEvent, Signal, Span},
    policy::image::NODE_NAME,
    report::{
        complaint::{ComplaintOutcome, ComplaintState},
        problem::Problem,
    },
};

/// How many complaints of one reporter count a day against a tenant, if nobody vouches for it.
pub const BY_REPORTER: u64 = 5;
/// How many complaints of all reporters for whom nobody vouches count a day against a tenant.
pub const BY_STRANGERS: u64 = 100;
const DAY: Span = Span::days(1);
/// How many are kept in each state but `attributed`; the Maildir has them all the same.
const MOST_KEPT: usize = 5_000;
/// How long until people are told again that complaints wait.
const TOLD_AGAIN: Span = Span::hours(1);

/// Where reports of abuse come in.
pub struct Desk {
    court: Arc<Court>,
    around: Box<dyn Around>,
    /// One after the other: what counts already is looked up before another one does.
    turn: Mutex<()>,
}

/// What became of a report.
pub struct Taken {
    /// For people.
    pub outcome: ComplaintOutcome,
    /// Why it cannot be read.
    pub refusal: Option<Refusal>,
}

/// A report on its way into the record book.
struct Filing<'f> {
    report: Report,
    attribution: Attribution,
    raw: Raw<'f>,
    now: Now,
    /// Who handed it in.
    by: Option<&'f Peer>,
}

/// How a complaint comes to count.
struct Counting<'c> {
    /// What tells it from all others in the record book; `None`: its id.
    key: Option<String>,
    /// What is heard before it, in the same transaction.
    first: Vec<Submission>,
    /// Who says so.
    by: Option<&'c Peer>,
    /// Why.
    reason: Option<String>,
}

impl Desk {
    /// A desk before `court`.
    #[must_use]
    pub fn new(court: Arc<Court>, around: Box<dyn Around>) -> Self {
        Self {
            court,
            around,
            turn: Mutex::new(()),
        }
    }

    /// Takes a report in, handed over by a person if `by` is given. When this returns it is on the
    /// disk.
    ///
    /// # Errors
    ///
    /// It cannot be recorded: then nothing of it happened.
    pub fn take_in(&self, bytes: &[u8], by: Option<&Peer>) -> Result<Taken, CourtError> {
        let _turn = self.turn();
        let (limits, trust) = self.around.rules();
        let raw = Raw::of(bytes);
        let now = self.court.clock();
        let report = match parse(bytes, &limits, &trust) {
            Ok(report) => report,
            Err(refusal) => {
                let outcome = self.refuse(&raw, &refusal.to_string(), now)?;
                let refusal = Some(refusal);
                return Ok(Taken { outcome, refusal });
            }
        };
        let vouched = by.map_or(Vouched::No, |_| Vouched::Operator);
        let before = self.court.ledger(|ledger| ledger.complaint(&report.id))?;
        if let Some(row) = &before
            && !may_change(row, &report, vouched)
        {
            return Ok(known(row));
        }
        let attribution = attribute(&report, &*self.around.facts(), vouched);
        let filing = Filing {
            report,
            attribution,
            raw,
            now,
            by,
        };
        let outcome = self.file(filing, before.as_ref())?;
        Ok(Taken {
            outcome,
            refusal: None,
        })
    }

    fn file(
        &self,
        filing: Filing<'_>,
        before: Option<&ComplaintRow>,
    ) -> Result<ComplaintOutcome, CourtError> {
        let Filing {
            report,
            attribution,
            by,
            now,
            ..
        } = &filing;
        let mut paper = Paper::of(report, attribution, &filing.raw);
        if let Some(row) = before {
            paper.said = Paper::read(row).said;
        }
        let stands = by.is_some() || report.reporter.trusted;
        paper.reporter = (!stands).then(|| reporter(report));
        let tenant = match attribution {
            Attribution::Tenant { tenant, .. } => Some(tenant.clone()),
            Attribution::Ambiguous { .. } | Attribution::Unknown { .. } => None,
        };
        let row = |state: ComplaintState, why: String, paper: &Paper| ComplaintRow {
            id: report.id.clone(),
            received: before.map_or(now.wall.millis(), |row| row.received),
            tenant: tenant.clone(),
            state: state.as_str().to_owned(),
            why,
            report: paper.to_json(),
            raw: filing.raw.kept.to_vec(),
        };
        if !report.feedback.accuses() {
            let kind = report.feedback.as_str().to_owned();
            let why = NotCounted::AccusesNobody { kind }.to_string();
            return self.keep(&row(ComplaintState::NotCounted, why, &paper));
        }
        let (tenant, happened, grounds) = match attribution {
            Attribution::Tenant {
                tenant,
                happened,
                grounds,
            } => (tenant, *happened, grounds),
            Attribution::Ambiguous { why, .. } | Attribution::Unknown { why } => {
                if let Some(row) = before.filter(|row| waits(row)) {
                    return Ok(known(row).outcome);
                }
                let state = match attribution {
                    Attribution::Ambiguous { .. } => ComplaintState::Ambiguous,
                    _ => ComplaintState::Unknown,
                };
                return self.keep(&row(state, why.clone(), &paper));
            }
        };
        paper.about = about(report, grounds, happened);
        if let Some(other) = self.same_mail(tenant, report, &paper)? {
            let why = format!("it is about the same mail as {other}, which counts");
            return self.keep(&row(ComplaintState::Duplicate, why, &paper));
        }
        if let Some(reporter) = &paper.reporter
            && let Some(why) = self.too_many(tenant, reporter, *now)?
        {
            return self.keep(&row(ComplaintState::NotCounted, why, &paper));
        }
        let why: Vec<String> = grounds.iter().map(ToString::to_string).collect();
        let row = row(ComplaintState::Attributed, why.join("; "), &paper);
        let counting = Counting {
            key: None,
            first: Vec::new(),
            by: *by,
            reason: by.map(|_| "handed in".to_owned()),
        };
        self.count(tenant, report, happened, row, counting)
    }

    /// Has a complaint count against `tenant`.
    fn count(
        &self,
        tenant: &str,
        report: &Report,
        happened: Option<Timestamp>,
        row: ComplaintRow,
        counting: Counting<'_>,
    ) -> Result<ComplaintOutcome, CourtError> {
        let now = self.court.clock();
        let wall = happened.map_or_else(|| report.happened(now.wall), Moment::from);
        let complaint = match report.complaint(tenant, now.engine(wall)) {
            Ok(complaint) => complaint,
            Err(why) => {
                let state = ComplaintState::NotCounted.as_str().to_owned();
                let why = why.to_string();
                return self.keep(&ComplaintRow { state, why, ..row });
            }
        };
        let outcome = outcome(&row, false);
        let submission = Submission {
            key: Some(counting.key.unwrap_or_else(|| report.id.clone())),
            by: counting
                .by
                .map(|by| serde_json::to_value(by).unwrap_or(Value::Null)),
            reason: counting.reason,
            evidence: vec![Evidence {
                kind: "complaint",
                body: Paper::read(&row).evidence(),
            }],
            complaint: Some(row),
            ..Submission::of(Signal::Complaint(complaint))
        };
        let mut all = counting.first;
        all.push(submission);
        let verdicts = self.court.hear(all, &[])?;
        let Some(Verdict {
            duplicate, actions, ..
        }) = verdicts.last()
        else {
            return Ok(outcome);
        };
        info!("complaint {} about {tenant:?}: {}", outcome.id, outcome.why);
        Ok(ComplaintOutcome {
            known: *duplicate,
            followed: followed(actions),
            ..outcome
        })
    }

    /// Keeps what does not count, or not yet.
    fn keep(&self, row: &ComplaintRow) -> Result<ComplaintOutcome, CourtError> {
        self.court.write(|page| {
            page.complaint(row)?;
            page.trim_complaints(&row.state, MOST_KEPT)
        })?;
        info!("complaint {}: {}: {}", row.id, row.state, row.why);
        Ok(outcome(row, false))
    }

    fn refuse(&self, raw: &Raw<'_>, why: &str, now: Now) -> Result<ComplaintOutcome, CourtError> {
        let id = format!("refused:{}", raw.digest());
        if let Some(row) = self.court.ledger(|ledger| ledger.complaint(&id))? {
            return Ok(outcome(&row, true));
        }
        self.keep(&ComplaintRow {
            id,
            received: now.wall.millis(),
            tenant: None,
            state: ComplaintState::Refused.as_str().to_owned(),
            why: why.to_owned(),
            report: Paper::unread(raw).to_json(),
            raw: raw.kept.to_vec(),
        })
    }

    /// Keeps that something came that could not even be read.
    fn unread(&self, name: &str, why: &str) {
        let _turn = self.turn();
        let note = format!("{name}: {why}");
        let raw = Raw::of(note.as_bytes());
        if let Err(error) = self.refuse(&raw, why, self.court.clock()) {
            warn!("{note}: {error}");
        }
    }

    /// The complaint about the same mail that counts already.
    fn same_mail(
        &self,
        tenant: &str,
        report: &Report,
        paper: &Paper,
    ) -> Result<Option<String>, CourtError> {
        // A person who assigned one has said that for the Message-ID.
        let names = [paper.about.clone(), about(report, &BTreeSet::new(), None)];
        for name in names.iter().flatten() {
            let found = self
                .court
                .ledger(|ledger| ledger.complaint_about(tenant, name))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Why another complaint of `reporter` does not count, if so many do already.
    fn too_many(
        &self,
        tenant: &str,
        reporter: &str,
        now: Now,
    ) -> Result<Option<String>, CourtError> {
        let since = now.wall.minus(DAY).millis();
        let (own, all) = self
            .court
            .ledger(|ledger| ledger.complaints_counted(tenant, reporter, since))?;
        Ok(if own >= BY_REPORTER {
            Some(format!(
                "{own} complaints of {reporter:?} count against {tenant:?} within a day already, and \
                 nobody vouches for it"
            ))
        } else if all >= BY_STRANGERS {
            Some(format!(
                "{all} complaints of reporters for whom nobody vouches count against {tenant:?} \
                 within a day already"
            ))
        } else {
            None
        })
    }

    /// Tells people that complaints wait, if there are any of which they were not told; at most once
    /// an hour.
    pub fn remind(&self) -> Result<(), CourtError> {
        let now = self.court.clock();
        let Waiting { count, latest } = self.court.ledger(|ledger| ledger.complaints_waiting())?;
        let Some((complaint, why, received)) = latest else {
            return Ok(());
        };
        let told = self.court.ledger(|ledger| ledger.last_told(NODE_NAME))?;
        let again = |told: i64| now.wall.minus(TOLD_AGAIN).millis() >= told;
        if told.is_some_and(|told| received <= told || !again(told)) {
            return Ok(());
        }
        self.court.tell(Notice {
            to: Audience::Operator,
            tenant: NODE_NAME.to_owned(),
            policy: None,
            case: None,
            event: NoticeEvent::Unassigned {
                complaint,
                why,
                waiting: count,
            },
        })
    }

    /// What is wrong, for `status`.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let waiting = self.court.ledger_soon(|ledger| ledger.complaints_waiting());
        let Some(Ok(Waiting { count, .. })) = waiting else {
            // The court says so itself.
            return Vec::new();
        };
        if count == 0 {
            return Vec::new();
        }
        let wait = if count == 1 {
            "complaint waits"
        } else {
            "complaints wait"
        };
        vec![Problem::warning(
            format!("{count} {wait} for a person to say whose mail it is about"),
            "limiter complaint list --state waiting; then limiter complaint assign, or dismiss",
        )]
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is known of a report may change by its coming again.
fn may_change(row: &ComplaintRow, report: &Report, vouched: Vouched) -> bool {
    match ComplaintState::of(&row.state) {
        Some(state) if state.waits() => true,
        // One too many, and now somebody stands behind it; or it accused nobody, and now it does: a
        // "not spam" must not shelter a mail from those who say otherwise.
        Some(ComplaintState::NotCounted) => {
            let before = Paper::read(row).report;
            let accused = before.is_some_and(|before| before.feedback.accuses());
            report.feedback.accuses() && (!accused || vouched == Vouched::Operator)
        }
        _ => false,
    }
}

fn waits(row: &ComplaintRow) -> bool {
    ComplaintState::of(&row.state).is_some_and(ComplaintState::waits)
}

fn known(row: &ComplaintRow) -> Taken {
    Taken {
        outcome: outcome(row, true),
        refusal: None,
    }
}

fn outcome(row: &ComplaintRow, known: bool) -> ComplaintOutcome {
    ComplaintOutcome {
        id: row.id.clone(),
        state: ComplaintState::of(&row.state).unwrap_or(ComplaintState::Unknown),
        known,
        tenant: row.tenant.clone(),
        why: row.why.clone(),
        followed: Vec::new(),
    }
}

/// What tells the mail that a report is about from the tenant's others, as far as it has a
/// Message-ID: that, and which mail it was by this node's records.
fn about(
    report: &Report,
    grounds: &BTreeSet<Ground>,
    recorded: Option<Timestamp>,
) -> Option<String> {
    let name = report.original.as_ref()?.message_id.as_deref()?;
    let queued = grounds.iter().find_map(|ground| match ground {
        Ground::Log { queue_id } => Some(queue_id),
        _ => None,
    });
    Some(match (queued, recorded) {
        (Some(queue_id), _) => format!("{name} queue {queue_id}"),
        (None, Some(time)) => format!("{name} sent {}", time.as_millisecond()),
        (None, None) => name.to_owned(),
    })
}

/// Who counts as one reporter. Anybody writes any From, so there is a bound on all of them, too.
fn reporter(report: &Report) -> String {
    let reporter = &report.reporter;
    let name = reporter.verified.as_ref().or(reporter.address.as_ref());
    name.map_or_else(|| "nobody".to_owned(), |name| name.to_lowercase())
}
