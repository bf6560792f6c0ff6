//! Whether what was heard fits the rules of a policy.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    ladder::{Ladder, RefusedAttempts, When},
    signal::Circumstances,
    tally::Tally,
    time::Moment,
    words::Severity,
};

/// A signal, as one policy takes it down for one tenant.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'s> {
    pub heard: Heard<'s>,
    /// From where.
    pub source: Option<IpAddr>,
    /// By which account.
    pub account: Option<&'s str>,
    /// Whether mail left the node.
    pub left: bool,
    /// When it happened.
    pub happened: Moment,
}

/// What was heard.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'s> {
    Violations {
        reason: &'s str,
        count: u64,
        around: &'s Circumstances,
    },
    Sent {
        messages: u64,
    },
    /// Mail from an address.
    Mail,
    Bounces {
        hard: u64,
        soft: u64,
    },
    Complaint {
        id: &'s str,
    },
    Listing {
        id: &'s str,
        list: &'s str,
    },
    Offence {
        severity: Severity,
        reason: &'s str,
        by: &'s str,
    },
    /// Something about somebody below.
    Below,
    /// An offence of somebody below; `who` tells it from all others.
    Customer {
        who: &'s str,
        severity: Severity,
    },
}

/// All severities that the rules give to `fact`, which `tally` holds already: first for what left the
/// node, then for everything. All and not the gravest alone: what comes at once must say the same as
/// when it comes in parts.
pub fn severities(
    ladder: &Ladder,
    tally: &Tally,
    fact: &Fact<'_>,
    at: Moment,
) -> (BTreeSet<Severity>, BTreeSet<Severity>) {
    let those = |punishing: bool| -> BTreeSet<Severity> {
        ladder
            .offences
            .iter()
            .filter(|rule| concerns(&rule.when, fact) && fits(&rule.when, tally, at, punishing))
            .map(|rule| rule.severity)
            .collect()
    };
    let all = those(false);
    match ladder.refused_attempts {
        RefusedAttempts::Warn => (those(true), all),
        RefusedAttempts::Punish => (all.clone(), all),
    }
}

/// Whether any rule of `ladder` could ever fit `fact`.
pub fn speaks_of(ladder: &Ladder, fact: &Fact<'_>) -> bool {
    matches!(fact.heard, Heard::Sent { .. })
        || ladder
            .offences
            .iter()
            .any(|rule| concerns(&rule.when, fact))
}

fn concerns(when: &When, fact: &Fact<'_>) -> bool {
    match (when, fact.heard) {
        (When::Violations { reasons, .. }, Heard::Violations { reason, .. }) => {
            reasons.is_empty() || reasons.contains(reason)
        }
        (When::Complaints { .. } | When::ComplaintRate(_), Heard::Complaint { .. }) => true,
        (When::BounceRate(_) | When::HardBounceRate(_), Heard::Bounces { .. }) => true,
        (When::Listing { lists }, Heard::Listing { list, .. }) => {
            lists.is_empty() || lists.contains(list)
        }
        (When::Operator(grade), Heard::Offence { severity, .. }) => *grade == severity,
        (When::Customers { .. }, Heard::Customer { .. }) => true,
        (When::SpreadAddresses { .. }, _) => fact.source.is_some(),
        (When::SpreadAccounts { .. }, _) => fact.account.is_some(),
        _ => false,
    }
}

fn fits(when: &When, tally: &Tally, at: Moment, punishing: bool) -> bool {
    match when {
        When::Violations {
            reasons,
            at_least,
            within,
        } => {
            let named = |reason: &str| reasons.is_empty() || reasons.contains(reason);
            tally.violations(at, *within, punishing, named) >= *at_least
        }
        When::Complaints { at_least, within } => tally.complaints(at, *within) >= *at_least,
        When::ComplaintRate(rate) => {
            let sent = tally.sent(at, rate.within);
            exceeds(tally.complaints(at, rate.within), sent, rate)
        }
        When::BounceRate(rate) => {
            let sent = tally.sent(at, rate.within);
            exceeds(tally.bounces(at, rate.within, true), sent, rate)
        }
        When::HardBounceRate(rate) => {
            let sent = tally.sent(at, rate.within);
            exceeds(tally.bounces(at, rate.within, false), sent, rate)
        }
        When::Listing { .. } | When::Operator(_) => true,
        When::SpreadAddresses { at_least, within } => {
            tally.addresses(at, *within, punishing) >= *at_least
        }
        When::SpreadAccounts { at_least, within } => {
            tally.accounts(at, *within, punishing) >= *at_least
        }
        When::Customers {
            offences,
            severity,
            within,
        } => tally.customers(at, *within, *severity) >= *offences,
    }
}

/// More than the share, of enough mail to say so.
fn exceeds(part: u64, sent: u64, rate: &super::ladder::Rate) -> bool {
    sent >= rate.of_at_least
        && u128::from(part) * 1_000_000 > u128::from(sent) * u128::from(rate.above_ppm)
}
