//! How much mail went out, for policies that hold complaints and bounces against it: read off the
//! kernel's counters every few minutes, each attempt once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use log::warn;

use super::heard::Heard;
use crate::{
    court::{Court, Submission},
    ledger::Position,
    offence::{Book, Signal},
};

/// The counters' name in the record book.
const WHAT: &str = "sent";
/// How often they are read. What went out since then counts a little later.
const EVERY: Duration = Duration::from_secs(300);

/// Up to where each tenant's mail was heard of.
pub struct Sent {
    heard: Heard,
    /// Whose policies speak of shares of the mail sent.
    rated: HashSet<String>,
    read: Option<Instant>,
}

impl Sent {
    /// Goes on where the record book ends; `epoch` tells the counters' life from others.
    #[must_use]
    pub fn new(epoch: String, positions: Vec<Position>) -> Self {
        Self {
            heard: Heard::new(WHAT, epoch, positions),
            rated: HashSet::new(),
            read: None,
        }
    }

    /// The counters' name in the record book.
    #[must_use]
    pub const fn what() -> &'static str {
        WHAT
    }

    /// Goes by these policies.
    pub fn set_book(&mut self, book: &Book) {
        let is_rated = |tenant: &&String| book.binding(tenant).iter().any(|it| it.has_rates());
        self.rated = book.tenants.keys().filter(is_rated).cloned().collect();
    }

    /// Whether it is time to read the counters.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.rated.is_empty() && self.read.is_none_or(|at| now.duration_since(at) >= EVERY)
    }

    /// Brings before the court what went out, by these totals. Whoever is seen for the first time
    /// begins at zero: what went out before is not held against anything.
    pub fn bring(
        &mut self,
        court: &Court,
        now: Instant,
        totals: impl IntoIterator<Item = (String, u64)>,
    ) {
        self.read = Some(now);
        let mut submissions = Vec::new();
        let mut positions = Vec::new();
        for (tenant, total) in totals {
            if !self.rated.contains(&tenant) {
                continue;
            }
            let heard = self.heard.of(&tenant);
            if heard == Some(total) {
                continue;
            }
            // A counter that went back began anew.
            let messages = heard.map_or(0, |heard| total.checked_sub(heard).unwrap_or(total));
            if messages > 0 {
                let tenant = tenant.clone();
                submissions.push(Submission::of(Signal::Sent { tenant, messages }));
            }
            positions.push(self.heard.position(&tenant, total));
        }
        if positions.is_empty() {
            return;
        }
        if let Err(error) = court.hear(submissions, &positions) {
            warn!("mail that was sent waits to be heard of: {error}");
            return;
        }
        let heard = positions.into_iter();
        self.heard
            .extend(heard.map(|position| (position.tenant, position.total)));
    }
}
