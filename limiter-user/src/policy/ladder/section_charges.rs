//! `charges`: per item of a policy, or once for a step.

use super::{
    super::{
        findings::Findings,
        item::{Fields, Item},
    },
    amounts, lines, word,
};
use crate::offence::{Bill, Charge, Per, Severity};

/// A list of charges: `per_item` in the policy itself, else in a step.
pub(super) fn charges(item: &Item<'_>, out: &mut Findings, per_item: bool) -> Vec<Charge> {
    let allowed = if per_item {
        "a list such as [{per: complaint, amount: 3000, currency: USD}]"
    } else {
        "a list such as [{amount: 15, currency: USD}]"
    };
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        let known: &[&str] = if per_item {
            &["per", "severity", "amount", "currency", "plus", "bill"]
        } else {
            &["amount", "currency", "plus", "bill"]
        };
        if let Some(fields) = item.fields(out, known) {
            found.extend(charge(&item, &fields, out, per_item));
        }
    }
    found
}

fn charge(
    item: &Item<'_>,
    fields: &Fields<'_>,
    out: &mut Findings,
    per_item: bool,
) -> Option<Charge> {
    let per = if per_item {
        let item = fields.require(out, "per", "add `per`: offence | complaint | listing");
        Some(item.and_then(|item| word(&item, out, Per::WORDS)))
    } else {
        None
    };
    let severity = fields
        .set("severity")
        .and_then(|item| word(&item, out, Severity::WORDS));
    if let Some(item) = fields.set("severity")
        && matches!(per, Some(Some(per)) if per != Per::Offence)
    {
        item.refuse(
            out,
            "is for offences only",
            "leave it out, or `per: offence`",
        );
    }
    let cents = fields
        .set("amount")
        .map(|item| item.parse(out, "an amount such as 15", amounts::cents));
    let currency = match fields.set("currency") {
        Some(item) => item.parse(out, "a currency such as USD", amounts::currency),
        None if cents.is_some() => {
            fields.require(out, "currency", "add `currency`, such as USD");
            None
        }
        None => Some(String::new()),
    };
    let plus = fields
        .get("plus")
        .map(|item| {
            lines(
                &item,
                out,
                "a list of what a person adds, such as [delisting]",
            )
        })
        .unwrap_or_default();
    let bill = match fields.set("bill") {
        None => Some(Bill::Tenant),
        Some(item) => word(&item, out, Bill::WORDS),
    };
    if cents.is_none() && plus.is_empty() {
        let allowed = "add `amount`, or `plus` with what a person is to add";
        item.refuse(out, "charges nothing", allowed);
    }
    Some(Charge {
        per: match per {
            None => None,
            Some(per) => Some(per?),
        },
        severity,
        cents: match cents {
            None => None,
            Some(cents) => Some(cents?),
        },
        currency: currency?,
        plus,
        bill: bill?,
    })
}
