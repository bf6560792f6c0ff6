//! What the machine offers. Placeholder of the interface.

use serde::Serialize;

use crate::policy::model::Places;

/// What was found. Displays as lines for people.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every layer has what it needs.
    pub healthy: bool,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this build examines nothing")
    }
}

/// Examines the machine.
#[must_use]
pub fn examine(places: &Places) -> Report {
    let _ = places;
    Report { healthy: false }
}
