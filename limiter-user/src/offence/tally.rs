//! Counts over sliding windows. A count is dated by the minute: a window holds up to a minute more
//! than it says, never less.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    judge::{Fact, Heard},
    time::{Moment, Span},
    void::Voided,
    words::Severity,
};

/// The width of a bucket.
const BUCKET: Span = Span::seconds(60);
/// The longest window there is.
pub const LONGEST_WINDOW: Span = Span::days(31);
/// How many different addresses, accounts or customers are told apart; the latest are kept.
const MAX_DIFFERENT: usize = 1_024;

/// What was heard of one tenant, under one policy, since its last case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    violations: BTreeMap<String, Buckets>,
    complaints: Buckets,
    /// Those that count, by id, and when each was heard: so that one can be taken out.
    named: BTreeMap<String, Moment>,
    hard_bounces: Buckets,
    soft_bounces: Buckets,
    sent: Buckets,
    /// Sent at this very moment: not held against what came back yet.
    sending: Option<(Moment, u64)>,
    addresses: BTreeMap<IpAddr, Seen>,
    accounts: BTreeMap<String, Seen>,
    customers: BTreeMap<String, (Moment, Severity)>,
}

/// When something was last seen at all, and last with mail that left the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seen {
    any: Moment,
    left: Option<Moment>,
}

/// Counts by the minute: all, and of what left the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Buckets(BTreeMap<u64, (u64, u64)>);

impl Buckets {
    fn add(&mut self, at: Moment, count: u64, left: bool) {
        let oldest = bucket(at.minus(LONGEST_WINDOW));
        self.0 = self.0.split_off(&oldest);
        let (all, out) = self.0.entry(bucket(at)).or_default();
        *all = all.saturating_add(count);
        if left {
            *out = out.saturating_add(count);
        }
    }

    /// Takes one out that was counted at `at` and left the node.
    fn take_out(&mut self, at: Moment) {
        if let Some((all, left)) = self.0.get_mut(&bucket(at)) {
            *all = all.saturating_sub(1);
            *left = left.saturating_sub(1);
        }
    }

    fn sum(&self, at: Moment, within: Span, punishing: bool) -> u64 {
        self.0
            .range(bucket(at.minus(within))..)
            .map(|(_, (all, left))| if punishing { *left } else { *all })
            .fold(0, u64::saturating_add)
    }
}

const fn bucket(at: Moment) -> u64 {
    at.0 / BUCKET.0
}

impl Tally {
    /// Counts `fact`.
    pub fn add(&mut self, fact: &Fact<'_>, at: Moment) {
        match fact.heard {
            Heard::Violations { reason, count, .. } => {
                let buckets = self.violations.entry(reason.to_owned()).or_default();
                buckets.add(at, count, fact.left);
            }
            Heard::Complaint { id } => {
                self.complaints.add(at, 1, true);
                let oldest = at.minus(LONGEST_WINDOW);
                self.named.retain(|_, heard| *heard >= oldest);
                self.named.insert(id.to_owned(), at);
            }
            Heard::Bounces { hard, soft } => {
                self.hard_bounces.add(at, hard, true);
                self.soft_bounces.add(at, soft, true);
            }
            Heard::Sent { messages } => self.send(at, messages),
            Heard::Customer { who, severity } => {
                let entry = self
                    .customers
                    .entry(who.to_owned())
                    .or_insert((at, severity));
                *entry = (entry.0, entry.1.max(severity));
                thin(&mut self.customers, |(moment, _)| *moment);
            }
            Heard::Mail | Heard::Listing { .. } | Heard::Offence { .. } | Heard::Below => {}
        }
        if let Some(source) = fact.source {
            // Mail is heard of a while after it went out.
            let seen = match fact.heard {
                Heard::Mail => fact.happened,
                _ => at,
            };
            let entry = self.addresses.entry(source).or_default();
            entry.see(seen, fact.left);
            thin(&mut self.addresses, |seen| seen.any);
        }
        if let Some(account) = fact.account {
            let seen = self.accounts.entry(account.to_owned()).or_default();
            seen.see(at, fact.left);
            thin(&mut self.accounts, |seen| seen.any);
        }
    }

