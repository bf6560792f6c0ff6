//! Making the kernel agree with the records.

use log::{error, info};

use super::{
    bailiff::{BailiffError, Wanted},
    bench::Bench,
    hearing::Submission,
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
}
