//! What becomes of an attempt, and writing it down.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{CourierSettings, Shared};
use crate::notice::{
    backoff::{self, Failure},
    channel::{Channel, Lane, Planned},
    facts::EventKind,
    outbox::{Delivery, Outbox, OutboxError},
};

/// The longest wait between two tries where what follows waits, too.
const LONGEST_IN_ORDER: Duration = Duration::from_secs(900);

/// Something that the outbox is to know.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Done {
        ids: Vec<i64>,
        now: Timestamp,
        receipt: String,
    },
    Failed {
        id: i64,
        error: String,
        next_try: Timestamp,
    },
    GaveUp {
        id: i64,
        now: Timestamp,
        error: String,
        also: Vec<Planned>,
    },
    Postponed {
        ids: Vec<i64>,
        until: Timestamp,
        why: String,
    },
}

impl Word {
    /// Whom it is about.
    pub fn ids(&self) -> &[i64] {
        match self {
            Self::Done { ids, .. } | Self::Postponed { ids, .. } => ids,
            Self::Failed { id, .. } | Self::GaveUp { id, .. } => std::slice::from_ref(id),
        }
    }

    fn tell(&self, outbox: &dyn Outbox) -> Result<(), OutboxError> {
        match self {
            Self::Done { ids, now, receipt } => outbox.done(ids, *now, receipt),
            Self::Failed {
                id,
                error,
                next_try,
            } => outbox.failed(*id, error, *next_try),
            Self::GaveUp {
                id,
                now,
                error,
                also,
            } => outbox.gave_up(*id, *now, error, also),
            Self::Postponed { ids, until, why } => outbox.postponed(ids, *until, why),
        }
    }
}

/// What the outbox is to know of an attempt.
pub(super) fn words(
    shared: &Shared,
    settings: &CourierSettings,
    lane: Lane,
    job: &[Delivery],
    result: Result<String, Failure>,
) -> Vec<Word> {
    let now = shared.now();
    let failure = match result {
        Ok(receipt) => {
            shared.health.of(lane, |health| {
                health.delivered += job.len() as u64;
                health.failing_since = None;
                health.error = None;
            });
            let ids = job.iter().map(|delivery| delivery.id).collect();
            return vec![Word::Done { ids, now, receipt }];
        }
        Err(failure) => failure,
    };
    shared.health.of(lane, |health| {
        health.failed += 1;
        health.failing_since.get_or_insert(now);
        health.error = Some(failure.error.clone());
    });
    job.iter()
        .map(|delivery| failed(shared, settings, lane, delivery, &failure, now))
        .collect()
}

fn failed(
    shared: &Shared,
    settings: &CourierSettings,
    lane: Lane,
    delivery: &Delivery,
    failure: &Failure,
    now: Timestamp,
) -> Word {
    let Planned { channel, facts } = &delivery.planned;
    let tries = delivery.attempts.saturating_add(1);
    let age = Duration::try_from(now.duration_since(delivery.created)).unwrap_or_default();
    let error = failure.error.clone();
    let id = delivery.id;
    let what = format!("notice {} about {}: {channel}", facts.id, facts.tenant);
    match backoff::after(failure, tries, age, settings.notices.give_up, id) {
        Some(wait) => {
            // Others wait behind it.
            let wait = if lane.in_order() && !failure.refused {
                wait.min(LONGEST_IN_ORDER)
            } else {
                wait
            };
            log::warn!("{what}: {error}; trying again in {} s", wait.as_secs());
            let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
            Word::Failed {
                id,
                error,
                next_try: now.checked_add(wait).unwrap_or(now),
            }
        }
        None => {
            log::error!("{what}: {error}; given up after {tries} tries");
            shared.health.of(lane, |health| health.given_up += 1);
            Word::GaveUp {
                id,
                now,
                also: undelivered(settings, delivery, &error, now),
                error,
            }
        }
    }
}

/// Tells the operator, unless that is what failed.
fn undelivered(
    settings: &CourierSettings,
    delivery: &Delivery,
    error: &str,
    now: Timestamp,
) -> Vec<Planned> {
    let Planned { channel, facts } = &delivery.planned;
    if facts.event == EventKind::Undelivered || settings.notices.mail.is_none() {
        return Vec::new();
    }
    let facts = facts.undelivered(&channel.to_string(), error, now);
    let operator = settings.notices.operator.iter();
    operator
        .map(|to| Channel::Mail { to: to.clone() })
        .filter(|other| other != channel)
        .map(|channel| Planned {
            channel,
            facts: facts.clone(),
        })
        .collect()
}

/// Writes `words` down, in their order, on a thread where that may block. Those that could not be
/// written down are returned.
pub(super) async fn write(shared: &Arc<Shared>, lane: Lane, words: Vec<Word>) -> Vec<Word> {
    if words.is_empty() {
        return words;
    }
    let outbox = Arc::clone(&shared.outbox);
    let kept = words.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut error = None;
        let left: Vec<Word> = words
            .into_iter()
            .filter(|word| match word.tell(outbox.as_ref()) {
                Ok(()) => false,
                Err(problem) => {
                    error = Some(problem.to_string());
                    true
                }
            })
            .collect();
        (left, error)
    });
    let (left, error) = written
        .await
        .unwrap_or_else(|error| (kept, Some(error.to_string())));
    if let Some(error) = &error {
        log::error!(
            "cannot write down what became of notices by {}: {error}",
            lane.as_str()
        );
    }
    shared.health.of(lane, |health| health.outbox_error = error);
    left
}
