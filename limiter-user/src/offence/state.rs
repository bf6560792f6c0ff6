//! Everything the engine knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{clock::Clock, record::Record, time::Moment};

/// The engine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Its time.
    pub clock: Clock,
    /// What is recorded of each tenant, by name.
    pub records: BTreeMap<String, Record>,
    /// When time next changes a record, earliest first. Each record knows its own.
    pub(super) due: BTreeSet<(Moment, String)>,
}

impl State {
    /// When time next changes something. Then, or right now if that is past, the engine wants a
    /// tick.
    #[must_use]
    pub fn wake(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Puts the record of `tenant` back as it was kept, or takes it away.
    pub fn restore(&mut self, tenant: &str, record: Option<Record>) {
        let kept = self.records.remove(tenant);
        if let Some(at) = kept.and_then(|record| record.due) {
            self.due.remove(&(at, tenant.to_owned()));
        }
        if let Some(record) = record {
            self.due
                .extend(record.due.map(|at| (at, tenant.to_owned())));
            self.records.insert(tenant.to_owned(), record);
        }
    }

    /// The record of `tenant`.
    pub(super) fn record(&mut self, tenant: &str) -> &mut Record {
        self.records.entry(tenant.to_owned()).or_default()
    }

    /// Notes when time next changes the record of `tenant`.
    pub(super) fn schedule(&mut self, tenant: &str, due: Option<Moment>) {
        let Some(record) = self.records.get_mut(tenant) else {
            return;
        };
        if record.due == due {
            return;
        }
        if let Some(before) = record.due.take() {
            self.due.remove(&(before, tenant.to_owned()));
        }
        record.due = due;
        self.due.extend(due.map(|at| (at, tenant.to_owned())));
    }
}
