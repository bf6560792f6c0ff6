//! Why the agent cannot run, or cannot do what it was asked.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    control::socket::SocketError,
    kernel::KernelError,
    policy::fault::Fault,
    system::{SystemError, mounts::MountError, namespace::NamespaceError, watch::WatchError},
};

/// Why the agent cannot run, or cannot do what it was asked.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The configuration cannot be loaded, and there is none to fall back to.
    #[error(
        "the configuration cannot be loaded, and no earlier one is kept in {}:\n{}\nwhat is \
         pinned in the kernel goes on being enforced; `limiter check` shows the faults again",
        state_dir.display(), lines(faults)
    )]
    Configuration {
        /// What is wrong with it.
        faults: Vec<Fault>,
        /// Where the last good one would be.
        state_dir: PathBuf,
    },
    /// Somebody else than root.
    #[error("the agent loads programs into the kernel: run it as root")]
    NotRoot,
    /// Something with the kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Something is not mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The machine cannot be looked at.
    #[error(transparent)]
    System(#[from] SystemError),
    /// Changes of the machine cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The node's own network namespace cannot be told.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The control socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file or a system call.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
}

impl AgentError {
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

fn lines(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(|fault| format!("  {fault}"))
        .collect::<Vec<_>>()
        .join("\n")
}
