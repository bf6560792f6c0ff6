//! The kernel. Placeholder of the interface.

pub mod doctor;
pub mod pinned;

use serde::Serialize;
use thiserror::Error;

use crate::policy::model::Places;

/// What the kernel refuses.
#[derive(Debug, Error)]
pub enum KernelError {
    /// This build does not reach it.
    #[error("this build does not reach the kernel")]
    Missing,
}

/// What was removed. Displays as lines for people.
#[derive(Clone, Debug, Serialize)]
pub struct Detached {}

impl std::fmt::Display for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing")
    }
}

/// Removes every link and pin.
///
/// # Errors
/// [`KernelError`].
pub fn detach(places: &Places) -> Result<Detached, KernelError> {
    let _ = places;
    Err(KernelError::Missing)
}
