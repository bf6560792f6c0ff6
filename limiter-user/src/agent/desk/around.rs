//! What the desk knows of the node.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use log::warn;

use super::super::state::{Shared, State};
use crate::{
    complaint::{
        Limits, Trust,
        attribute::{Facts, NodeFacts, Owners},
    },
    control::node::NodeError,
    policy::image::{Holder, Image, UidBinding},
    report::store::{Reader, Store},
    system::users::Users,
};

/// What the desk knows of the node.
pub trait Around: Send + Sync {
    /// Within what bounds reports are read, and whom their headers are believed.
    fn rules(&self) -> (Limits, Trust);
    /// What the node recorded, up to now.
    fn facts(&self) -> Box<dyn Facts>;
    /// Whether there is such a tenant.
    ///
    /// # Errors
    /// There is none, or it cannot be under any sanction.
    fn knows(&self, tenant: &str) -> Result<(), NodeError>;
}

/// How long it is gone by who owned what, in a flood of reports.
const OWNERS_HOLD: Duration = Duration::from_secs(5);
/// How many uids without a name are listed.
const MOST_UIDS: u32 = 100_000;

/// The running node.
pub struct NodeAround {
    shared: Shared,
    store: Option<Arc<Store>>,
    owners: Mutex<Option<(Instant, Owners)>>,
}

impl NodeAround {
    /// The node of this agent, with the history that it writes.
    pub fn new(shared: Shared, store: Option<Arc<Store>>) -> Self {
        Self {
            shared,
            store,
            owners: Mutex::new(None),
        }
    }

    fn owners(&self) -> Owners {
        let mut kept = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, owners)) = &*kept
            && at.elapsed() < OWNERS_HOLD
        {
            return owners.clone();
        }
        let owners = owners_of(&self.shared.lock());
        *kept = Some((Instant::now(), owners.clone()));
        owners
    }
}

impl Around for NodeAround {
    fn rules(&self) -> (Limits, Trust) {
        let state = self.shared.lock();
        let complaints = &state.policy.node.complaints;
        (complaints.limits(), complaints.trust())
    }

    fn facts(&self) -> Box<dyn Facts> {
        if let Some(store) = &self.store
            && !store.flush()
        {
            warn!("the history is behind: a complaint is judged by what is recorded");
        }
        let owners = self.owners();
        let state = self.shared.lock();
        Box::new(NodeFacts {
            owners,
            history: Reader::new(&state.state_dir()),
            logs: state.policy.node.complaints.log_files(),
        })
    }

    fn knows(&self, tenant: &str) -> Result<(), NodeError> {
        drop(self.shared.lock().own_sanctions(tenant)?);
        Ok(())
    }
}

/// Whose addresses, domains and users are.
pub(in crate::agent) fn owners_of(state: &State) -> Owners {
    let (policy, image) = (&state.policy, &state.image);
    let users = users(image);
    let own = image.own_addresses.iter().copied();
    Owners::new(policy, own, &policy.node.complaints.received_by, users)
}

/// The users that send, and whose they are.
fn users(image: &Image) -> Vec<(u32, Option<String>, String)> {
    let mut found = Vec::new();
    let mut left = MOST_UIDS;
    for binding in &image.uids {
        let Some(tenant) = tenant_of(binding, image) else {
            continue;
        };
        // Also who only the name service knows.
        let name = binding.by.strip_prefix("user ").map(ToOwned::to_owned);
        let uids = binding.range.first..=binding.range.last;
        for uid in uids.take(usize::try_from(left).unwrap_or_default()) {
            left = left.saturating_sub(1);
            found.push((uid, name.clone(), tenant.to_owned()));
        }
    }
    let mut warnings = Vec::new();
    let none = Path::new("/nonexistent");
    match Users::read(Path::new("/etc/passwd"), none, &mut warnings) {
        Ok(users) => {
            for user in users.iter() {
                let at = image
                    .uids
                    .partition_point(|binding| binding.range.last < user.uid);
                let binding = image.uids.get(at);
                let binding = binding.filter(|binding| binding.range.first <= user.uid);
                if let Some(tenant) = binding.and_then(|binding| tenant_of(binding, image)) {
                    found.push((user.uid, Some(user.name.clone()), tenant.to_owned()));
                }
            }
        }
        Err(error) => warn!("{error}"),
    }
    found
}

fn tenant_of<'i>(binding: &UidBinding, image: &'i Image) -> Option<&'i str> {
    match binding.holder {
        Holder::Mta => None,
        Holder::Tenant(at) => image.tenants.get(at).map(|tenant| tenant.name.as_str()),
    }
}
