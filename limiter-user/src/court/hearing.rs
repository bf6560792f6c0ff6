//! What is brought before the court, and what comes of it.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    ledger::{ComplaintRow, Evidence},
    offence::{Action, Moment, Signal},
};

/// Something to be heard.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What.
    pub signal: Signal,
    /// What tells it from all others, where it may be brought twice: then the second is not heard.
    pub key: Option<String>,
    /// Who says so, if it is a person.
    pub by: Option<Value>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// The report of abuse that it is about: kept in the same transaction, if it is heard.
    pub complaint: Option<ComplaintRow>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its number in the book.
    pub id: i64,
    /// Whether it was heard before, and so was not heard again.
    pub duplicate: bool,
    /// When, in the engine's time.
    pub at: Moment,
    /// What follows.
    pub actions: Vec<Action>,
}

impl Submission {
    /// Of the node's own making.
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        Self {
            signal,
            key: None,
            by: None,
            reason: None,
            evidence: Vec::new(),
            complaint: None,
        }
    }

    /// With a key, if it has none: heard once, however often it is brought.
    #[must_use]
    pub fn once(mut self) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if self.key.is_none() {
            let now = Timestamp::now().as_nanosecond();
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            self.key = Some(format!("word {now} {} {count}", std::process::id()));
        }
        self
    }

    /// Said by a person.
    #[must_use]
    pub fn by(signal: Signal, by: Value, reason: Option<String>) -> Self {
        Self {
            by: Some(by),
            reason,
            ..Self::of(signal)
        }
    }
}
