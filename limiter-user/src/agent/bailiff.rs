//! Carries out in the kernel what the court decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{live::Cutter, state::Shared};
use crate::{
    court::{Bailiff, BailiffError, Found, SAME_END, Wanted},
    kernel::SanctionError,
    report::outcome::CutOutcome,
};

/// What was cut last, by tenant, for whoever asked for it.
pub type Report = Arc<Mutex<HashMap<String, CutOutcome>>>;

/// The kernel's bailiff.
pub struct KernelBailiff {
    shared: Shared,
    cutter: Arc<dyn Cutter>,
    report: Report,
}

impl KernelBailiff {
    /// Of this agent; what it does it puts into `report`.
    pub fn new(shared: Shared, cutter: Arc<dyn Cutter>, report: Report) -> Self {
        Self {
            shared,
            cutter,
            report,
        }
    }
}

impl Bailiff for KernelBailiff {
    fn enforce(&mut self, tenant: &str, wanted: &Wanted) -> Result<(), BailiffError> {
        let mut began = Vec::new();
        {
            let mut state = self.shared.lock();
            let own = state.own_sanctions(tenant).map_err(failed)?;
            for (sanction, left) in own {
                match (left, wanted.kernel.get(&sanction)) {
                    (None, None) => {}
                    (Some(left), Some(wanted)) if is_same(left, *wanted) => {}
                    (_, Some(wanted)) => {
                        let sanctioned = state
                            .sanction(tenant, sanction, wanted.map(at_least_a_second))
                            .map_err(failed)?;
                        if sanctioned.before_s.is_none() {
                            began.push((sanction, sanctioned.affected));
                        }
                    }
                    (Some(_), None) => {
                        state.reinstate(tenant, Some(sanction)).map_err(failed)?;
                    }
                }
            }
        }
        // Only the strongest: it forbids what the others forbid.
        let strongest = began
            .into_iter()
            .max_by_key(|(sanction, _)| *sanction as u8);
        let cut =
            strongest.map(|(sanction, affected)| self.cutter.cut(tenant, sanction, &affected));
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match cut {
            Some(cut) => report.insert(tenant.to_owned(), cut),
            None => report.remove(tenant),
        };
        Ok(())
    }

    fn in_force(&self) -> Result<Vec<Found>, BailiffError> {
        let state = self.shared.lock();
        Ok(state
            .all_own_sanctions()
            .map(|(tenant, sanction, left)| Found {
                tenant: tenant.to_owned(),
                sanction,
                left,
            })
            .collect())
    }
}

fn at_least_a_second(left: Duration) -> Duration {
    left.max(Duration::from_secs(1))
}

/// Whether a sanction that lasts as long as `left` ends when it is `wanted` to.
fn is_same(left: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (left, wanted) {
        (None, None) => true,
        (Some(left), Some(wanted)) => left.abs_diff(wanted) <= SAME_END.into(),
        _ => false,
    }
}

fn failed(error: SanctionError) -> BailiffError {
    match error {
        SanctionError::UnknownTenant { name } => BailiffError::Absent(name),
        error => BailiffError::Failed(error.to_string()),
    }
}
