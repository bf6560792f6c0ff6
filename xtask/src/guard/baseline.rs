//! What the figures may be.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::figures::{Counts, Figures};

/// By how much figures may grow, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// Counts of instructions and bytes: they are exact.
    pub counts_percent: u32,
    /// Run times: a busy machine makes them longer. Of twenty measurements beside two loops that kept both
    /// processors busy, and a build, the worst figure was 48 % above its median.
    pub ratios_percent: u32,
}

impl Default for Margins {
    fn default() -> Self {
        Self {
            counts_percent: 3,
            ratios_percent: 60,
        }
    }
}

/// What was measured when somebody last said that it is fine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// By how much figures may grow.
    pub margins: Margins,
    /// What compiled the object.
    pub compiler: String,
    /// Instructions of the object by function.
    pub object: Counts,
    /// What kernels made of it, by version and machine.
    pub kernels: BTreeMap<String, OnKernel>,
}

/// What a kernel made of the object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnKernel {
    /// What it says of each program.
    pub programs: BTreeMap<String, Counts>,
    /// Run times beside a program of known work.
    pub ratios: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads a baseline; none if there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        if file.exists() {
            super::read_json(file).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Writes it, sorted by name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        super::write_json(file, self)
    }

    /// The same with these figures. What other kernels made of another object is forgotten, since
    /// nobody can compare with it any more; margins stay.
    pub fn blessed(mut self, figures: Figures) -> Self {
        let Figures {
            kernel,
            compiler,
            object,
            programs,
            ratios,
        } = figures;
        if self.object != object {
            self.kernels.clear();
        }
        self.compiler = compiler;
        self.object = object;
        self.kernels.insert(kernel, OnKernel { programs, ratios });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(kernel: &str, instructions: u64) -> Figures {
        Figures {
            kernel: kernel.to_owned(),
            compiler: "rustc 1.96.0".to_owned(),
            object: BTreeMap::from([("limiter_edge".to_owned(), instructions)]),
            programs: BTreeMap::new(),
            ratios: BTreeMap::from([("edge: TCP".to_owned(), 0.5)]),
        }
    }

    #[test]
    fn blessing_keeps_margins_and_kernels_of_the_same_object() {
        let margins = Margins {
            counts_percent: 1,
            ratios_percent: 2,
        };
        let baseline = Baseline {
            margins,
            ..Baseline::default()
        };
        let two = baseline
            .blessed(figures("6.1 x86_64", 10))
            .blessed(figures("6.18 x86_64", 10));
        assert_eq!(two.margins, margins);
        assert_eq!(two.kernels.len(), 2);
        let other = two.blessed(figures("6.18 x86_64", 11));
        let kernels: Vec<&String> = other.kernels.keys().collect();
        assert_eq!(kernels, ["6.18 x86_64"]);
    }

    #[test]
    fn what_is_written_is_read_and_written_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("baseline.json");
        assert_eq!(Baseline::read(&file).unwrap(), None);
        let baseline = Baseline::default().blessed(figures("6.18 x86_64", 10));
        baseline.write(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let again = Baseline::read(&file).unwrap().unwrap();
        assert_eq!(again, baseline);
        again.write(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn what_is_no_baseline_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("baseline.json");
        std::fs::write(&file, "{\"margin\": 3}").unwrap();
        let error = format!("{:#}", Baseline::read(&file).unwrap_err());
        assert!(
            error.contains("baseline.json") && error.contains("margin"),
            "{error}"
        );
    }
}
