//! A message under way: what was counted of it, and for whom.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    directory::Payer,
    distinct::{DistinctLimit, Recipient},
};
use crate::kernel::charge::Receipt;

/// How long a message may be under way before nobody waits for its end any more.
pub(super) const LONGEST: Duration = Duration::from_secs(3_600);
/// How many recipients of one message are told apart.
const MOST_RECIPIENTS: usize = 10_000;

/// Recipients that count for limits of different ones as long as the message is under way.
pub(super) type Held = Vec<(DistinctLimit, Vec<Recipient>)>;

/// A message under way.
pub(super) struct Message {
    pub(super) payer: Payer,
    /// What was counted, the oldest first.
    pub(super) receipts: Vec<Receipt>,
    /// Who was counted already, as far as they are told apart.
    pub(super) recipients: HashSet<Recipient>,
    /// How many were counted, told apart or not.
    pub(super) counted: u32,
    /// How many the mail server said there are.
    said: Option<u32>,
    /// The message itself was counted.
    pub(super) begun: bool,
    /// Somebody will say how it ends.
    pub(super) watched: bool,
    /// When it was last asked about.
    pub(super) since: Instant,
    /// Whom it holds among the different recipients of these limits.
    pub(super) held: Held,
}

impl Message {
    /// One that begins now.
    pub(super) fn new(payer: Payer) -> Self {
        Self {
            payer,
            receipts: Vec::new(),
            recipients: HashSet::new(),
            counted: 0,
            said: None,
            begun: false,
            watched: false,
            since: Instant::now(),
            held: Held::new(),
        }
    }

    /// Remembers who was counted, as far as there is room.
    pub(super) fn remember(&mut self, recipients: Vec<Recipient>) {
        let room = MOST_RECIPIENTS.saturating_sub(self.recipients.len());
        self.recipients.extend(recipients.into_iter().take(room));
    }

    /// How many it goes to, with these.
    pub(super) fn with(&self, recipients: &[Recipient]) -> u32 {
        let new = recipients.iter().filter(|it| !self.recipients.contains(it));
        let new = u32::try_from(new.count()).unwrap_or(u32::MAX);
        // Some were counted before their names were known.
        let named = u32::try_from(self.recipients.len()).unwrap_or(u32::MAX);
        let nameless = self.counted.saturating_sub(named);
        self.counted.saturating_add(new.saturating_sub(nameless))
    }

    /// How many it goes to as the mail server says: now, or else before; `None` where it never did.
    pub(super) fn said(&mut self, total: Option<u32>) -> Option<u32> {
        // No message goes to nobody.
        self.said = total.filter(|total| *total > 0).or(self.said);
        self.said
    }

    /// It goes to these and nobody else: whom it holds no more.
    pub(super) fn only(&mut self, all: &HashSet<Recipient>) -> Held {
        self.recipients.retain(|it| all.contains(it));
        let mut gone = Held::new();
        for (limit, recipients) in &mut self.held {
            let (stay, go): (Vec<_>, Vec<_>) = recipients.iter().partition(|it| all.contains(it));
            *recipients = stay;
            if !go.is_empty() {
                gone.push((limit.clone(), go));
            }
        }
        gone
    }
}
