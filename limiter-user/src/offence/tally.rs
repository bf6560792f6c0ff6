//! Counts over sliding windows. A count is dated by the minute, and the older it is, the coarser: a
//! window holds up to a minute or a 64th of itself more than it says, never less. So what is kept of
//! one kind is bounded, however long the windows of policies are and however often they change.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    judge::{Fact, Heard},
    time::{Moment, Span},
    void::Voided,
    words::Severity,
};

/// The width of the youngest buckets.
const BUCKET: Span = Span::seconds(60);
/// How many times its width a bucket has to be old.
const FINENESS: u64 = 64;
/// The widest bucket is 2 to this power minutes wide: at 64 times that counts are forgotten anyway.
const COARSEST: u32 = 9;
/// How many complaints can be taken out one by one; the latest are kept.
const MAX_NAMED: usize = 4_096;
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

/// Counts by the minute, and by 2, 4, 8… minutes as they grow old: all, and of what left the node. A
/// bucket is known by its last minute, so that its width need not be told; it is as wide as it is
/// aligned, and no two overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Buckets(BTreeMap<u64, (u64, u64)>);

impl Buckets {
    fn add(&mut self, at: Moment, count: u64, left: bool) {
        let now = bucket(at);
        if !self.0.contains_key(&now) {
            self.grow_old(now, bucket(at.minus(LONGEST_WINDOW)));
        }
        let (all, out) = self.0.entry(now).or_default();
        *all = all.saturating_add(count);
        if left {
            *out = out.saturating_add(count);
        }
    }

    /// Forgets what is before the minute `oldest`, and joins what is old enough.
    fn grow_old(&mut self, now: u64, oldest: u64) {
        let before = std::mem::take(&mut self.0);
        for (last, (all, left)) in before.into_iter().skip_while(|(last, _)| *last < oldest) {
            let (sum, out) = self.0.entry(coarse(last, now)).or_default();
            *sum = sum.saturating_add(all);
            *out = out.saturating_add(left);
        }
    }

    /// Takes one out that was counted at `at` and left the node.
    fn take_out(&mut self, at: Moment) {
        if let Some((_, (all, left))) = self.0.range_mut(bucket(at)..).next() {
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

/// The last minute of the bucket that the one that ends with minute `last` is part of: the widest one
/// whose last minute is long enough ago.
fn coarse(last: u64, now: u64) -> u64 {
    (0..=COARSEST)
        .rev()
        .map(|power| 1_u64 << power)
        .map(|width| (last | (width - 1), width))
        .find(|(end, width)| now.saturating_sub(*end) >= FINENESS * width)
        .map_or(last, |(end, _)| end)
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
                thin_to(&mut self.named, MAX_NAMED, |heard| *heard);
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
    thin_to(map, MAX_DIFFERENT, last);
}

/// The same, where there are more than `most`.
fn thin_to<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize, last: impl Fn(&V) -> Moment) {
    if map.len() <= most {
        return;
    }
    let oldest = map
        .iter()
        .min_by_key(|(key, value)| (last(value), (*key).clone()));
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minute(minute: u64) -> Moment {
        Moment(minute * BUCKET.0 + 7)
    }

    proptest! {
        /// Against every count with its own moment: never less, and no more than what a window that
        /// is longer by a minute and a 64th would hold.
        #[test]
        fn a_window_holds_what_it_says_and_hardly_more(
            steps in prop::collection::vec((0..20_000_u64, 1..50_u64, any::<bool>()), 1..300),
            within in 1..=LONGEST_WINDOW.0 / BUCKET.0,
        ) {
            let mut buckets = Buckets::default();
            let mut all: Vec<(Moment, u64, bool)> = Vec::new();
            let mut at = minute(1_000_000);
            for (seconds, count, left) in steps {
                // Mostly little time passes, now and then much.
                at = at.plus(Span::seconds(if seconds < 19_000 { seconds / 100 } else { seconds }));
                buckets.add(at, count, left);
                all.push((at, count, left));
                prop_assert!(buckets.0.len() <= 700, "{}", buckets.0.len());
            }
            let within = Span(within * BUCKET.0);
            let longer = Span(within.0 + within.0 / FINENESS + BUCKET.0);
            for punishing in [false, true] {
                let exact = |within: Span| -> u64 {
                    let oldest = at.minus(within);
                    let fits = all.iter().filter(|(when, _, left)| *when >= oldest && (*left || !punishing));
                    fits.map(|(_, count, _)| count).sum()
                };
                let sum = buckets.sum(at, within, punishing);
                prop_assert!(exact(within) <= sum && sum <= exact(longer), "{sum}");
            }
        }

        /// One that is taken out is taken out of the bucket that holds it now.
        #[test]
        fn what_is_taken_out_is_gone(minutes in prop::collection::vec(0..3_000_u64, 2..100)) {
            let mut buckets = Buckets::default();
            let mut at = minute(1_000_000);
            let mut moments = Vec::new();
            for minutes in minutes {
                at = at.plus(Span(minutes * BUCKET.0));
                buckets.add(at, 1, true);
                moments.push(at);
            }
            moments.retain(|moment| *moment >= at.minus(LONGEST_WINDOW));
            let before = buckets.sum(at, LONGEST_WINDOW, true);
            for moment in &moments {
                buckets.take_out(*moment);
            }
            let taken = u64::try_from(moments.len()).unwrap();
            prop_assert_eq!(buckets.sum(at, LONGEST_WINDOW, true), before - taken);
        }
    }

    #[test]
    fn what_is_kept_of_a_month_of_minutes_is_bounded() {
        let mut buckets = Buckets::default();
        for at in 0..60_000 {
            buckets.add(minute(1_000_000 + at), 1, true);
        }
        assert!(buckets.0.len() <= 700, "{}", buckets.0.len());
        let at = minute(1_059_999);
        let hour = buckets.sum(at, Span::hours(1), false);
        assert!((61..=62).contains(&hour), "{hour}");
        let month = buckets.sum(at, LONGEST_WINDOW, false);
        assert!((44_641..=44_641 + 700).contains(&month), "{month}");
    }

    #[test]
    fn complaints_that_can_be_taken_out_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..5_000_u64 {
            let id = format!("c{number}");
            let fact = Fact {
                heard: Heard::Complaint { id: &id },
                source: None,
                account: None,
                left: true,
                happened: Moment(number),
            };
            tally.add(&fact, minute(1_000_000 + number / 100));
        }
        assert_eq!(tally.named.len(), MAX_NAMED);
        assert!(tally.named.contains_key("c4999") && !tally.named.contains_key("c0"));
        assert_eq!(tally.complaints(minute(1_000_050), Span::hours(2)), 5_000);
    }
}
