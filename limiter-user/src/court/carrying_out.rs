//! Making the kernel agree with the records.

use std::{thread, time::Duration};

use log::{error, info, warn};

use super::{
    bailiff::{BailiffError, Found, Wanted},
    bench::Bench,
    hearing::Submission,
};
use crate::offence::{Moment, Sanction, Signal, Span};

impl Bench {
    /// Makes the kernel agree with all records.
    pub(super) fn reconcile(&mut self) {
        let suffering = self.state.records.iter();
        let suffering = suffering.filter(|(_, record)| !record.effective.is_empty());
        self.owed
            .extend(suffering.map(|(tenant, _)| tenant.clone()));
        match self.bailiff.in_force() {
            Ok(found) => self
                .owed
                .extend(found.into_iter().map(|found| found.tenant)),
            Err(error) => self.resisting = Some(error.to_string()),
        }
        self.carry_out();
    }

    /// Makes the kernel agree with the records of whoever is owed that.
    pub(super) fn carry_out(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        let (now, _) = self.now();
        let mut resisting = None;
        for tenant in std::mem::take(&mut self.owed) {
            // Nobody lifts what no record knows of.
            let Some(record) = self.state.records.get(&tenant) else {
                continue;
            };
            let is_same = |later: &Submission| later.signal.tenant() == Some(&tenant);
            if self.later.iter().any(is_same) {
                continue;
            }
            match self.bailiff.enforce(&tenant, &Wanted::of(record, now)) {
                Ok(()) => {}
                Err(BailiffError::Absent(_)) => {
                    if !record.effective.is_empty() {
                        info!("{tenant:?} is under sanctions and no tenant now: they wait");
                    }
                }
                Err(error) => {
                    if self.resisting.is_none() {
                        error!("the sanctions of {tenant:?} cannot be carried out: {error}");
                    }
                    resisting = Some(format!("{tenant}: {error}"));
                    self.owed.insert(tenant);
                }
            }
        }
        self.resisting = resisting;
    }

    /// Hears what operators said while there was no court: it holds in the kernel already. What
    /// cannot be recorded yet waits.
    pub(super) fn hear_what_holds(&mut self) {
        if self.later.is_empty() {
            return;
        }
        if self.hear(self.later.clone(), &[]).is_ok() {
            // A word counts for what began before it, from the next moment on.
            thread::sleep(Duration::from_millis(2));
            let _ = self.hear(vec![Submission::of(Signal::Tick)], &[]);
            self.later.clear();
        }
    }

    /// Whether no record ever knew of a sanction that the kernel enforces: an operator's word that
    /// could not be recorded. What was recorded and lifted, and is in force because somebody was
    /// killed in between, ends when the record says that it ended.
    fn is_strange(&self, found: &Found, now: Moment) -> bool {
        if self
            .later
            .iter()
            .any(|it| it.signal.tenant() == Some(&found.tenant))
        {
            return false;
        }
        let Some(record) = self.state.records.get(&found.tenant) else {
            return true;
        };
        let same = |sanction: &Sanction| sanction.in_kernel() == Some(found.sanction);
        if record.effective.keys().any(same) {
            return false;
        }
        let ends = found.left.map(|left| now.plus(Span::from(left)));
        let rows = self.ledger.sanctions(&found.tenant, Moment(0));
        // What cannot be read may be known.
        rows.is_ok_and(|rows| {
            !rows.iter().any(|row| {
                let known = Sanction::WORDS.iter();
                let mut known = known.filter(|(word, _)| *word == row.sanction);
                known.any(|(_, sanction)| same(sanction)) && is_same_end(row.until, ends)
            })
        })
    }

    /// Takes over what the kernel enforces and no record knows of.
    pub(super) fn adopt(&mut self) {
        let found = match self.bailiff.in_force() {
            Ok(found) => found,
            Err(error) => {
                self.resisting = Some(error.to_string());
                return;
            }
        };
        let (now, _) = self.now();
        let strange: Vec<Submission> = found
            .into_iter()
            .filter(|found| self.is_strange(found, now))
            .map(|found| {
                warn!(
                    "{:?} is under {} and no record says why: taken over as an operator's word",
                    found.tenant,
                    found.sanction.as_str()
                );
                Submission::of(Signal::Suspend {
                    tenant: found.tenant,
                    sanction: Sanction::of_kernel(found.sanction),
                    length: found.left.map(Span::from),
                    reason: "found in force in the kernel, with no record of it".to_owned(),
                    by: "limiter".to_owned(),
                })
            })
            .collect();
        if !strange.is_empty() {
            // What stands in the way, the bench notes.
            let _ = self.hear(strange, &[]);
        }
    }
}

/// How far two ends of the same sanction may lie apart: the kernel counts whole seconds.
const SAME_END: Span = Span::seconds(3);

/// Whether a sanction that was recorded to last `until` is the one that `ends` then.
fn is_same_end(until: Option<i64>, ends: Option<Moment>) -> bool {
    match (until, ends) {
        (None, None) => true,
        (Some(until), Some(ends)) => ends.millis().abs_diff(until) <= SAME_END.0,
        _ => false,
    }
}
