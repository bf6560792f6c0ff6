//! Why a command fails, what to do, and the exit code.

use std::{io, path::PathBuf, process::ExitCode};

use thiserror::Error;

use crate::{
    agent::AgentError,
    control::{client::ClientError, node::NodeError},
    kernel::KernelError,
    mta::MtaError,
    report::faults::{FaultReport, tally},
};

/// Failed, or unhealthy.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const WRONG: u8 = 2;

/// Why a command fails.
#[derive(Debug, Error)]
pub enum CliError {
    /// The agent does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No agent answers, and the kernel's pins do not either.
    #[error("{client}, and the kernel cannot be asked instead: {why}")]
    NeitherAnswers {
        /// What the agent's socket says.
        client: ClientError,
        /// What the pins say.
        why: String,
    },
    /// The node answers with an error.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The mail server cannot be asked.
    #[error(transparent)]
    Mta(#[from] MtaError),
    /// The agent ends with an error.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The configuration is wrong.
    #[error("{config} cannot be loaded: {tally}{list}", config = config.display(),
        tally = tally(faults), list = list(faults))]
    Faults {
        /// The main file.
        config: PathBuf,
        /// What is wrong with it.
        faults: Vec<FaultReport>,
    },
    /// The main file cannot be read even for the places it names.
    #[error("{config}: {why}", config = config.display())]
    Places {
        /// The main file.
        config: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An agent runs that would put back what `detach` removes.
    #[error("an agent is running (process {pid}), and would go on enforcing")]
    AgentRuns {
        /// Its process id.
        pid: String,
    },
    /// The system refuses.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Whoever read the output is gone.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// What to do about it; empty where the error says it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Client(ClientError::Refused { remedy, .. }) => remedy.clone(),
            Self::Client(ClientError::NotRunning { .. }) => {
                "start it (systemctl start limiter); programs that are pinned in the kernel go on \
                 enforcing the last policy meanwhile (limiter status)"
                    .to_owned()
            }
            Self::NeitherAnswers { .. } => {
                "start the agent: systemctl start limiter; `limiter doctor` tells what is missing"
                    .to_owned()
            }
            Self::Node(error) => error.remedy(),
            Self::Kernel(_) => "`limiter doctor` tells what is missing; be root".to_owned(),
            Self::Agent(_) => "`limiter check` and `limiter doctor` tell more".to_owned(),
            Self::Faults { .. } => "correct the files; `limiter check` checks them".to_owned(),
            Self::Places { .. } => {
                "correct the file, name another with --config, or take the default places with \
                 --config /dev/null"
                    .to_owned()
            }
            Self::AgentRuns { pid } => format!(
                "stop it first: systemctl stop limiter (or kill {pid}); enforcement goes on until \
                 `limiter detach`"
            ),
            Self::Mta(_) => "name what is elsewhere with --at and --program".to_owned(),
            Self::Client(_) | Self::Io { .. } | Self::OutputClosed => String::new(),
        }
    }

    /// The exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        let wrong_usage = match self {
            Self::Faults { .. } | Self::Places { .. } => true,
            Self::Node(error) => matches!(error, NodeError::Invalid { .. }),
            Self::Client(ClientError::Refused { status, .. }) => *status == 400,
            _ => false,
        };
        ExitCode::from(if wrong_usage { WRONG } else { FAILED })
    }
}

/// A line a fault, the first twenty.
fn list(faults: &[FaultReport]) -> String {
    const MOST: usize = 20;
    let mut lines: String = faults
        .iter()
        .take(MOST)
        .map(|fault| format!("\n  {fault}"))
        .collect();
    if let Some(more) = faults.len().checked_sub(MOST).filter(|more| *more > 0) {
        lines.push_str(&format!("\n  … and {more} more (limiter check)"));
    }
    lines
}
