//! What the main file says about mail that comes back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where bounces are read. By default nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounces {
    /// Logs that the mail server itself writes.
    pub logs: Vec<PathBuf>,
    /// The system's journal too.
    pub journal: bool,
}

impl Bounces {
    /// Whether they are read nowhere.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.logs.is_empty() && !self.journal
    }
}
