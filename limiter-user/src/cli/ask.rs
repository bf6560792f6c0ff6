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
    inspect::{PinnedNode, book_of, record::Shelf},
    policy::{self, glance, last_good, model::Policy},
    report::faults::FaultReport,
    system::clock::MachineClock,
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

/// What is known without an agent, for [`agent_or_book`].
pub struct Alone {
    /// The record book.
    pub shelf: Shelf,
    /// The pins, where there are any.
    pub pinned: Option<PinnedNode>,
    /// The node's name; empty where the files are bad.
    pub node: String,
}

impl Alone {
    fn open(global: &Global) -> Result<Self, CliError> {
        // Whatever is wrong with the files: a record can be looked at.
        let policy = policy(global).ok();
        let pinned = policy.as_ref().map(PinnedNode::open);
        let pinned = pinned.and_then(Result::ok);
        let state_dir = match &policy {
            Some(policy) => policy.places.state_dir.clone(),
            None => glance::state_dir(&global.config),
        };
        let shelf = match &pinned {
            Some(pinned) => pinned.shelf()?,
            None => {
                let reading = MachineClock::new(None).reading();
                let book = policy.as_ref().map(book_of).unwrap_or_default();
                Shelf::alone(&state_dir, book, &reading)?
            }
        };
        let shelf = shelf.ok_or_else(|| NodeError::NotFound {
            what: format!(
                "there is no record book in {}: nothing was ever recorded",
                state_dir.display()
            ),
        })?;
        Ok(Self {
            shelf,
            pinned,
            node: policy.map(|policy| policy.node.name).unwrap_or_default(),
        })
    }
}

/// Asks the agent; where none answers, whoever `ask_else` asks, with why there is none.
fn agent_or<T, F: Future<Output = Result<T, ClientError>>>(
    global: &Global,
    ask_agent: impl FnOnce(Client) -> F,
    ask_else: impl FnOnce(ClientError) -> Result<Answer<T>, CliError>,
) -> Result<Answer<T>, CliError> {
    let agent = client(global).patient(PATIENCE);
    match block_on(async { Ok(ask_agent(agent).await) })? {
        Ok(answer) => Ok(Answer {
            answer,
            without_agent: None,
        }),
        Err(
            error @ (ClientError::NotRunning { .. }
            | ClientError::Silent { .. }
            | ClientError::Broken { .. }),
        ) => ask_else(error),
        Err(error) => Err(error.into()),
    }
}

/// Asks the agent; where none answers, the record book.
pub fn agent_or_book<T, F: Future<Output = Result<T, ClientError>>>(
    global: &Global,
    ask_agent: impl FnOnce(Client) -> F,
    ask_book: impl FnOnce(&Alone) -> Result<T, NodeError>,
) -> Result<Answer<T>, CliError> {
    agent_or(global, ask_agent, |why| {
        Ok(Answer {
            answer: ask_book(&Alone::open(global)?)?,
            without_agent: Some(why),
        })
    })
}

/// Asks the agent; where none answers, the pins and files.
pub fn agent_or_pins<T, F: Future<Output = Result<T, ClientError>>>(
    global: &Global,
    ask_agent: impl FnOnce(Client) -> F,
    ask_pins: impl FnOnce(&dyn Node) -> Result<T, NodeError>,
) -> Result<Answer<T>, CliError> {
    agent_or(global, ask_agent, |client| {
        let policy = policy(global)?;
        match PinnedNode::open(&policy) {
            Ok(node) => Ok(Answer {
                answer: ask_pins(&node)?,
                without_agent: Some(client),
            }),
            Err(why) => Err(CliError::NeitherAnswers {
                client,
                why: why.to_string(),
            }),
        }
    })
}
