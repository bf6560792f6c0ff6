//! Reading: what people and the agent ask for.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ledger, LedgerError, Position};
use crate::offence::{Case, Moment};

/// A case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRow {
    /// Whose.
    pub tenant: String,
    /// By which policy.
    pub policy: String,
    /// All of it, its number included.
    pub case: Case,
}

/// Something that was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalRow {
    /// Its number.
    pub id: i64,
    /// When, in the engine's milliseconds.
    pub at: i64,
    /// The wall clock, milliseconds since 1970.
    pub wall: i64,
    /// About whom.
    pub tenant: Option<String>,
    /// What kind: `violations`, `complaint`…
    pub kind: String,
    /// All of it.
    pub body: Value,
    /// Who said so, if it was a person.
    pub by: Option<Value>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// What came of it.
    pub actions: Value,
    /// What it rests on.
    pub evidence: Vec<Value>,
}

/// What a tenant suffered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanctionRow {
    /// Which.
    pub sanction: String,
    /// Since when, in the engine's milliseconds.
    pub since: i64,
    /// Until when it was to last; null: until it is lifted.
    pub until: Option<i64>,
    /// When it was lifted, or ended.
    pub lifted: Option<i64>,
}

/// Something people were told, or are to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// Its number.
    pub id: i64,
    /// When, in the engine's milliseconds.
    pub at: i64,
    /// The wall clock, milliseconds since 1970.
    pub wall: i64,
    /// About whom.
    pub tenant: String,
    /// All of it: an [`offence::Notice`](crate::offence::Notice).
    pub notice: Value,
    /// How far each way of telling it has come.
    pub deliveries: Vec<DeliveryRow>,
}

/// How far one way of telling something has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRow {
    /// Which way.
    pub channel: Value,
    /// waiting, done or given_up.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, milliseconds since 1970; when it was delivered, if it was.
    pub next: i64,
    /// What the other end said last, or why it waits.
    pub said: Option<String>,
}

/// Money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChargeRow {
    /// When, in the engine's milliseconds.
    pub at: i64,
    /// Whose doing.
    pub tenant: String,
    /// Who pays.
    pub bill: String,
    /// For what.
    pub cause: String,
    /// By which policy.
    pub policy: String,
    /// How much, in hundredths; null: a person will say.
    pub cents: Option<i64>,
    /// ISO 4217.
    pub currency: String,
    /// What a person adds.
    pub plus: Value,
    /// Whether it is only proposed.
    pub proposed: bool,
}

/// A report of abuse as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct ComplaintRow {
    /// What tells it from all others.
    pub id: String,
    /// The wall clock, milliseconds since 1970.
    pub received: i64,
    /// About whom, if that is known.
    pub tenant: Option<String>,
    /// attributed, ambiguous, unknown, refused, duplicate, not_counted or dismissed.
    pub state: String,
    /// Why.
    pub why: String,
    /// What could be read of it.
    pub report: Value,
    /// It.
    pub raw: Vec<u8>,
}

/// A person's note to a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteRow {
    /// Whose case.
    pub tenant: String,
    /// By which policy.
    pub policy: String,
    /// Its number.
    pub number: u32,
    /// The wall clock, milliseconds since 1970.
    pub wall: i64,
    /// Who.
    pub by: Value,
    /// What.
    pub text: String,
}

type Found<T> = Result<T, LedgerError>;

