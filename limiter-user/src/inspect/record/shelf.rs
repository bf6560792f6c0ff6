//! The record book, open to be read in.

use std::{collections::BTreeMap, path::Path};

use super::{Times, is_worth_telling, name_of, words};
use crate::{
    control::node::NodeError,
    court::Study,
    ledger::{Ledger, LedgerError},
    offence::{Book, Moment, Notice, Reading, Record, Signal, Span, Status, Word},
    report::case::{Charged, ComplaintClock, Delivery, Heard, Note, Told},
};

/// The record book, open to be read in: by the agent beside its court, or where no agent runs.
#[derive(Debug)]
pub struct Shelf {
    pub(super) ledger: Ledger,
    pub(super) book: Book,
    pub(super) times: Times,
}

/// Whether `end` follows at once from what was said at `said`.
fn is_soon(said: Moment, end: Moment) -> bool {
    const SOON: Span = Span::seconds(5);
    end > said && end <= said.plus(SOON)
}

/// The record book cannot be read.
pub(super) fn unread(error: LedgerError) -> NodeError {
    NodeError::Failed {
        what: error.to_string(),
        remedy: error.remedy().to_owned(),
    }
}

impl Shelf {
    /// Opens the record book in `state_dir`; `book` says who is bound by what.
    ///
    /// # Errors
    ///
    /// It cannot be read, or there is none yet.
    pub fn open(state_dir: &Path, book: Book, times: Times) -> Result<Self, NodeError> {
        let ledger = Self::ledger(state_dir)?.ok_or_else(|| NodeError::NotFound {
            what: format!(
                "there is no record book in {}: nothing was ever recorded",
                state_dir.display()
            ),
        })?;
        Ok(Self {
            ledger,
            book,
            times,
        })
    }

