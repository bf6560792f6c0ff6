//! Where deliveries wait: written down before anybody is told, taken out by the courier.

use jiff::Timestamp;

use serde::Serialize;

use super::channel::{Channel, Lane, Planned};

/// Something is wrong with where deliveries wait.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// A delivery that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its own number.
    pub id: i64,
    /// When it was written down.
    pub created: Timestamp,
    /// How often it was tried, and failed.
    pub attempts: u32,
    /// What, and where to.
    pub planned: Planned,
}

/// What waits of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// How many deliveries wait, for whatever reason.
    pub waiting: u64,
    /// How many of them were tried, and failed.
    pub failing: u64,
    /// How many wait because their receiver got enough for now.
    pub postponed: u64,
    /// Of those that failed the one that is tried next.
    pub failed: Option<Stuck>,
    /// Of those that are postponed the one that is tried next.
    pub quota: Option<Stuck>,
}

/// What a delivery waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// Why.
    pub why: String,
    /// When it is tried next.
    pub until: Timestamp,
}

/// Where deliveries wait. Its functions may block; the courier calls them where that is allowed.
///
/// What a function reports must be durable when it returns. A crash in between repeats a delivery,
/// and never loses one.
pub trait Outbox: Send + Sync + 'static {
    /// Up to `limit` deliveries of a lane that are neither done nor given up and whose next try is
    /// at or before `now`, the oldest first; those being delivered right now too. A next try
    /// further away than [`LONGEST_WAIT`](super::LONGEST_WAIT) is due: the clock was set back. Of
    /// a lane that is [in order](Lane::in_order) only the oldest that waits of each tenant.
    ///
    /// # Errors
    /// When they cannot be read; they are asked for again.
    fn due(&self, lane: Lane, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, OutboxError>;

    /// These were delivered; `receipt` is what the receiver said.
    ///
    /// # Errors
    /// When it cannot be written down; it is tried again, and they are not delivered again
    /// meanwhile.
    fn done(&self, ids: &[i64], now: Timestamp, receipt: &str) -> Result<(), OutboxError>;

    /// This one was tried once more and failed.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    fn failed(&self, id: i64, error: &str, next_try: Timestamp) -> Result<(), OutboxError>;

    /// These wait, which is no failure: their receiver got enough for now; `why` says so.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    fn postponed(&self, ids: &[i64], until: Timestamp, why: &str) -> Result<(), OutboxError>;

    /// What waits of a lane.
    ///
    /// # Errors
    /// When it cannot be read.
    fn backlog(&self, lane: Lane) -> Result<Backlog, OutboxError>;

    /// The mails that went out since `since`, oldest first: the channel, about whom, when.
    ///
    /// # Errors
    /// When they cannot be read; they are asked for again.
    fn mailed(&self, since: Timestamp) -> Result<Vec<(Channel, String, Timestamp)>, OutboxError>;

    /// This one is not tried any more. `also` are deliveries that say so to others, to be written
    /// down in the same transaction.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    fn gave_up(
        &self,
        id: i64,
        now: Timestamp,
        error: &str,
        also: &[Planned],
    ) -> Result<(), OutboxError>;
}
