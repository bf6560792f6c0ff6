//! What is wrong with a configuration: where, which value, and what is allowed instead.

use std::fmt;

use serde::Serialize;

use super::model::Origin;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The policy can be loaded; this part takes effect when the thing it names appears.
    Warning,
    /// The policy cannot be loaded.
    Error,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is written.
    pub origin: Origin,
    /// What is wrong, naming the key and the value: `limits[0].max: -5 is not a count`.
    pub problem: String,
    /// What is allowed, or what to do: `a whole number from 0 to 4294967295`.
    pub allowed: String,
}

impl Fault {
    /// A fault that keeps the policy from being loaded.
    pub fn error(origin: &Origin, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            origin: origin.clone(),
            problem: problem.into(),
            allowed: allowed.into(),
        }
    }

    /// A fault that only delays a part of the policy.
    pub fn warning(
        origin: &Origin,
        problem: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(origin, problem, allowed)
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(
            f,
            "{}: {severity}: {}; {}",
            self.origin, self.problem, self.allowed
        )
    }
}

/// Whether any of `faults` keeps the policy from being loaded.
#[must_use]
pub fn any_error(faults: &[Fault]) -> bool {
    faults.iter().any(|fault| fault.severity == Severity::Error)
}