    /// Takes out what was wrong, and counts no more under `policy`.
    pub fn forget(&mut self, voided: &Voided, policy: &str, at: Moment) {
        for id in voided.complaints(at) {
            if let Some(heard) = self.named.remove(id) {
                self.complaints.take_out(heard);
            }
        }
        for who in voided.customers(policy, at) {
            self.customers.remove(who);
        }
    }

    fn send(&mut self, at: Moment, messages: u64) {
        self.sending = match self.sending.take() {
            Some((moment, count)) if moment == at => Some((at, count.saturating_add(messages))),
            before => {
                if let Some((moment, count)) = before {
                    self.sent.add(moment, count, true);
                }
                Some((at, messages))
            }
        };
    }

    /// Messages sent before `at`.
    pub fn sent(&self, at: Moment, within: Span) -> u64 {
        let sending = self
            .sending
            .filter(|(moment, _)| *moment < at && *moment >= at.minus(within))
            .map_or(0, |(_, count)| count);
        self.sent.sum(at, within, true).saturating_add(sending)
    }

    /// Violations that `fits` accepts.
    pub fn violations(
        &self,
        at: Moment,
        within: Span,
        punishing: bool,
        fits: impl Fn(&str) -> bool,
    ) -> u64 {
        self.violations
            .iter()
            .filter(|(reason, _)| fits(reason))
            .map(|(_, buckets)| buckets.sum(at, within, punishing))
            .fold(0, u64::saturating_add)
    }

    /// Complaints.
    pub fn complaints(&self, at: Moment, within: Span) -> u64 {
        self.complaints.sum(at, within, true)
    }

    /// Bounces: hard ones, and others where `soft`.
    pub fn bounces(&self, at: Moment, within: Span, soft: bool) -> u64 {
        let hard = self.hard_bounces.sum(at, within, true);
        let others = self.soft_bounces.sum(at, within, true);
        hard.saturating_add(if soft { others } else { 0 })
    }

    /// Different addresses.
    pub fn addresses(&self, at: Moment, within: Span, punishing: bool) -> u64 {
        different(self.addresses.values(), at, within, punishing)
    }

    /// Different accounts.
    pub fn accounts(&self, at: Moment, within: Span, punishing: bool) -> u64 {
        different(self.accounts.values(), at, within, punishing)
    }

    /// Offences of customers.
    pub fn customers(&self, at: Moment, within: Span, severity: Severity) -> u64 {
        let oldest = at.minus(within);
        let fits = |(moment, grade): &&(Moment, Severity)| *moment >= oldest && *grade >= severity;
        count(self.customers.values().filter(fits))
    }
}

impl Seen {
    fn see(&mut self, at: Moment, left: bool) {
        self.any = self.any.max(at);
        if left {
            self.left = self.left.max(Some(at));
        }
    }
}

fn different<'s>(
    seen: impl Iterator<Item = &'s Seen>,
    at: Moment,
    within: Span,
    punishing: bool,
) -> u64 {
    let oldest = at.minus(within);
    count(seen.filter(|seen| {
        let last = if punishing { seen.left } else { Some(seen.any) };
        last.is_some_and(|last| last >= oldest)
    }))
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    items.fold(0, |sum: u64, _| sum.saturating_add(1))
}

/// Drops the oldest entry where there are too many: which are left does not depend on the order
/// in which they came.
fn thin<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, last: impl Fn(&V) -> Moment) {
    if map.len() <= MAX_DIFFERENT {
        return;
    }
    let oldest = map
        .iter()
        .min_by_key(|(key, value)| (last(value), (*key).clone()));
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        map.remove(&key);
    }
}
