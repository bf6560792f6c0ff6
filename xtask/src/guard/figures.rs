//! What was measured.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Figures by name.
pub type Counts = BTreeMap<String, u64>;

/// What one measurement found, on one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The kernel's version and the machine's instructions, as `6.18 x86_64`.
    pub kernel: String,
    /// What compiled the object, for people; empty if nobody knows.
    #[serde(default)]
    pub compiler: String,
    /// Instructions of the object by function: the same on every machine.
    pub object: Counts,
    /// What this kernel says of each program.
    pub programs: BTreeMap<String, Counts>,
    /// Run times, as multiples of a program of known work, by program and what it ran on.
    pub ratios: BTreeMap<String, f64>,
}

impl Figures {
    /// Reads what was written.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(file: &Path) -> Result<Self> {
        super::read_json(file)
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        super::write_json(file, self)
    }

    /// Takes the shorter run times of another measurement of the same programs.
    pub fn take_best_of(&mut self, other: Self) {
        for (what, ratio) in &mut self.ratios {
            if let Some(again) = other.ratios.get(what) {
                *ratio = ratio.min(*again);
            }
        }
    }
}
