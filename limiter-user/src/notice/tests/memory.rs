//! An outbox in memory, which can be made to fail.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;

use crate::notice::{
    Backlog, Channel, Delivery, LONGEST_WAIT, Lane, Outbox, OutboxError, Planned, Stuck,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Waits { next_try: Timestamp },
    Done { receipt: String },
    GivenUp,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub delivery: Delivery,
    pub state: State,
    pub errors: Vec<String>,
    pub postponed: u32,
}

#[derive(Debug, Default)]
pub struct Memory {
    rows: Mutex<Vec<Row>>,
    pub broken: AtomicBool,
}

impl Memory {
    pub fn add(&self, planned: Planned, created: Timestamp) -> i64 {
        append(&mut self.rows.lock().unwrap(), planned, created)
    }

    pub fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap().clone()
    }

    pub fn row(&self, id: i64) -> Row {
        self.rows()[usize::try_from(id).unwrap()].clone()
    }

    /// Everything that waits is due.
    pub fn hurry(&self) {
        for row in self.rows.lock().unwrap().iter_mut() {
            if let State::Waits { next_try } = &mut row.state {
                *next_try = Timestamp::UNIX_EPOCH;
            }
        }
    }

    fn write(&self, ids: &[i64], change: impl Fn(&mut Row)) -> Result<(), OutboxError> {
        self.write_and(ids, change, |_| {})
    }

    /// All of it at one moment.
    fn write_and(
        &self,
        ids: &[i64],
        change: impl Fn(&mut Row),
        and: impl FnOnce(&mut Vec<Row>),
    ) -> Result<(), OutboxError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        let mut rows = self.rows.lock().unwrap();
        for id in ids {
            let row = &mut rows[usize::try_from(*id)?];
            assert!(matches!(row.state, State::Waits { .. }), "twice: {row:?}");
            change(row);
        }
        and(&mut rows);
        Ok(())
    }
}

fn append(rows: &mut Vec<Row>, planned: Planned, created: Timestamp) -> i64 {
    let id = i64::try_from(rows.len()).unwrap();
    rows.push(Row {
        delivery: Delivery {
            id,
            created,
            attempts: 0,
            planned,
        },
        state: State::Waits { next_try: created },
        errors: Vec::new(),
        postponed: 0,
    });
    id
}

impl Outbox for Memory {
    fn due(&self, lane: Lane, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, OutboxError> {
        let longest = jiff::SignedDuration::try_from(LONGEST_WAIT)?;
        let due = |row: &&Row| match row.state {
            State::Waits { next_try } => next_try <= now || next_try > now + longest,
            _ => false,
        };
        let rows = self.rows.lock().unwrap();
        let mut met = std::collections::BTreeSet::new();
        let rows = rows
            .iter()
            .filter(|row| row.delivery.planned.channel.lane() == lane)
            .filter(|row| matches!(row.state, State::Waits { .. }))
            .filter(|row| {
                met.insert(row.delivery.planned.facts.tenant.clone()) || !lane.in_order()
            });
        Ok(rows
            .filter(due)
            .take(limit)
            .map(|row| row.delivery.clone())
            .collect())
    }

    fn backlog(&self, lane: Lane) -> Result<Backlog, OutboxError> {
        let rows = self.rows();
        let waiting: Vec<(&Row, Timestamp)> = rows
            .iter()
            .filter(|row| row.delivery.planned.channel.lane() == lane)
            .filter_map(|row| match row.state {
                State::Waits { next_try } => Some((row, next_try)),
                _ => None,
            })
            .collect();
        let failing: Vec<_> = waiting
            .iter()
            .filter(|(row, _)| !row.errors.is_empty())
            .collect();
        Ok(Backlog {
            waiting: waiting.len() as u64,
            failing: failing.len() as u64,
            failed: failing.first().map(|(row, until)| Stuck {
                why: row.errors[0].clone(),
                until: *until,
            }),
            ..Backlog::default()
        })
    }

    fn mailed(&self, _: Timestamp) -> Result<Vec<(Channel, String, Timestamp)>, OutboxError> {
        Ok(Vec::new())
    }

    fn done(&self, ids: &[i64], _: Timestamp, receipt: &str) -> Result<(), OutboxError> {
        self.write(ids, |row| {
            row.state = State::Done {
                receipt: receipt.to_owned(),
            }
        })
    }

    fn failed(&self, id: i64, error: &str, next_try: Timestamp) -> Result<(), OutboxError> {
        self.write(&[id], |row| {
            row.delivery.attempts += 1;
            row.errors.push(error.to_owned());
            row.state = State::Waits { next_try };
        })
    }

    fn postponed(&self, ids: &[i64], until: Timestamp, _: &str) -> Result<(), OutboxError> {
        self.write(ids, |row| {
            row.postponed += 1;
            row.state = State::Waits { next_try: until };
        })
    }

    fn gave_up(
        &self,
        id: i64,
        now: Timestamp,
        error: &str,
        also: &[Planned],
    ) -> Result<(), OutboxError> {
        let given_up = |row: &mut Row| {
            row.errors.push(error.to_owned());
            row.state = State::GivenUp;
        };
        self.write_and(&[id], given_up, |rows| {
            for planned in also {
                append(rows, planned.clone(), now);
            }
        })
    }
}
