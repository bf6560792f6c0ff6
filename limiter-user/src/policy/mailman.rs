//! What the main file says about Mailman's lists.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How many lists an account may have. By default none are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailman {
    /// Mailman's directories of lists.
    pub lists: Vec<PathBuf>,
    /// How many an account may have.
    pub max: u32,
    /// How many these may have.
    pub tenants: BTreeMap<String, u32>,
}

impl Mailman {
    /// How many this account may have.
    #[must_use]
    pub fn max_of(&self, account: &str) -> u32 {
        self.tenants.get(account).copied().unwrap_or(self.max)
    }
}

impl Default for Mailman {
    /// Twenty, as hosts say.
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            max: 20,
            tenants: BTreeMap::new(),
        }
    }
}
