//! What a case rests on, in short: the signals themselves are kept outside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::judge::{Fact, Heard};

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
    fn add(&mut self, id: String) {
        self.total = self.total.saturating_add(1);
        self.listed.insert(id);
        if self.listed.len() > MAX_LISTED {
            self.listed.pop_last();
        }
    }
}

impl Evidence {
    /// Adds `fact`.
    pub(super) fn add(&mut self, fact: &Fact<'_>) {
        match fact.heard {
            Heard::Violations { reason, count } => {
                let sum = self.violations.entry(reason.to_owned()).or_default();
                *sum = sum.saturating_add(count);
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
