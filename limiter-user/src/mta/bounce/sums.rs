//! Bounces, added up by tenant until they are heard: a million of them are a few lines in the record book.
//!
//! Those of mail from different hours stay apart, because what was sent before a case was closed is no
//! new offence.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// How long the mail of one sum came in.
const HOUR_S: i64 = 3_600;

/// Bounces of mail that one tenant sent in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Hard ones.
    pub hard: u64,
    /// Others.
    pub soft: u64,
    /// When the last of the mail was sent.
    pub sent: Timestamp,
}

/// All of them since they were heard last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<(String, i64), Sum>);

impl Sums {
    /// Adds bounces of mail that `tenant` sent at `sent`.
    pub fn add(&mut self, tenant: String, (hard, soft): (u64, u64), sent: Timestamp) {
        let hour = sent.as_second().div_euclid(HOUR_S);
        let sum = self.0.entry((tenant, hour)).or_insert(Sum {
            hard: 0,
            soft: 0,
            sent,
        });
        sum.hard = sum.hard.saturating_add(hard);
        sum.soft = sum.soft.saturating_add(soft);
        sum.sent = sum.sent.max(sent);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, with its tenant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Sum)> {
        let all = self.0.iter();
        all.map(|((tenant, _), sum)| (tenant.as_str(), sum))
    }

    /// All of them were heard.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
