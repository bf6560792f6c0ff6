//! What is wrong with a node right now, and what to do about it.

use serde::{Deserialize, Serialize};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Enforcement is complete; something beside it is not.
    Warning,
    /// Something that should hold does not: the node is unhealthy.
    Error,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and where.
    pub problem: String,
    /// What to do: a command where there is one.
    pub remedy: String,
}

impl Problem {
    /// A problem that makes the node unhealthy.
    pub fn error(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// A problem that does not.
    pub fn warning(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(problem, remedy)
        }
    }
}
