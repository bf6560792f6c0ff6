//! The node without an agent: told from pins and files.

use std::path::PathBuf;

use super::{View, coverage};
use crate::{
    control::node::{Node, NodeError},
    kernel::{
        KernelError, LayerState,
        attach::{How, other_limiters, pinned_layers},
        clock,
        maps::Maps,
        pins::Pins,
    },
    ledger::held_counts,
    policy::{compile::compile_what_holds, image::Image, model::Policy},
    report::{
        explain::{ExplainQuery, Explanation},
        status::Status,
        store::{EventFilter, History, Reader},
    },
    system::{
        Sources, System,
        interfaces::{Coverage, Wanted},
    },
};

/// The node without an agent.
pub struct PinnedNode {
    maps: Maps,
    pins: Pins,
    image: Option<Image>,
    policy: Policy,
    cgroup_mount: PathBuf,
    attach_point: PathBuf,
    /// What belongs on the interfaces; none if they cannot be listed.
    coverage: Option<Coverage>,
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
        // By the programs' clock, also if a test put it forward.
        clock::set_offset_ns(maps.settings.get(0)?.clock_offset_ns);
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
            policy: policy.clone(),
            attach_point: policy.places.attach_point(&cgroup_mount),
            cgroup_mount,
            coverage: coverage::expected(&Wanted::of(policy)).ok(),
            events: Reader::new(&policy.places.state_dir),
        })
    }

    /// What is attached, and what should be.
    fn layers(&self) -> Vec<LayerState> {
        let mut layers = pinned_layers(&self.pins);
        for state in layers
            .iter_mut()
            .filter(|state| state.how == How::CgroupLink)
        {
            if state.target.is_empty() {
                state.target = self.attach_point.display().to_string();
            }
        }
        if let Some(coverage) = &self.coverage {
            layers.extend(coverage::missing(coverage, &layers));
        }
        layers
    }

    fn view(&self) -> View<'_> {
        View {
            maps: &self.maps,
            image: self.image.as_ref(),
            policy: &self.policy,
            cgroup_mount: &self.cgroup_mount,
        }
    }
}

impl Node for PinnedNode {
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError> {
        let mut status = self.view().status(tenant, &self.layers())?;
        let others = other_limiters(&self.attach_point, &self.cgroup_mount, &self.pins);
        status.problems.extend(super::other_limiters(&others));
        if let Ok(counts) = held_counts(&self.policy.places.state_dir) {
            status.count_held_mail(&counts);
        }
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
