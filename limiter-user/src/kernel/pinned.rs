//! The node as pins and files tell of it. Placeholder of the interface.

use super::KernelError;
use crate::{
    control::node::{Node, NodeError},
    policy::model::Policy,
    report::{
        explain::{ExplainQuery, Explanation},
        status::Status,
        store::{EventFilter, History, Reader},
    },
};

/// The node without an agent.
#[derive(Debug)]
pub struct PinnedNode {
    events: Reader,
}

impl PinnedNode {
    /// Opens the pins.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn open(policy: &Policy) -> Result<Self, KernelError> {
        let _ = Self {
            events: Reader::new(&policy.places.state_dir),
        };
        Err(KernelError::Missing)
    }
}

impl Node for PinnedNode {
    fn status(&self, _: Option<&str>) -> Result<Status, NodeError> {
        Err(NodeError::NeedsAgent { doing: "status" })
    }

    fn explain(&self, _: &ExplainQuery) -> Result<Explanation, NodeError> {
        Err(NodeError::NeedsAgent { doing: "explain" })
    }

    fn history(&self, filter: &EventFilter) -> Result<History, NodeError> {
        Ok(self.events.history(filter)?)
    }
}
