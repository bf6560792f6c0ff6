//! `offences`: which signals make one, and how grave it is.

use std::collections::BTreeSet;

use limiter_common::verdict::Reason;

use super::{
    super::{
        findings::Findings,
        item::{Fields, Item},
        node::Mark,
        value,
    },
    amounts, count, span, word, words,
};
use crate::offence::{MAILING_LISTS, OffenceRule, Rate, Severity, Span, When};

/// The shortest and the longest window.
const SHORTEST: Span = Span::seconds(60);
const LONGEST: Span = Span::days(31);
/// The conditions.
const KINDS: [&str; 9] = [
    "violations",
    "complaints",
    "complaint_rate",
    "bounce_rate",
    "hard_bounce_rate",
    "listing",
    "operator",
    "spread",
    "customers",
];

/// The rules, and where each is written.
pub(super) fn offences(fields: &Fields<'_>, out: &mut Findings) -> Vec<(OffenceRule, Mark)> {
    let Some(item) = fields.get("offences") else {
        return Vec::new();
    };
    let allowed = "a list such as [{when: {listing: any}, severity: severe}]";
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        let Some(fields) = item.fields(out, &["when", "severity"]) else {
            continue;
        };
        let severity = fields
            .require(
                out,
                "severity",
                "add `severity`: minor | moderate | severe | critical",
            )
            .and_then(|item| word(&item, out, Severity::WORDS));
        let condition = fields
            .require(out, "when", "add `when`, a condition")
            .and_then(|item| when(&item, out));
        if let (Some(when), Some(severity)) = (condition, severity) {
            found.push((OffenceRule { when, severity }, item.mark()));
        }
    }
    found
}

fn when(item: &Item<'_>, out: &mut Findings) -> Option<When> {
    let fields = item.fields(out, &KINDS)?;
    let mut conditions = fields.each();
    let Some((kind, _, condition)) = conditions.next() else {
        let allowed = format!("one of {}", KINDS.join(", "));
        item.refuse(out, "holds no condition", allowed);
        return None;
    };
    if conditions.next().is_some() {
        let allowed = "one condition; write a rule for each";
        item.refuse(out, "holds more than one condition", allowed);
        return None;
    }
    let item = condition;
    match kind {
        "violations" => violations(&item, out),
        "complaints" => {
            let fields = item.fields(out, &["at_least", "in"])?;
            let at_least = at_least(&fields, out, "at_least");
            let within = window(&fields, out);
            Some(When::Complaints {
                at_least: at_least?,
                within: within?,
            })
        }
        "complaint_rate" => rate(&item, out).map(When::ComplaintRate),
        "bounce_rate" => rate(&item, out).map(When::BounceRate),
        "hard_bounce_rate" => rate(&item, out).map(When::HardBounceRate),
        "listing" => listing(&item, out),
        "operator" => word(&item, out, Severity::WORDS).map(When::Operator),
        "spread" => spread(&item, out),
        "customers" => {
            let fields = item.fields(out, &["offences", "severity", "in"])?;
            let offences = at_least(&fields, out, "offences");
            let severity = match fields.set("severity") {
                None => Some(Severity::Minor),
                Some(item) => word(&item, out, Severity::WORDS),
            };
            let within = window(&fields, out);
            Some(When::Customers {
                offences: offences?,
                severity: severity?,
                within: within?,
            })
        }
        // Reported as an unknown key.
        _ => None,
    }
}

fn violations(item: &Item<'_>, out: &mut Findings) -> Option<When> {
    let fields = item.fields(out, &["reasons", "at_least", "in"])?;
    let reasons: Vec<(&'static str, &'static str)> = Reason::ALL
        .iter()
        .filter(|reason| **reason != Reason::None)
        .map(|reason| (reason.as_str(), reason.as_str()))
        // What the kernel does not see.
        .chain([(MAILING_LISTS, MAILING_LISTS)])
        .collect();
    let named: BTreeSet<&str> = fields
        .set("reasons")
        .map(|item| words(&item, out, &reasons))
        .unwrap_or_default();
    let at_least = at_least(&fields, out, "at_least");
    let within = window(&fields, out);
    Some(When::Violations {
        reasons: named.into_iter().map(ToOwned::to_owned).collect(),
        at_least: at_least?,
        within: within?,
    })
}

fn rate(item: &Item<'_>, out: &mut Findings) -> Option<Rate> {
    let fields = item.fields(out, &["above", "of_at_least", "in"])?;
    let above = fields
        .require(out, "above", "add `above`, a percentage such as 0.1%")
        .and_then(|item| item.parse(out, "a percentage such as 0.1%", amounts::ppm));
    let of_at_least = at_least(&fields, out, "of_at_least");
    let within = window(&fields, out);
    Some(Rate {
        above_ppm: above?,
        of_at_least: of_at_least?,
        within: within?,
    })
}

fn listing(item: &Item<'_>, out: &mut Findings) -> Option<When> {
    let allowed = "any, or a list of names of blacklists";
    if !item.is_list() {
        let any = item.parse(out, allowed, |scalar| value::word(scalar, &[("any", ())]));
        return any.map(|()| When::Listing {
            lists: BTreeSet::new(),
        });
    }
    let lists: BTreeSet<String> = super::lines(item, out, allowed).into_iter().collect();
    if lists.is_empty() {
        item.refuse(out, "names no blacklist", allowed);
        return None;
    }
    Some(When::Listing { lists })
}

fn spread(item: &Item<'_>, out: &mut Findings) -> Option<When> {
    let fields = item.fields(out, &["addresses", "accounts", "in"])?;
    let within = window(&fields, out);
    match (fields.set("addresses"), fields.set("accounts")) {
        (Some(_), None) => Some(When::SpreadAddresses {
            at_least: at_least(&fields, out, "addresses")?.min(MAX_SPREAD),
            within: within?,
        }),
        (None, Some(_)) => Some(When::SpreadAccounts {
            at_least: at_least(&fields, out, "accounts")?.min(MAX_SPREAD),
            within: within?,
        }),
        _ => {
            let allowed = "either `addresses` or `accounts`, how many different ones";
            item.refuse(out, "says not what is spread", allowed);
            None
        }
    }
}

/// More are not told apart.
const MAX_SPREAD: u64 = 1_000;

fn at_least(fields: &Fields<'_>, out: &mut Findings, key: &str) -> Option<u64> {
    let item = fields.require(out, key, &format!("add `{key}`, a whole number"))?;
    item.parse(out, "a whole number from 1 on", count)
}

fn window(fields: &Fields<'_>, out: &mut Findings) -> Option<Span> {
    fields.require(out, "in", "add `in`, a duration such as 24h")?;
    span(fields, out, "in", SHORTEST, LONGEST)
}