impl Ledger {
    /// Cases: all, or one tenant's; the open ones only, if asked for. Oldest first.
    ///
    /// # Errors
    ///
    /// As all methods here: the database fails, or holds what makes no sense.
    pub fn cases(&self, tenant: Option<&str>, open_only: bool) -> Found<Vec<CaseRow>> {
        let found = self.rows(
            "SELECT tenant, policy, body FROM cases
             WHERE (?1 IS NULL OR tenant = ?1) AND (NOT ?2 OR closed IS NULL)
             ORDER BY opened, tenant, policy, number",
            params![tenant, open_only],
            |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)),
        )?;
        let parse = |(tenant, policy, body): (String, String, String)| {
            let case: Case = self.parsed(&body, || format!("a case of {tenant:?}"))?;
            Ok(CaseRow {
                tenant,
                policy,
                case,
            })
        };
        found.into_iter().map(parse).collect()
    }

    /// What was heard about a tenant since `since`, oldest first, at most `most` of the latest.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn signals(&self, tenant: &str, since: Moment, most: usize) -> Found<Vec<SignalRow>> {
        let mut found = self.rows(
            "SELECT id, at, wall, tenant, kind, body, by, reason, actions FROM signals
             WHERE tenant = ?1 AND at >= ?2 ORDER BY id DESC LIMIT ?3",
            params![
                tenant,
                since.millis(),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
            |row| {
                Ok(SignalRow {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    wall: row.get(2)?,
                    tenant: row.get(3)?,
                    kind: row.get(4)?,
                    body: json(row, 5)?,
                    by: optional_json(row, 6)?,
                    reason: row.get(7)?,
                    actions: json(row, 8)?,
                    evidence: Vec::new(),
                })
            },
        )?;
        found.reverse();
        for signal in &mut found {
            signal.evidence = self.rows(
                "SELECT kind, body FROM evidence WHERE signal = ?1 ORDER BY id",
                [signal.id],
                |row| {
                    let kind: String = row.get(0)?;
                    Ok(serde_json::json!({ "kind": kind, "body": json(row, 1)? }))
                },
            )?;
        }
        Ok(found)
    }

    /// All signals in the order in which they were heard, each with the clocks as they were read.
    ///
    /// # Errors
    ///
    /// The database fails, or holds what makes no sense.
    pub fn replay(&self) -> Found<Vec<(crate::offence::Signal, crate::offence::Reading)>> {
        let rows = self.rows("SELECT body, reading FROM signals ORDER BY id", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.iter()
            .map(|(body, reading)| {
                let signal = self.parsed(body, || "a signal".to_owned())?;
                let reading = self.parsed(reading, || "a reading of the clocks".to_owned())?;
                Ok((signal, reading))
            })
            .collect()
    }

    /// What a tenant suffered since `since`, oldest first.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn sanctions(&self, tenant: &str, since: Moment) -> Found<Vec<SanctionRow>> {
        self.rows(
            "SELECT sanction, since, until, lifted FROM sanctions
             WHERE tenant = ?1 AND (lifted IS NULL OR lifted >= ?2) ORDER BY id",
            params![tenant, since.millis()],
            |row| {
                Ok(SanctionRow {
                    sanction: row.get(0)?,
                    since: row.get(1)?,
                    until: row.get(2)?,
                    lifted: row.get(3)?,
                })
            },
        )
    }

    /// What people were told about a tenant since `since`, oldest first.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn notices(&self, tenant: &str, since: Moment) -> Found<Vec<NoticeRow>> {
        let mut found = self.rows(
            "SELECT id, at, wall, tenant, body FROM notices
             WHERE tenant = ?1 AND at >= ?2 ORDER BY id",
            params![tenant, since.millis()],
            |row| {
                Ok(NoticeRow {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    wall: row.get(2)?,
                    tenant: row.get(3)?,
                    notice: json(row, 4)?,
                    deliveries: Vec::new(),
                })
            },
        )?;
        for notice in &mut found {
            notice.deliveries = self.rows(
                "SELECT channel, state, attempts, said, next FROM deliveries
                 WHERE notice = ?1 ORDER BY id",
                [notice.id],
                |row| {
                    Ok(DeliveryRow {
                        channel: json(row, 0)?,
                        state: row.get(1)?,
                        attempts: row.get(2)?,
                        said: row.get(3)?,
                        next: row.get(4)?,
                    })
                },
            )?;
        }
        Ok(found)
    }

    /// What was charged for a tenant's doing since `since`, oldest first.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn charges(&self, tenant: &str, since: Moment) -> Found<Vec<ChargeRow>> {
        self.rows(
            "SELECT at, tenant, bill, cause, policy, cents, currency, plus, proposed FROM charges
             WHERE tenant = ?1 AND at >= ?2 ORDER BY id",
            params![tenant, since.millis()],
            |row| {
                Ok(ChargeRow {
                    at: row.get(0)?,
                    tenant: row.get(1)?,
                    bill: row.get(2)?,
                    cause: row.get(3)?,
                    policy: row.get(4)?,
                    cents: row.get(5)?,
                    currency: row.get(6)?,
                    plus: json(row, 7)?,
                    proposed: row.get(8)?,
                })
            },
        )
    }

    /// Notes to a tenant's cases, oldest first.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn notes(&self, tenant: &str) -> Found<Vec<NoteRow>> {
        self.rows(
            "SELECT tenant, policy, number, wall, by, text FROM notes
             WHERE tenant = ?1 ORDER BY id",
            [tenant],
            |row| {
                Ok(NoteRow {
                    tenant: row.get(0)?,
                    policy: row.get(1)?,
                    number: row.get(2)?,
                    wall: row.get(3)?,
                    by: json(row, 4)?,
                    text: row.get(5)?,
                })
            },
        )
    }

    /// Reports of abuse in these states, oldest first, without the reports themselves.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaints(&self, state: Option<&str>) -> Found<Vec<ComplaintRow>> {
        self.rows(
            "SELECT id, received, tenant, state, why, report, x'' FROM complaints
             WHERE ?1 IS NULL OR state = ?1 ORDER BY received, id",
            [state],
            complaint,
        )
    }

    /// A report of abuse, whole.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn complaint(&self, id: &str) -> Found<Option<ComplaintRow>> {
        let found = self.rows(
            "SELECT id, received, tenant, state, why, report, raw FROM complaints WHERE id = ?1",
            [id],
            complaint,
        )?;
        Ok(found.into_iter().next())
    }

    /// Up to where counters were heard.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub fn positions(&self, what: &'static str) -> Found<Vec<Position>> {
        self.rows(
            "SELECT tenant, epoch, total FROM positions WHERE what = ?1",
            [what],
            |row| {
                let total: i64 = row.get(2)?;
                Ok(Position {
                    tenant: row.get(0)?,
                    what,
                    epoch: row.get(1)?,
                    total: u64::from_ne_bytes(total.to_ne_bytes()),
                })
            },
        )
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Found<Vec<T>> {
        let query = |db: &Connection| {
            let mut query = db.prepare_cached(sql)?;
            query
                .query_map(values, read)?
                .collect::<Result<Vec<T>, _>>()
        };
        query(&self.db).map_err(self.failed("read"))
    }
}

pub(super) fn complaint(row: &Row<'_>) -> rusqlite::Result<ComplaintRow> {
    Ok(ComplaintRow {
        id: row.get(0)?,
        received: row.get(1)?,
        tenant: row.get(2)?,
        state: row.get(3)?,
        why: row.get(4)?,
        report: json(row, 5)?,
        raw: row.get(6)?,
    })
}

/// JSON as it was written; what is none is shown as the text that it is.
fn json(row: &Row<'_>, at: usize) -> rusqlite::Result<Value> {
    let text: String = row.get(at)?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn optional_json(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = row.get(at)?;
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
