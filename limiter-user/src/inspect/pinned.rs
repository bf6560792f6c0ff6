//! The node without an agent: told from pins and files.

use std::path::PathBuf;

use super::View;
use crate::{
    control::node::{Node, NodeError},
    kernel::{
        KernelError,
        attach::{other_limiters, pinned_layers},
        maps::Maps,
        pins::Pins,
    },
    policy::{compile::compile_what_holds, image::Image, model::Policy},
    report::{
        explain::{ExplainQuery, Explanation},
        status::Status,
        store::{EventFilter, History, Reader},
    },
    system::{Sources, System},
};

/// The node without an agent.
pub struct PinnedNode {
    maps: Maps,
    pins: Pins,
    image: Option<Image>,
    node: String,
    cgroup_mount: PathBuf,
    attach_point: PathBuf,
    events: Reader,
}

impl PinnedNode {
    /// Opens what is pinned. The policy names matches; what is in force is what the kernel says.
    ///
    /// # Errors
    ///
    /// Nothing is pinned, or the pins are not safe or of another version.
    pub fn open(policy: &Policy) -> Result<Self, KernelError> {
        let pins = Pins::new(&policy.places.pin_dir);
        let maps = Maps::open(&pins)?;
        let sources = Sources::find();
        let image = sources
            .as_ref()
            .ok()
            .and_then(|sources| System::snapshot(policy, sources).ok())
            .map(|system| compile_what_holds(policy, &system).0);
        let cgroup_mount = sources?.cgroup_mount;
        Ok(Self {
            maps,
            pins,
            image,
            node: policy.node.name.clone(),
            attach_point: policy.places.attach_point(&cgroup_mount),
            cgroup_mount,
            events: Reader::new(&policy.places.state_dir),
        })
    }

    fn view(&self) -> View<'_> {
        View {
            maps: &self.maps,
            image: self.image.as_ref(),
            node: &self.node,
            cgroup_mount: &self.cgroup_mount,
        }
    }
}

impl Node for PinnedNode {
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError> {
        let mut status = self.view().status(tenant, &pinned_layers(&self.pins))?;
        let others = other_limiters(&self.attach_point, &self.cgroup_mount, &self.pins);
        status.problems.extend(super::other_limiters(&others));
        status.judge();
        Ok(status)
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError> {
        self.view().explain(query)
    }

    fn history(&self, filter: &EventFilter) -> Result<History, NodeError> {
        Ok(self.events.history(filter)?)
    }
}
