//! `complaints`: which reports of abuse are valid, and how fast they are handled.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{findings::Findings, item::Item},
    FOREVER, span, words,
};
use crate::offence::{ComplaintRules, Part, Span};

/// The machine-readable formats.
const FORMATS: [(&str, &str); 2] = [("arf", "arf"), ("xarf", "xarf")];
/// The clocks, and their keys.
const CLOCKS: [(&str, &str); 3] = [
    ("acknowledge_within", "acknowledge"),
    ("act_within", "act"),
    ("answer_within", "answer"),
];

/// The section.
pub(super) fn complaints(item: &Item<'_>, out: &mut Findings) -> Option<ComplaintRules> {
    let known: Vec<&str> = ["formats", "require"]
        .into_iter()
        .chain(CLOCKS.map(|(key, _)| key))
        .collect();
    let fields = item.fields(out, &known)?;
    let formats: BTreeSet<&str> = fields
        .get("formats")
        .map(|item| words(&item, out, &FORMATS))
        .unwrap_or_default();
    let require = fields
        .get("require")
        .map(|item| words(&item, out, Part::WORDS))
        .unwrap_or_default();
    let mut clocks = BTreeMap::new();
    for (key, clock) in CLOCKS {
        if let Some(span) = span(&fields, out, key, Span::seconds(60), FOREVER) {
            clocks.insert(clock.to_owned(), span);
        }
    }
    Some(ComplaintRules {
        formats: formats.into_iter().map(ToOwned::to_owned).collect(),
        require,
        clocks,
    })
}
