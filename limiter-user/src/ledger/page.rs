//! Writing: one page is one transaction.

use std::path::PathBuf;

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use super::LedgerError;
use crate::{
    notice::Planned,
    offence::{Action, Case, Clock, Moment, Notice, Reading, Record, Signal},
};

/// Something that was heard.
#[derive(Clone, Debug)]
pub struct Entry<'e> {
    /// What tells it from all others, where it may come twice.
    pub key: Option<&'e str>,
    /// What.
    pub signal: &'e Signal,
    /// When, in the engine's time.
    pub at: Moment,
    /// The clocks.
    pub reading: &'e Reading,
    /// Who said so, if it was a person.
    pub by: Option<&'e Value>,
    /// Why, in the person's words.
    pub reason: Option<&'e str>,
    /// What came of it.
    pub actions: &'e [Action],
}

/// What a signal rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Which kind: `events`, `complaint`, `counters`.
    pub kind: &'static str,
    /// It.
    pub body: Value,
}

/// Up to which total a counter was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose counter.
    pub tenant: String,
    /// Which.
    pub what: &'static str,
    /// Which life of the counters.
    pub epoch: String,
    /// Up to where.
    pub total: u64,
}

/// A page of the book.
#[derive(Debug)]
pub struct Page<'l> {
    change: Transaction<'l>,
    path: PathBuf,
}

type Written<T> = Result<T, LedgerError>;

impl<'l> Page<'l> {
    pub(super) fn new(change: Transaction<'l>, path: PathBuf) -> Self {
        Self { change, path }
    }

    /// Whether something with this key was heard before: its number.
    ///
    /// # Errors
    ///
    /// As all methods here: the database fails.
    pub fn heard(&self, key: &str) -> Written<Option<i64>> {
        let mut query = self.query("SELECT id FROM signals WHERE key = ?1")?;
        query
            .query_row([key], |row| row.get(0))
            .optional()
            .map_err(self.failed())
    }

    /// Writes down what was heard, with what it rests on: its number. Mail that was sent leads to
    /// nothing by itself, and is one line a tenant and day: what is sent later that day joins it.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn signal(&self, entry: &Entry<'_>, evidence: &[Evidence]) -> Written<i64> {
        if let Signal::Sent { tenant, messages } = entry.signal
            && entry.actions.is_empty()
            && let Some(id) = self.join_sent(tenant, *messages, entry.at)?
        {
            return Ok(id);
        }
        let mut insert = self.query(
            "INSERT INTO signals (key, at, wall, tenant, kind, body, reading, by, reason, actions)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert
            .execute(params![
                entry.key,
                entry.at.millis(),
                entry.reading.wall.millis(),
                entry.signal.tenant(),
                entry.signal.kind(),
                self.json(entry.signal)?,
                self.json(entry.reading)?,
                entry.by.map(Value::to_string),
                entry.reason,
                self.json(entry.actions)?,
            ])
            .map_err(self.failed())?;
        let id = self.change.last_insert_rowid();
        for item in evidence {
            self.query("INSERT INTO evidence (signal, kind, body) VALUES (?1, ?2, ?3)")?
                .execute(params![id, item.kind, item.body.to_string()])
                .map_err(self.failed())?;
        }
        Ok(id)
    }

    /// Adds mail sent by `tenant` to its line of the day of `at`, if there is one: its number.
    fn join_sent(&self, tenant: &str, more: u64, at: Moment) -> Written<Option<i64>> {
        const DAY: u64 = 86_400_000;
        let day = Moment(at.0 - at.0 % DAY);
        let mut query = self.query(
            "SELECT id, body FROM signals WHERE tenant = ?1 AND at >= ?2 AND kind = 'sent'
             AND key IS NULL AND actions = '[]' ORDER BY at DESC LIMIT 1",
        )?;
        let line = query
            .query_row(params![tenant, day.millis()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })
            .optional()
            .map_err(self.failed())?;
        let Some((id, body)) = line else {
            return Ok(None);
        };
        let Ok(Signal::Sent { tenant, messages }) = serde_json::from_str(&body) else {
            // What cannot be read stays as it is.
            return Ok(None);
        };
        let messages = messages.saturating_add(more);
        let body = self.json(&Signal::Sent { tenant, messages })?;
        self.query("UPDATE signals SET body = ?2 WHERE id = ?1")?
            .execute(params![id, body])
            .map_err(self.failed())?;
        Ok(Some(id))
    }