    /// Opens the record book where no agent runs: `reading` is what the clocks show; `None` if
    /// there is no record book yet.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn alone(
        state_dir: &Path,
        book: Book,
        reading: &Reading,
    ) -> Result<Option<Self>, NodeError> {
        let Some(ledger) = Self::ledger(state_dir)? else {
            return Ok(None);
        };
        let clock = ledger.clock().map_err(unread)?;
        let blank = clock.is_none();
        let now = clock.unwrap_or_default().look(reading, blank);
        Ok(Some(Self {
            ledger,
            book,
            times: Times {
                now,
                wall: reading.wall,
            },
        }))
    }

    fn ledger(state_dir: &Path) -> Result<Option<Ledger>, NodeError> {
        Ledger::read_only(state_dir).map_err(unread)
    }

    /// All records, for [`add_to_status`](super::add_to_status).
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub fn records(&self) -> Result<BTreeMap<String, Record>, NodeError> {
        Ok(self.ledger.state().map_err(unread)?.records)
    }

    /// Looks at all of `records`.
    pub fn study_all<T>(
        &self,
        records: &BTreeMap<String, Record>,
        look: impl FnOnce(&Study<'_>) -> T,
    ) -> T {
        look(&Study {
            records,
            book: &self.book,
            now: self.times.now,
            wall: self.times.wall,
        })
    }

    pub(super) fn study<T>(&self, look: impl FnOnce(&Study<'_>) -> T) -> T {
        self.study_all(&BTreeMap::new(), look)
    }

    pub(super) fn record(&self, tenant: &str) -> Result<Option<Record>, NodeError> {
        self.ledger.record(tenant).map_err(unread)
    }

    /// Whoever is no tenant now and has no record is nobody.
    pub(super) fn must_know(&self, tenant: &str) -> Result<(), NodeError> {
        let known = self.book.tenants.contains_key(tenant)
            || self
                .record(tenant)?
                .is_some_and(|record| is_worth_telling(&record))
            || !self
                .ledger
                .cases(Some(tenant), false)
                .map_err(unread)?
                .is_empty()
            || !self
                .ledger
                .signals(tenant, Moment(0), 1)
                .map_err(unread)?
                .is_empty();
        if known {
            return Ok(());
        }
        Err(NodeError::UnknownTenant {
            name: tenant.to_owned(),
        })
    }

    /// What was heard since `since`, at most `most` of the latest, each with its moment.
    pub(super) fn heard(
        &self,
        tenant: &str,
        since: Moment,
        most: usize,
    ) -> Result<Vec<(Moment, Heard)>, NodeError> {
        let rows = self.ledger.signals(tenant, since, most).map_err(unread)?;
        let ended = self.ended(tenant, since)?;
        let heard = rows
            .into_iter()
            .filter(|row| row.kind != "sent")
            .map(|row| {
                let at = Moment::of_millis(row.at);
                let signal = serde_json::from_value::<Signal>(row.body.clone());
                let text = match &signal {
                    Ok(Signal::Word {
                        word: Word::Review, ..
                    }) if !ended.iter().any(|end| is_soon(at, *end)) => {
                        words::REVIEW_IN_VAIN.to_owned()
                    }
                    Ok(signal) => words::signal(signal),
                    Err(_) => row.body.to_string(),
                };
                let happened = signal.ok().and_then(|signal| signal.happened());
                let followed = match row.actions {
                    serde_json::Value::Array(actions) => actions,
                    _ => Vec::new(),
                };
                let heard = Heard {
                    id: row.id,
                    time: Moment::of_millis(row.wall).timestamp(),
                    // The wall clock as it was then, less the time it was on its way.
                    happened: happened.map(|happened| {
                        let on_the_way = at.since(happened.min(at));
                        Moment::of_millis(row.wall).minus(on_the_way).timestamp()
                    }),
                    kind: row.kind,
                    text,
                    by: row.by.as_ref().map(words::who),
                    reason: row.reason,
                    followed: followed
                        .into_iter()
                        .filter_map(|action| serde_json::from_value(action).ok())
                        .filter_map(|action| words::action(&action, self.times))
                        .collect(),
                    evidence: row.evidence,
                };
                (Moment::of_millis(row.at), heard)
            });
        Ok(heard.collect())
    }

    /// When anything of the tenant's ended since `since`: a sanction, or what only waited.
    fn ended(&self, tenant: &str, since: Moment) -> Result<Vec<Moment>, NodeError> {
        let sanctions = self.ledger.sanctions(tenant, since).map_err(unread)?;
        let lifted = sanctions.iter().filter_map(|row| row.lifted);
        let cases = self.ledger.cases(Some(tenant), false).map_err(unread)?;
        let holds = cases.iter().flat_map(|row| &row.case.holds);
        let over = holds.filter_map(|hold| match hold.status {
            Status::Ended { at, .. } => Some(at),
            Status::InForce | Status::Proposed(_) => None,
        });
        Ok(lifted.map(Moment::of_millis).chain(over).collect())
    }

    /// What people were told since `since`.
    pub(super) fn told(&self, tenant: &str, since: Moment) -> Result<Vec<Told>, NodeError> {
        let rows = self.ledger.notices(tenant, since).map_err(unread)?;
        let told = rows.into_iter().map(|row| {
            let notice = serde_json::from_value::<Notice>(row.notice.clone());
            let (to, case, text) = match &notice {
                Ok(notice) => (
                    notice.to.as_str().to_owned(),
                    notice
                        .policy
                        .as_ref()
                        .zip(notice.case)
                        .map(|(policy, case)| name_of(policy, case)),
                    words::notice(notice, self.times),
                ),
                Err(_) => (String::new(), None, row.notice.to_string()),
            };
            Told {
                time: Moment::of_millis(row.wall).timestamp(),
                to,
                case,
                text,
                deliveries: row
                    .deliveries
                    .into_iter()
                    .map(|delivery| Delivery {
                        channel: delivery.channel,
                        next: (delivery.state == "waiting" && delivery.said.is_some())
                            .then(|| Moment::of_millis(delivery.next).timestamp()),
                        state: delivery.state,
                        attempts: delivery.attempts,
                        said: delivery.said,
                    })
                    .collect(),
            }
        });
        Ok(told.collect())
    }

    /// What was charged since `since`, each with its moment.
    pub(super) fn charged(
        &self,
        tenant: &str,
        since: Moment,
    ) -> Result<Vec<(Moment, Charged)>, NodeError> {
        let rows = self.ledger.charges(tenant, since).map_err(unread)?;
        let charged = rows.into_iter().map(|row| {
            let at = Moment::of_millis(row.at);
            let charged = Charged {
                time: self.times.at(at),
                bill: row.bill,
                cause: row.cause,
                policy: row.policy,
                cents: row.cents,
                currency: row.currency,
                plus: serde_json::from_value(row.plus).unwrap_or_default(),
                proposed: row.proposed,
                void: false,
            };
            (at, charged)
        });
        Ok(charged.collect())
    }

    /// What people noted.
    pub(super) fn noted(&self, tenant: &str) -> Result<Vec<Note>, NodeError> {
        let rows = self.ledger.notes(tenant).map_err(unread)?;
        let notes = rows.into_iter().map(|row| Note {
            time: Moment::of_millis(row.wall).timestamp(),
            case: name_of(&row.policy, row.number),
            by: words::who(&row.by),
            text: row.text,
        });
        Ok(notes.collect())
    }

    /// What is to be done about complaints.
    pub(super) fn clocks(&self, tenant: &str) -> Result<Vec<ComplaintClock>, NodeError> {
        let record = self.record(tenant)?.unwrap_or_default();
        let clocks = record.clocks.iter().map(|(key, due)| {
            let (complaint, clock) = key.split_once('\n').unwrap_or((key, ""));
            ComplaintClock {
                complaint: complaint.to_owned(),
                clock: clock.to_owned(),
                due: due.map(|due| self.times.at(due)),
            }
        });
        Ok(clocks.collect())
    }
}
