//! What was heard and turned out to be wrong: it counts no more from the next moment on. The record
//! keeps both, that it was heard and that it was wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::time::{Moment, Span};

/// How long it is remembered: longer than any window counts.
const REMEMBERED: Span = Span::days(400);

/// What counts no more in a tenant's record, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Voided {
    /// Complaints, by id.
    complaints: BTreeMap<String, Moment>,
    /// Offences of those below (`POLICY\nTENANT N`).
    customers: BTreeMap<String, Moment>,
}

impl Voided {
    /// The complaint with this id was wrong.
    pub(super) fn complaint(&mut self, id: &str, at: Moment) {
        note(&mut self.complaints, id.to_owned(), at);
    }

    /// The offence `who` of somebody below, under `policy`, was wrong.
    pub(super) fn customer(&mut self, policy: &str, who: &str, at: Moment) {
        note(&mut self.customers, format!("{policy}\n{who}"), at);
    }

    /// Whether the offence `who` of somebody below, under `policy`, was wrong.
    #[must_use]
    pub fn is_customer(&self, policy: &str, who: &str) -> bool {
        self.customers.contains_key(&format!("{policy}\n{who}"))
    }

    /// Whether the complaint with this id was wrong.
    #[must_use]
    pub fn is_complaint(&self, id: &str) -> bool {
        self.complaints.contains_key(id)
    }

    /// The complaints that count no more at `at`.
    pub(super) fn complaints(&self, at: Moment) -> impl Iterator<Item = &str> {
        let voided = self
            .complaints
            .iter()
            .filter(move |(_, since)| **since < at);
        voided.map(|(id, _)| id.as_str())
    }

    /// The offences of those below that count no more under `policy` at `at`.
    pub(super) fn customers(&self, policy: &str, at: Moment) -> impl Iterator<Item = &str> {
        let voided = self.customers.iter().filter(move |(_, since)| **since < at);
        voided.filter_map(move |(key, _)| {
            let (of, who) = key.split_once('\n')?;
            (of == policy).then_some(who)
        })
    }
}

fn note(voided: &mut BTreeMap<String, Moment>, key: String, at: Moment) {
    voided.entry(key).or_insert(at);
    voided.retain(|_, since| since.plus(REMEMBERED) > at);
}
