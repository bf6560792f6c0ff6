//! What `status` says of the tenants.

use jiff::Timestamp;
use limiter_common::{
    abi::NOBODY,
    sanction::{WITHOUT_END, seconds},
    settings,
    tenant::{Tenant, flags},
};

use super::{Moment, View, layers, mode, usage};
use crate::{
    control::node::NodeError,
    kernel::{KernelError, LayerState, read::KnownNames},
    report::{
        case::RecordStatus,
        problem::Problem,
        status::{SanctionStatus, Standing, Status, TenantStatus},
    },
};

impl View<'_> {
    /// The node as it is now, without what only a running agent knows.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or a map cannot be read.
    pub fn status(&self, tenant: Option<&str>, layers: &[LayerState]) -> Result<Status, NodeError> {
        let moment = Moment::now();
        let settings = self.settings()?;
        let names = self.maps.tenant_names()?;
        let tenants = match tenant {
            Some(wanted) => {
                let index = self.known(wanted, &names)?;
                let status = self.tenant_status(wanted, index, &names, moment)?;
                status.into_iter().collect()
            }
            None => {
                let mut all = Vec::new();
                for (name, index) in names.iter() {
                    all.extend(self.tenant_status(name, index, &names, moment)?);
                }
                all
            }
        };
        let mut status = Status {
            node: self.policy.node.name.clone(),
            mode: mode(settings.flags & settings::flags::ENFORCE != 0),
            observe_until: moment.ahead(settings.observe_until_ns),
            healthy: true,
            problems: self.problems(layers)?,
            proposals: Vec::new(),
            agent: None,
            bounces: None,
            mailing_lists: None,
            layers: layers::of(layers),
            tenants,
        };
        status.judge();
        Ok(status)
    }

    fn tenant_status(
        &self,
        name: &str,
        index: u32,
        names: &KnownNames,
        moment: Moment,
    ) -> Result<Option<TenantStatus>, KernelError> {
        let Some(known) = self.maps.tenant(index)? else {
            return Ok(None);
        };
        let stats = self.maps.counters(index)?;
        let sanctions = self.sanctions(index, names, moment)?;
        let strongest = sanctions.first();
        let Tenant {
            parent,
            flags: bits,
            observe_until_ns,
            ..
        } = known.tenant;
        Ok(Some(TenantStatus {
            tenant: name.to_owned(),
            parent: (parent != NOBODY).then(|| names.name_of(parent)),
            mode: mode(bits & flags::ENFORCE != 0),
            observe_until: moment.ahead(observe_until_ns),
            standing: strongest.map_or(Standing::Good, |it| it.sanction.into()),
            sanction: strongest.map(|it| it.sanction),
            until: strongest.and_then(|it| it.until),
            usage: known
                .limits
                .iter()
                .map(|limit| usage(limit, moment))
                .collect(),
            allowed: stats.allowed,
            denied: stats.denied,
            redirected: stats.redirected,
            would_deny: stats.would_deny,
            held_mail: 0,
            sanctions,
            record: RecordStatus::default(),
        }))
    }

    /// The sanctions in force for a tenant, strongest first.
    pub(super) fn sanctions(
        &self,
        index: u32,
        names: &KnownNames,
        moment: Moment,
    ) -> Result<Vec<SanctionStatus>, KernelError> {
        let in_force = self
            .maps
            .sanctions_in_force(index, seconds(moment.now_ns))?;
        Ok(in_force
            .into_iter()
            .map(|it| SanctionStatus {
                sanction: it.sanction.into(),
                until: (it.until_s != WITHOUT_END).then(|| moment.second(it.until_s)),
                from: (it.owner != index).then(|| names.name_of(it.owner)),
            })
            .collect())
    }

    /// The sanctions in force for the tenant of this name, strongest first.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or a map cannot be read.
    pub fn sanctions_of(&self, tenant: &str) -> Result<Vec<SanctionStatus>, NodeError> {
        let names = self.maps.tenant_names()?;
        let index = self.known(tenant, &names)?;
        Ok(self.sanctions(index, &names, Moment::now())?)
    }

    /// Until when nothing of a tenant is refused because it or the node is opened.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or a map cannot be read.
    pub fn opened_until(&self, tenant: &str) -> Result<Option<Timestamp>, NodeError> {
        let index = self.known(tenant, &self.maps.tenant_names()?)?;
        Ok(self.opened(index)?)
    }

    /// The same, of the tenant with this index.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn opened(&self, index: u32) -> Result<Option<Timestamp>, KernelError> {
        let nodes = self.settings()?.observe_until_ns;
        let own = self.maps.tenants.get(index)?.observe_until_ns;
        Ok(Moment::now().ahead(own.max(nodes)))
    }

    fn known(&self, tenant: &str, names: &KnownNames) -> Result<u32, NodeError> {
        names
            .index_of(tenant)
            .ok_or_else(|| NodeError::UnknownTenant {
                name: tenant.to_owned(),
            })
    }

    /// What is wrong as far as the kernel tells.
    fn problems(&self, layers: &[LayerState]) -> Result<Vec<Problem>, KernelError> {
        let mut problems = layers::problems(layers);
        let health = self.maps.health()?;
        if health.internal > 0 {
            problems.push(Problem::error(
                format!(
                    "the kernel programs failed {} times at something that cannot fail; what they \
                     could not judge was refused where the node enforces",
                    health.internal
                ),
                "`limiter events` shows which (reason internal); please report it",
            ));
        }
        if health.events_lost > 0 {
            problems.push(Problem::warning(
                format!(
                    "{} refused attempts were counted, but not reported: more came than the agent \
                     could read",
                    health.events_lost
                ),
                "the counters of `limiter status` are exact; look for the tenant with the most",
            ));
        }
        if health.attempts_lost > 0 {
            problems.push(Problem::warning(
                format!(
                    "{} allowed attempts were not recorded",
                    health.attempts_lost
                ),
                "they are missing when complaints are matched; the counters are exact",
            ));
        }
        if health.contended > 0 {
            problems.push(Problem::warning(
                format!(
                    "{} attempts were refused because the policy changed again and again while \
                     they were judged",
                    health.contended
                ),
                "nothing to do unless it grows",
            ));
        }
        Ok(problems)
    }
}
