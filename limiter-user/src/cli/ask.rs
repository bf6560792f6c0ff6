//! Asking the agent, or the pins and files where none answers.

use std::{future::Future, time::Duration};

use super::{
    Global,
    error::CliError,
    places::{self},
};
use crate::{
    control::{
        client::{Client, ClientError},
        node::{Node, NodeError},
    },
    inspect::PinnedNode,
    policy::{self, glance, last_good, model::Policy},
    report::faults::FaultReport,
};

/// How long an agent may think about a question.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a command's own conversations: one thread is plenty.
pub fn block_on<T>(task: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io {
            doing: "start",
            source,
        })?
        .block_on(task)
}

/// The agent's client.
pub fn client(global: &Global) -> Client {
    Client::new(&places::control(global))
}

/// The policy in the files; where they are bad, the last good one, which is what the kernel
/// enforces.
fn policy(global: &Global) -> Result<Policy, CliError> {
    let loaded = policy::load(&global.config);
    if let Some(policy) = loaded.policy {
        return Ok(policy);
    }
    let state_dir = glance::state_dir(&global.config);
    if let Ok(Some(policy)) = last_good::load(&state_dir) {
        log::error!(
            "{} cannot be loaded (`limiter check` shows why): answering by the last good policy",
            global.config.display()
        );
        return Ok(policy);
    }
    Err(CliError::Faults {
        config: global.config.clone(),
        faults: loaded.faults.iter().map(FaultReport::from).collect(),
    })
}

/// An answer, and whether no agent gave it.
pub struct Answer<T> {
    /// The answer.
    pub answer: T,
    /// Why the agent did not give it; `None` if it did.
    pub without_agent: Option<ClientError>,
}

/// Asks the agent; where none answers, the pins and files.
pub fn agent_or_pins<T, F: Future<Output = Result<T, ClientError>>>(
    global: &Global,
    ask_agent: impl FnOnce(Client) -> F,
    ask_pins: impl FnOnce(&dyn Node) -> Result<T, NodeError>,
) -> Result<Answer<T>, CliError> {
    let agent = client(global).patient(PATIENCE);
    let client_error = match block_on(async { Ok(ask_agent(agent).await) })? {
        Ok(answer) => {
            return Ok(Answer {
                answer,
                without_agent: None,
            });
        }
        Err(
            error @ (ClientError::NotRunning { .. }
            | ClientError::Silent { .. }
            | ClientError::Broken { .. }),
        ) => error,
        Err(error) => return Err(error.into()),
    };
    let policy = policy(global)?;
    match PinnedNode::open(&policy) {
        Ok(node) => Ok(Answer {
            answer: ask_pins(&node)?,
            without_agent: Some(client_error),
        }),
        Err(why) => Err(CliError::NeitherAnswers {
            client: client_error,
            why: why.to_string(),
        }),
    }
}
