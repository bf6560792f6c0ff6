//! Who carries out what the court decides.

use std::{collections::BTreeMap, time::Duration};

use limiter_common::sanction::Sanction as InKernel;
use thiserror::Error;

use crate::offence::{Moment, Record, Standing};

/// What a tenant is to suffer from now on by its own record; what it inherits is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the kernel enforces, and for how long from now; `None`: until it is lifted.
    pub kernel: BTreeMap<InKernel, Option<Duration>>,
    /// How it stands.
    pub standing: Standing,
}

/// A sanction that the kernel enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose own it is.
    pub tenant: String,
    /// Which.
    pub sanction: InKernel,
    /// For how long from now; `None`: until it is lifted.
    pub left: Option<Duration>,
}

/// Why something could not be carried out.
#[derive(Debug, Error)]
pub enum BailiffError {
    /// No tenant has this name now: there is nobody to enforce it against, until there is again.
    #[error("there is no tenant {0:?}")]
    Absent(String),
    /// It is tried again.
    #[error("{0}")]
    Failed(String),
}

/// Carries out in the kernel what a tenant is to suffer.
pub trait Bailiff: Send {
    /// Makes the kernel agree: when this returns, it is in force (or lifted), and live sessions are
    /// cut. Doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`BailiffError`]; what is in force stays.
    fn enforce(&mut self, tenant: &str, wanted: &Wanted) -> Result<(), BailiffError>;

    /// Tenants' own sanctions that the kernel enforces.
    ///
    /// # Errors
    ///
    /// The kernel cannot be read.
    fn in_force(&self) -> Result<Vec<Found>, BailiffError>;
}

impl Wanted {
    /// What `record` says at `now`.
    #[must_use]
    pub fn of(record: &Record, now: Moment) -> Self {
        let mut kernel: BTreeMap<InKernel, Option<Duration>> = BTreeMap::new();
        for (sanction, until) in &record.effective {
            let Some(in_kernel) = sanction.in_kernel() else {
                continue;
            };
            let left = until.map(|until| Duration::from(until.since(now)));
            let entry = kernel.entry(in_kernel).or_insert(left);
            // Several may mean the same there: the longest.
            *entry = entry.zip(left).map(|(one, other)| one.max(other));
        }
        // What is over at this moment is lifted by the engine at its next step.
        kernel.retain(|_, left| left.is_none_or(|left| !left.is_zero()));
        Self {
            kernel,
            standing: record.standing(),
        }
    }
}
