//! What a case rests on, in short: the signals themselves are kept outside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    judge::{Fact, Heard},
    signal::Circumstances,
    time::Moment,
    void::Voided,
};

/// How many ids are listed; the rest is counted.
const MAX_LISTED: usize = 64;

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Violations by reason.
    pub violations: BTreeMap<String, u64>,
    /// Valid complaints.
    pub complaints: Ids,
    /// Blacklistings.
    pub listings: Ids,
    /// Hard and other bounces.
    pub bounces: (u64, u64),
    /// What operators said.
    pub words: Ids,
    /// Offences of those below.
    pub customers: Ids,
    /// When, and by whom: violations by their reason, all else by its kind ([`Seen::COMPLAINTS`] and
    /// the like).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, Seen>,
}

/// When things of one kind happened, and who made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// When first.
    pub first: Moment,
    /// When last.
    pub last: Moment,
    /// How many were let out: nothing was refused.
    pub let_out: u64,
    /// What else is known.
    pub around: Circumstances,
}

impl Seen {
    /// Complaints.
    pub const COMPLAINTS: &'static str = "(complaints)";
    /// Blacklistings.
    pub const LISTINGS: &'static str = "(listings)";
    /// Bounces.
    pub const BOUNCES: &'static str = "(bounces)";
    /// Operators' words.
    pub const WORDS: &'static str = "(words)";
    /// Offences of those below.
    pub const CUSTOMERS: &'static str = "(customers)";
}

/// Ids of which the first are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ids {
    /// How many there were.
    pub total: u64,
    /// Those that come first in the alphabet.
    pub listed: BTreeSet<String>,
}

impl Ids {
    fn drop_if(&mut self, is_wrong: impl Fn(&str) -> bool) {
        let before = self.listed.len();
        self.listed.retain(|id| !is_wrong(id));
        let dropped = u64::try_from(before - self.listed.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_sub(dropped);
    }

    fn add(&mut self, id: String) {
        self.total = self.total.saturating_add(1);
        self.listed.insert(id);
        if self.listed.len() > MAX_LISTED {
            self.listed.pop_last();
        }
    }
}

impl Evidence {
    /// It without what was found wrong since it was heard, as far as it is listed.
    #[must_use]
    pub fn without(&self, voided: &Voided, policy: &str) -> Self {
        let mut left = self.clone();
        left.complaints.drop_if(|id| voided.is_complaint(id));
        left.customers.drop_if(|id| {
            let who = id.rsplit_once(": ").map_or(id, |(who, _)| who);
            voided.is_customer(policy, who)
        });
        left
    }

    /// Something happened, and is heard at `at`.
    fn see(&mut self, kind: &str, (happened, at): (Moment, Moment), around: &Circumstances) {
        let seen = self.seen.entry(kind.to_owned()).or_insert_with(|| Seen {
            first: happened,
            ..Seen::default()
        });
        seen.first = seen.first.min(happened);
        let last = around
            .last
            .map_or(happened, |last| last.min(at).max(happened));
        seen.last = seen.last.max(last);
        seen.around.add(&Circumstances {
            last: None,
            ..around.clone()
        });
    }

    /// Adds `fact`.
    pub(super) fn add(&mut self, fact: &Fact<'_>, at: Moment) {
        let kind = match fact.heard {
            Heard::Complaint { .. } => Some(Seen::COMPLAINTS),
            Heard::Listing { .. } => Some(Seen::LISTINGS),
            Heard::Bounces { .. } => Some(Seen::BOUNCES),
            Heard::Offence { .. } => Some(Seen::WORDS),
            Heard::Customer { .. } => Some(Seen::CUSTOMERS),
            Heard::Violations { .. } | Heard::Sent { .. } | Heard::Mail | Heard::Below => None,
        };
        if let Some(kind) = kind {
            self.see(kind, (fact.happened, at), &Circumstances::default());
        }
        match fact.heard {
            Heard::Violations {
                reason,
                count,
                around,
            } => {
                let sum = self.violations.entry(reason.to_owned()).or_default();
                *sum = sum.saturating_add(count);
                self.see(reason, (fact.happened, at), around);
                if fact.left {
                    let seen = self.seen.entry(reason.to_owned()).or_default();
                    seen.let_out = seen.let_out.saturating_add(count);
                }
            }
            Heard::Complaint { id } => self.complaints.add(id.to_owned()),
            Heard::Listing { id, list } => self.listings.add(format!("{list}: {id}")),
            Heard::Bounces { hard, soft } => {
                self.bounces.0 = self.bounces.0.saturating_add(hard);
                self.bounces.1 = self.bounces.1.saturating_add(soft);
            }
            Heard::Offence {
                severity,
                reason,
                by,
            } => self
                .words
                .add(format!("{}: {reason} ({by})", severity.as_str())),
            Heard::Customer { who, severity } => {
                self.customers.add(format!("{who}: {}", severity.as_str()));
            }
            Heard::Sent { .. } | Heard::Mail | Heard::Below => {}
        }
    }
}