    /// Writes what follows from the actions of the signal `id` at `at`. Gives the numbers of the
    /// notices, in their order.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn actions(
        &self,
        id: i64,
        at: Moment,
        wall: Moment,
        actions: &[Action],
    ) -> Written<Vec<(i64, Notice)>> {
        let mut notices = Vec::new();
        for action in actions {
            match action {
                Action::Apply {
                    tenant,
                    sanction,
                    until,
                } => {
                    let until = until.map(Moment::millis);
                    let changed = self
                        .query(
                            "UPDATE sanctions SET until = ?3
                             WHERE tenant = ?1 AND sanction = ?2 AND lifted IS NULL",
                        )?
                        .execute(params![tenant, sanction.as_str(), until])
                        .map_err(self.failed())?;
                    if changed == 0 {
                        self.query(
                            "INSERT INTO sanctions (tenant, sanction, since, until)
                             VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![tenant, sanction.as_str(), at.millis(), until])
                        .map_err(self.failed())?;
                    }
                }
                Action::LiftSanction { tenant, sanction } => {
                    self.end_sanction(tenant, sanction.as_str(), at)?;
                }
                Action::Notify(notice) => {
                    self.query(
                        "INSERT INTO notices (signal, at, wall, tenant, body)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        id,
                        at.millis(),
                        wall.millis(),
                        notice.tenant,
                        self.json(notice)?
                    ])
                    .map_err(self.failed())?;
                    notices.push((self.change.last_insert_rowid(), (**notice).clone()));
                }
                Action::Charge {
                    tenant,
                    bill,
                    cause,
                    policy,
                    cents,
                    currency,
                    plus,
                    proposed,
                } => {
                    let cents = cents.map(|cents| i64::try_from(cents).unwrap_or(i64::MAX));
                    self.query(
                        "INSERT INTO charges
                         (signal, at, tenant, bill, cause, policy, cents, currency, plus, proposed)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    )?
                    .execute(params![
                        id,
                        at.millis(),
                        tenant,
                        bill,
                        cause,
                        policy,
                        cents,
                        currency,
                        self.json(plus)?,
                        proposed
                    ])
                    .map_err(self.failed())?;
                }
                // They stand in the cases, and beside the signal.
                Action::OpenCase { .. }
                | Action::CloseCase { .. }
                | Action::InvalidComplaint { .. }
                | Action::Duplicate { .. }
                | Action::NoPolicy { .. } => {}
            }
        }
        Ok(notices)
    }

    fn end_sanction(&self, tenant: &str, sanction: &str, at: Moment) -> Written<()> {
        self.query(
            "UPDATE sanctions SET lifted = ?3
             WHERE tenant = ?1 AND sanction = ?2 AND lifted IS NULL",
        )?
        .execute(params![tenant, sanction, at.millis()])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Writes a tenant's record, and its cases.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn record(&self, tenant: &str, record: &Record) -> Written<()> {
        self.query("INSERT OR REPLACE INTO records (tenant, body) VALUES (?1, ?2)")?
            .execute(params![tenant, self.json(record)?])
            .map_err(self.failed())?;
        for (policy, kept) in &record.ladders {
            // Of the closed ones only the last can have changed, or one that was found wrong.
            if let Some((last, before)) = kept.closed.split_last() {
                for case in before.iter().filter(|case| case.voided.is_some()) {
                    self.case(tenant, policy, case)?;
                }
                self.case(tenant, policy, last)?;
            }
            if let Some(open) = &kept.open {
                // Its evidence is gathered when it is closed.
                let mut case = open.clone();
                case.evidence = kept.evidence.clone();
                self.case(tenant, policy, &case)?;
            }
        }
        Ok(())
    }

    fn case(&self, tenant: &str, policy: &str, case: &Case) -> Written<()> {
        self.query(
            "INSERT OR REPLACE INTO cases (tenant, policy, number, opened, closed, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            tenant,
            policy,
            case.id,
            case.opened.millis(),
            case.closed.map(Moment::millis),
            self.json(case)?
        ])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Writes the engine's clock.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn clock(&self, clock: &Clock) -> Written<()> {
        self.query("INSERT OR REPLACE INTO clock (only, body) VALUES (1, ?1)")?
            .execute([self.json(clock)?])
            .map_err(self.failed())?;
        Ok(())
    }

    /// Writes up to where a counter was heard.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn position(&self, position: &Position) -> Written<()> {
        let total = i64::from_ne_bytes(position.total.to_ne_bytes());
        self.query(
            "INSERT OR REPLACE INTO positions (tenant, what, epoch, total) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            position.tenant,
            position.what,
            position.epoch,
            total
        ])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Writes down a delivery of the notice with this number.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn deliver(&self, notice: i64, planned: &Planned, wall: Moment) -> Written<()> {
        self.query(
            "INSERT INTO deliveries (notice, tenant, lane, channel, facts, created, next)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        )?
        .execute(params![
            notice,
            planned.facts.tenant,
            planned.channel.lane().as_str(),
            self.json(&planned.channel)?,
            self.json(&planned.facts)?,
            wall.millis()
        ])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Ends a delivery that is given up, and writes down those that say so.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn give_up(&self, id: i64, said: &str, also: &[Planned], wall: Moment) -> Written<()> {
        let failed = self.failed();
        let notice: i64 = self
            .query(
                "UPDATE deliveries SET state = 'given_up', attempts = attempts + 1, said = ?2
                 WHERE id = ?1 RETURNING notice",
            )?
            .query_row(params![id, said], |row| row.get(0))
            .map_err(failed)?;
        for planned in also {
            self.deliver(notice, planned, wall)?;
        }
        Ok(())
    }

    /// Keeps a report of abuse, in place of what was kept under the same id.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaint(&self, row: &super::ComplaintRow) -> Written<()> {
        self.query(
            "INSERT OR REPLACE INTO complaints (id, received, tenant, state, why, report, raw)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.id,
            row.received,
            row.tenant,
            row.state,
            row.why,
            row.report.to_string(),
            row.raw
        ])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Adds a person's note to a case.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn note(&self, note: &super::NoteRow) -> Written<()> {
        self.query(
            "INSERT INTO notes (tenant, policy, number, wall, by, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            note.tenant,
            note.policy,
            note.number,
            note.wall,
            note.by.to_string(),
            note.text
        ])
        .map_err(self.failed())?;
        Ok(())
    }

    /// Puts the page into the book: when this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// The database fails; then nothing of the page is in the book.
    pub fn commit(self) -> Written<()> {
        let path = self.path;
        self.change
            .commit()
            .map_err(|source| LedgerError::Database {
                action: "write to",
                path,
                source,
            })
    }

    pub(super) fn query(&self, sql: &str) -> Written<rusqlite::CachedStatement<'_>> {
        self.change.prepare_cached(sql).map_err(self.failed())
    }

    fn json(&self, value: &(impl Serialize + ?Sized)) -> Written<String> {
        serde_json::to_string(value).map_err(|error| LedgerError::Damaged {
            path: self.path.clone(),
            what: "something that is no JSON".to_owned(),
            why: error.to_string(),
        })
    }

    pub(super) fn failed(&self) -> impl Fn(rusqlite::Error) -> LedgerError + use<> {
        let path = self.path.clone();
        move |source| LedgerError::Database {
            action: "write to",
            path: path.clone(),
            source,
        }
    }
}
