//! The running agent. Placeholder of the interface.

use std::path::PathBuf;

use thiserror::Error;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The main configuration file.
    pub config: PathBuf,
    /// The control socket; `None`: the configuration's.
    pub control: Option<PathBuf>,
}

/// Why the agent cannot run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// This build has none.
    #[error("this build has no agent")]
    Missing,
}

/// Runs until told to stop.
///
/// # Errors
/// [`AgentError`].
pub async fn run(options: RunOptions) -> Result<(), AgentError> {
    let _ = options;
    Err(AgentError::Missing)
}
