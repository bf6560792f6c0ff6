//! What operators said that holds already, and is not in the record book yet.
//!
//! It waits in the order in which it was said, and what the record book does not know of a tenant the
//! kernel is not made to agree with. Each word has a key, so that one that was on its way into the book
//! when nobody waited any longer is not heard twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    hearing::Submission,
    spare::{Kept, WITHOUT_BOOK},
};
use crate::{
    offence::{Moment, Signal, Span, Word},
    report::problem::Problem,
};

/// One word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// What tells it from all others.
    pub key: String,
    /// What was said.
    pub signal: Signal,
    /// By whom, if it was a person.
    pub by: Option<Value>,
    /// Why.
    pub reason: Option<String>,
    /// When, in the engine's time.
    pub said: Moment,
    /// The same moment on the wall clock.
    pub wall: Moment,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Later(Mutex<Words>);

#[derive(Debug, Default)]
struct Words {
    owed: Vec<Owed>,
    /// Goes up with each change.
    version: u64,
    /// What was on the disk last.
    kept: u64,
}

impl Owed {
    /// As it is to be heard at `now`: what was to last for a time has lasted since it was said.
    pub fn submission(&self, now: Moment) -> Submission {
        let mut signal = self.signal.clone();
        if let Signal::Suspend {
            length: Some(length),
            ..
        } = &mut signal
        {
            let since = now.since(self.said);
            *length = Span(length.0.saturating_sub(since.0)).max(Span::seconds(1));
        }
        Submission {
            key: Some(self.key.clone()),
            by: self.by.clone(),
            reason: self.reason.clone(),
            ..Submission::of(signal)
        }
    }

    /// What is in force by this word beside `kept`, where no record says what a review lifts: it lifts
    /// what follows from no case.
    pub fn carry_into(&self, kept: &mut Vec<Kept>) {
        match &self.signal {
            Signal::Suspend {
                tenant,
                sanction,
                length,
                reason,
                by,
            } => {
                let until = length.map(|length| self.said.plus(length));
                kept.retain(|it| it.tenant != *tenant || it.sanction != *sanction);
                kept.push(Kept {
                    tenant: tenant.clone(),
                    sanction: *sanction,
                    until,
                    ends: length.map(|length| self.wall.plus(length).timestamp()),
                    cases: Vec::new(),
                    reason: format!("{reason} (by {by})"),
                });
            }
            Signal::Word { tenant, word, .. } => kept.retain(|it| {
                let lifts = match word {
                    Word::Lift(sanction) => it.sanction == *sanction,
                    Word::Reinstate => true,
                    Word::Review => it.cases.is_empty(),
                    _ => false,
                };
                // What was said without a record book was said after this.
                it.tenant != *tenant || !lifts || it.reason == WITHOUT_BOOK
            }),
            _ => {}
        }
    }

    fn is_of(&self, tenant: &str) -> bool {
        self.signal.tenant().is_some_and(|of| of == tenant)
    }

    /// In words, for whoever reads `status`.
    fn told(&self) -> String {
        let (what, tenant, by) = match &self.signal {
            Signal::Suspend {
                tenant,
                sanction,
                by,
                ..
            } => (sanction.as_str().to_owned(), tenant, by.as_str()),
            Signal::Word { tenant, by, .. } => ("reinstate".to_owned(), tenant, by.as_str()),
            other => return format!("{other:?}"),
        };
        let at = self.wall.timestamp();
        let why = self.reason.as_deref().unwrap_or("no reason");
        format!("{what} {tenant:?} by {by} at {at:.0}: {why}")
    }
}

impl Later {
    /// One more; one that is there already is not there twice.
    pub fn say(&self, submission: Submission, said: Moment, wall: Moment) {
        let submission = submission.once();
        let mut words = self.words();
        let key = submission.key.unwrap_or_default();
        if words.owed.iter().any(|owed| owed.key == key) {
            return;
        }
        words.owed.push(Owed {
            key,
            signal: submission.signal,
            by: submission.by,
            reason: submission.reason,
            said,
            wall,
        });
        words.version += 1;
    }

    /// Those that were kept on the disk, before all others.
    pub fn recall(&self, kept: Vec<Owed>) {
        let mut words = self.words();
        let since = std::mem::take(&mut words.owed);
        words.owed = kept;
        for owed in since {
            if !words.owed.iter().any(|other| other.key == owed.key) {
                words.owed.push(owed);
            }
        }
        words.version += 1;
    }

    /// All, in their order.
    pub fn all(&self) -> Vec<Owed> {
        self.words().owed.clone()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words().owed.is_empty()
    }

    /// Whether something was said of `tenant`.
    pub fn is_of(&self, tenant: &str) -> bool {
        self.words().owed.iter().any(|owed| owed.is_of(tenant))
    }

    /// Does something about `tenant` unless something was said of it; nothing is said meanwhile.
    pub fn unless_said<T>(&self, tenant: &str, act: impl FnOnce() -> T) -> Option<T> {
        let words = self.words();
        if words.owed.iter().any(|owed| owed.is_of(tenant)) {
            return None;
        }
        Some(act())
    }

    /// These are in the record book.
    pub fn forget(&self, heard: &[Owed]) {
        let mut words = self.words();
        words
            .owed
            .retain(|owed| !heard.iter().any(|heard| heard.key == owed.key));
        words.version += 1;
    }

    /// Has `keep` put on the disk what persons said, if it is not there.
    pub fn keep<E>(&self, keep: impl FnOnce(&[Owed]) -> Result<(), E>) -> Result<(), E> {
        let (owed, version) = {
            let words = self.words();
            if words.kept == words.version {
                return Ok(());
            }
            (words.owed.clone(), words.version)
        };
        let of_persons: Vec<Owed> = owed.into_iter().filter(|it| it.by.is_some()).collect();
        keep(&of_persons)?;
        self.words().kept = version;
        Ok(())
    }

    /// Whether all of it is on the disk.
    pub fn is_kept(&self) -> bool {
        let words = self.words();
        words.kept == words.version
    }

    /// What is to be told of it by `status`.
    pub fn problem(&self) -> Option<Problem> {
        const SHOWN: usize = 5;
        let words = self.words();
        let persons: Vec<&Owed> = words.owed.iter().filter(|it| it.by.is_some()).collect();
        if persons.is_empty() {
            return None;
        }
        let count = persons.len();
        let mut said: Vec<String> = persons.iter().take(SHOWN).map(|it| it.told()).collect();
        if count > SHOWN {
            said.push(format!("and {} more", count - SHOWN));
        }
        let kept = if words.kept == words.version {
            "they are kept beside it, and hold after a restart and a reboot too"
        } else {
            "they are in memory only: a restart of the agent undoes a reinstatement, a reboot both"
        };
        Some(Problem::error(
            format!(
                "{count} words of operators hold and are not in the record book yet ({}); {kept}",
                said.join("; ")
            ),
            "make the disk of state_dir writable again: they are recorded by themselves then",
        ))
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
