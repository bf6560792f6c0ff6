//! Faults of a configuration as they travel: the policy's [`Fault`] keeps its own form.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{problem::Severity, text::printable};
use crate::policy::fault::{self, Fault};

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// An error keeps the policy from being loaded; a warning does not.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line, from 1; null where only the file is known.
    pub line: Option<usize>,
    /// The column, from 1; null where only the file is known.
    pub column: Option<usize>,
    /// What is wrong, with the value.
    pub problem: String,
    /// What is allowed instead.
    pub allowed: String,
}

impl From<&Fault> for FaultReport {
    fn from(fault: &Fault) -> Self {
        let known = fault.origin.line > 0;
        Self {
            severity: match fault.severity {
                fault::Severity::Warning => Severity::Warning,
                fault::Severity::Error => Severity::Error,
            },
            file: fault.origin.file.display().to_string(),
            line: known.then_some(fault.origin.line),
            column: known.then_some(fault.origin.column),
            problem: fault.problem.clone(),
            allowed: fault.allowed.clone(),
        }
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file))?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let (problem, allowed) = (printable(&self.problem), printable(&self.allowed));
        write!(f, ": {severity}: {problem}; {allowed}")
    }
}

/// How many errors and warnings there are: `2 errors, 1 warning`.
#[must_use]
pub fn tally(faults: &[FaultReport]) -> String {
    let errors = faults
        .iter()
        .filter(|fault| fault.severity == Severity::Error)
        .count();
    let warnings = faults.len() - errors;
    let plural = |count: usize, noun: &str| match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    match (errors, warnings) {
        (0, 0) => "no faults".to_owned(),
        (errors, 0) => plural(errors, "error"),
        (0, warnings) => plural(warnings, "warning"),
        _ => format!(
            "{}, {}",
            plural(errors, "error"),
            plural(warnings, "warning")
        ),
    }
}
