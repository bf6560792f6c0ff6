//! Making the kernel agree with the records.

use std::collections::BTreeSet;

use log::{error, info};

use super::{
    bailiff::{BailiffError, Wanted},
    bench::Bench,
    foresight::foresee,
};

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
        let mut waiting = Vec::new();
        for tenant in std::mem::take(&mut self.owed) {
            // Nobody lifts what no record knows of.
            let Some(record) = self.state.records.get(&tenant) else {
                continue;
            };
            let bailiff = &mut self.bailiff;
            let carried = self.later.unless_said(&tenant, || {
                bailiff.enforce(&tenant, &Wanted::of(record, now))
            });
            match carried {
                Some(Ok(())) => {}
                // What was said holds, and the record does not have it yet.
                None => waiting.push(tenant),
                Some(Err(BailiffError::Absent(_))) => {
                    if !record.effective.is_empty() {
                        info!("{tenant:?} is under sanctions and no tenant now: they wait");
                    }
                }
                Some(Err(error)) => {
                    if self.resisting.is_none() {
                        error!("the sanctions of {tenant:?} cannot be carried out: {error}");
                    }
                    resisting = Some(format!("{tenant}: {error}"));
                    self.owed.insert(tenant);
                }
            }
        }
        self.owed.extend(waiting);
        self.resisting = resisting;
    }

    /// Has what operators said and the record book does not take be in force, after a reboot too.
    pub(super) fn carry_out_what_holds(&mut self) {
        let later = self.later.all();
        if later.is_empty() {
            return;
        }
        let reading = self.clocks.read();
        let tenants: BTreeSet<String> = later
            .iter()
            .filter_map(|owed| owed.signal.tenant().map(ToOwned::to_owned))
            .collect();
        let (state, now) = foresee(self.state.clone(), self.book(), &later, reading);
        for tenant in tenants {
            let record = state.records.get(&tenant).cloned().unwrap_or_default();
            match self.bailiff.enforce(&tenant, &Wanted::of(&record, now)) {
                Ok(()) | Err(BailiffError::Absent(_)) => {}
                Err(error) => self.resisting = Some(format!("{tenant}: {error}")),
            }
        }
    }
}
