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

    /// Whether a sanction that the kernel enforces is an operator's word that could not be recorded,
    /// and not one that was lifted by the last page of the book: whoever wrote that was killed before
    /// the kernel heard of it. What earlier pages lifted was carried out before the next was begun.
    fn is_strange(&self, found: &Found) -> bool {
        let mut later = self.later.iter();
        if later.any(|it| it.signal.tenant() == Some(&found.tenant)) {
            return false;
        }
        let Some(record) = self.state.records.get(&found.tenant) else {
            return true;
        };
        let same = |sanction: &Sanction| sanction.in_kernel() == Some(found.sanction);
        if record.effective.keys().any(same) {
            return false;
        }
        let last = self.state.clock.now().millis();
        let lifted = self.ledger.sanctions(&found.tenant, Moment(0));
        // What cannot be read may be known.
        lifted.is_ok_and(|mut rows| {
            rows.retain(|row| row.lifted.is_none_or(|lifted| lifted >= last));
            let known = Sanction::WORDS.iter().filter(|(_, which)| same(which));
            !known
                .into_iter()
                .any(|(word, _)| rows.iter().any(|row| row.sanction == *word))
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
        let strange: Vec<Submission> = found
            .into_iter()
            .filter(|found| self.is_strange(found))
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
