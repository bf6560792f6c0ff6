//! Cutting live sessions of tenants that were just sanctioned. What they send is stopped by the
//! programs already: this is so that their programs learn it at once, idle ones too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use limiter_common::{sanction::Sanction, verdict::PortGroup};
use log::{info, warn};

use super::{live::Cutter, state::Shared};
use crate::{
    policy::image::{Holder, Image},
    report::outcome::CutOutcome,
    system::sessions::{self, CutError, SessionFacts, Where},
};

/// Cuts what the agent knows to be a tenant's.
pub struct SessionCutter {
    shared: Shared,
}

impl SessionCutter {
    /// Of this agent.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

impl Cutter for SessionCutter {
    fn cut(&self, tenant: &str, sanction: Sanction, affected: &[u32]) -> CutOutcome {
        let (whose, cgroups) = {
            let state = self.shared.lock();
            Whose::of(
                &state.image,
                &state.affected(affected),
                &state.cgroup_mount(),
            )
        };
        let place = if cgroups.is_empty() {
            Where::OwnOnly
        } else {
            Where::OfCgroups(&cgroups)
        };
        match sessions::cut(place, |facts| {
            whose.is_theirs(facts) && whose.is_forbidden(facts, sanction)
        }) {
            Ok(report) => {
                info!(
                    "cut {} sessions of {tenant:?} in {} ms",
                    report.cut,
                    report.took.as_millis()
                );
                CutOutcome {
                    sessions: report.cut as u64,
                    left: report.left as u64,
                    failures: report.failures.iter().map(ToString::to_string).collect(),
                }
            }
            Err(error) => {
                if !matches!(error, CutError::Unsupported) {
                    warn!("sessions of {tenant:?} cannot be cut: {error}");
                }
                CutOutcome {
                    sessions: 0,
                    left: 0,
                    failures: vec![error.to_string()],
                }
            }
        }
    }
}

/// Which sessions are the affected tenants', and which destinations are forbidden to them.
struct Whose {
    /// By uid, in the node's own network namespace: whether it is theirs. The MTA is nobody's.
    uids: Vec<(u32, u32, bool)>,
    mta: Vec<(u32, u32)>,
    /// By cgroup id, the nearest claim: whether it is theirs.
    cgroups: BTreeMap<u64, bool>,
    ports: BTreeMap<u16, PortGroup>,
    own_addresses: BTreeSet<IpAddr>,
    management: Vec<ipnet::IpNet>,
}

impl Whose {
    /// Of an image; with it the cgroups that are theirs.
    fn of(
        image: &Image,
        tenants: &BTreeSet<usize>,
        mount: &std::path::Path,
    ) -> (Self, Vec<PathBuf>) {
        let mut claims: Vec<_> = image.cgroups.iter().collect();
        claims.sort_by_key(|claim| claim.depth);
        let mut cgroups = BTreeMap::new();
        let mut places = Vec::new();
        for claim in claims {
            let theirs = tenants.contains(&claim.tenant);
            let directory = mount.join(claim.path.trim_start_matches('/'));
            // Deeper claims come later and take what is theirs.
            match sessions::cgroup_ids(&directory) {
                Ok(ids) => cgroups.extend(ids.into_iter().map(|id| (id, theirs))),
                // It may be gone: then only its sockets are left.
                Err(_) => {
                    cgroups.insert(claim.id, theirs);
                }
            }
            if theirs {
                places.push(directory);
            }
        }
        let mut uids = Vec::new();
        let mut mta = Vec::new();
        for binding in &image.uids {
            let (first, last) = (binding.range.first, binding.range.last);
            match binding.holder {
                Holder::Mta => mta.push((first, last)),
                Holder::Tenant(tenant) => uids.push((first, last, tenants.contains(&tenant))),
            }
        }
        let whose = Self {
            uids,
            mta,
            cgroups,
            ports: image.ports.iter().copied().collect(),
            own_addresses: image.own_addresses.iter().copied().collect(),
            management: image.management.clone(),
        };
        (whose, places)
    }

    fn is_theirs(&self, facts: &SessionFacts) -> bool {
        let uid = facts.uid.filter(|_| facts.namespace.is_own);
        let within = |uid: u32, first: u32, last: u32| (first..=last).contains(&uid);
        if let Some(uid) = uid
            && self
                .mta
                .iter()
                .any(|(first, last)| within(uid, *first, *last))
        {
            return false;
        }
        if let Some(theirs) = facts.cgroup_id.and_then(|id| self.cgroups.get(&id)) {
            return *theirs;
        }
        uid.is_some_and(|uid| {
            self.uids
                .iter()
                .any(|(first, last, theirs)| *theirs && within(uid, *first, *last))
        })
    }

    fn is_forbidden(&self, facts: &SessionFacts, sanction: Sanction) -> bool {
        let remote = facts.remote.ip();
        if remote.is_loopback() {
            return false;
        }
        let group = self.ports.get(&facts.remote.port()).copied();
        let mail = matches!(group, Some(PortGroup::Smtp | PortGroup::Submission))
            && !self.own_addresses.contains(&remote);
        match sanction {
            Sanction::BlockSmtp => mail,
            Sanction::SuspendMail => {
                mail || (group == Some(PortGroup::Mailbox) && !self.own_addresses.contains(&remote))
            }
            Sanction::SuspendNetwork | Sanction::NullRoute => {
                mail || !self
                    .management
                    .iter()
                    .any(|prefix| prefix.contains(&remote))
            }
        }
    }
}
