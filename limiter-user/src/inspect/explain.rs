//! What `explain` says: the kernel's decision, made again step by step with reasons.

use limiter_common::{
    abi::{DEFAULT, NODE},
    address::{self, EXEMPT_SET_BITS, ExemptKey},
    limit::{Kind, Unit},
    owner::Owner,
    settings::{self, Settings},
    tenant::{Tenant, flags},
    verdict::{Layer, Permission, PortGroup, Reason, Verdict},
};

use super::{
    Moment, View, mode,
    subject::{Found, Identity},
    usage,
};
use crate::{
    control::node::NodeError,
    kernel::{
        KernelError,
        identities::wire_address,
        read::{KnownTenant, LimitUse},
    },
    report::{
        event::Endpoint,
        explain::{ExplainQuery, Explanation, LimitState, Rule},
    },
};

/// The rule that decides, and what it decides under enforce.
struct Ruling {
    rule: Rule,
    reason: Reason,
    verdict: Verdict,
    because: String,
}

impl Ruling {
    fn allowed(rule: Rule, because: impl Into<String>) -> Self {
        Self {
            rule,
            reason: Reason::None,
            verdict: Verdict::Allowed,
            because: because.into(),
        }
    }

    fn denied(rule: Rule, reason: Reason, because: impl Into<String>) -> Self {
        Self {
            rule,
            reason,
            verdict: Verdict::Denied,
            because: because.into(),
        }
    }
}

impl View<'_> {
    /// What would become of a connection, and why.
    ///
    /// # Errors
    ///
    /// The subject does not exist, or a map cannot be read.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError> {
        let moment = Moment::now();
        let identity = Identity::of(&query.subject)?;
        let found = self.find(&identity)?;
        let settings = self.settings()?;
        let destination = wire_address(query.to.ip());
        let port = query.to.port();

        let index = if found.owner.is_tenant() {
            found.owner.index()
        } else {
            DEFAULT
        };
        let chain = self.maps.chain(index)?;
        let names = self.maps.tenant_names()?;
        let name = |index: u32| names.name_of(index);
        let Some(tenant) = chain.first().map(|known| known.tenant) else {
            return Err(NodeError::Failed {
                what: "the kernel knows no policy for whoever nobody claims".to_owned(),
                remedy: "restart the agent: systemctl restart limiter".to_owned(),
            });
        };
        let group = PortGroup::from_wire(self.maps.ports.get(0)?.groups[usize::from(port)])
            .unwrap_or(PortGroup::Other);
        let is_mta = found.owner == Owner::MTA;

        let ruling = self.rule(
            &Question {
                settings,
                destination,
                port,
                group,
                moment,
                identity: &identity,
            },
            &found,
            &chain,
            &name,
        )?;
        let enforced = tenant.enforces(moment.now_ns) && moment.now_ns >= settings.observe_until_ns;
        let verdict = match ruling.verdict {
            Verdict::Denied | Verdict::Redirected if !enforced => Verdict::WouldDeny,
            verdict => verdict,
        };
        let limits = chain
            .iter()
            .flat_map(|known| known.limits.iter().map(|limit| (known.index, limit)))
            .filter(|(_, limit)| limit.limit.concerns(group))
            .map(|(owner, limit)| LimitState {
                owner: name(owner),
                usage: usage(limit, moment),
            })
            .collect();
        let until = tenant.observe_until_ns.max(settings.observe_until_ns);
        Ok(Explanation {
            subject: query.subject.to_string(),
            destination: Endpoint::from(query.to),
            tenant: (!is_mta).then(|| name(index)),
            matched_by: found.by,
            mta: is_mta,
            ancestors: if is_mta {
                Vec::new()
            } else {
                chain
                    .iter()
                    .skip(1)
                    .filter(|known| known.index != NODE)
                    .map(|known| name(known.index))
                    .collect()
            },
            layer: Layer::Connect,
            rule: ruling.rule,
            because: ruling.because,
            mode: mode(tenant.flags & flags::ENFORCE != 0),
            observe_until: moment.ahead(until),
            verdict,
            reason: ruling.reason,
            enforced_verdict: ruling.verdict,
            limits: if is_mta { Vec::new() } else { limits },
            notes: notes(&identity),
        })
    }

    fn rule(
        &self,
        question: &Question<'_>,
        found: &Found,
        chain: &[KnownTenant],
        name: &dyn Fn(u32) -> String,
    ) -> Result<Ruling, KernelError> {
        let Question {
            settings,
            destination,
            port,
            group,
            ..
        } = question;
        if !matches!(group, PortGroup::Smtp | PortGroup::Submission) {
            return Ok(Ruling::allowed(
                Rule::NotAMailPort,
                format!("port {port} is none that mail is sent to (`ports` in the configuration)"),
            ));
        }
        if address::is_loopback(destination) {
            return Ok(Ruling::allowed(
                Rule::Loopback,
                "it does not leave the node",
            ));
        }
        if self.maps.own_addresses.get(destination)?.is_some() {
            return Ok(Ruling::allowed(
                Rule::OwnAddress,
                "the address is the node's own",
            ));
        }
        if found.owner == Owner::MTA {
            return Ok(Ruling::allowed(Rule::Mta, "the node's own MTA may send"));
        }
        let Some(known) = chain.first() else {
            return Ok(Ruling::denied(
                Rule::Internal,
                Reason::Internal,
                "it has no policy",
            ));
        };
        let whose = name(known.index);
        if let Some(because) = self.exempt(settings, &known.tenant, *destination, *port)? {
            return Ok(Ruling::allowed(Rule::Exempt, because));
        }
        let (rule, reason, key) = match group {
            PortGroup::Submission => (Rule::Submission, Reason::Submission, "submission"),
            _ => (Rule::DirectSmtp, Reason::DirectSmtp, "direct_smtp"),
        };
        match Permission::from_wire(known.tenant.permission(*group)) {
            Some(Permission::Allow) => Ok(limits(question, chain, name)),
            Some(Permission::Redirect) => Ok(redirect(question, &whose)),
            Some(Permission::Block) | None => Ok(Ruling::denied(
                rule,
                reason,
                format!("{key}: block of {whose}"),
            )),
        }
    }

    fn exempt(
        &self,
        settings: &Settings,
        tenant: &Tenant,
        destination: address::Address,
        port: u16,
    ) -> Result<Option<String>, KernelError> {
        let sets = [
            (
                0,
                settings.flags & settings::flags::EXEMPT != 0,
                "for everybody",
            ),
            (tenant.exempt_set, tenant.exempt_set != 0, "for this tenant"),
        ];
        for (set, in_use, whom) in sets {
            if !in_use {
                continue;
            }
            let key = ExemptKey::new(set, destination);
            let ports = self.maps.exempt.get(EXEMPT_SET_BITS + 128, key)?;
            if ports.is_some_and(|ports| ports.contains(port)) {
                return Ok(Some(format!("the destination is exempt {whom}")));
            }
        }
        Ok(None)
    }
}

/// What a connection is judged by.
struct Question<'a> {
    settings: Settings,
    destination: address::Address,
    port: u16,
    group: PortGroup,
    moment: Moment,
    identity: &'a Identity,
}

fn redirect(question: &Question<'_>, whose: &str) -> Ruling {
    let settings = &question.settings;
    let is_v4 = address::as_v4(&question.destination).is_some();
    let port = if is_v4 {
        settings.redirect4_port
    } else {
        settings.redirect6_port
    };
    let denied = |because: String| Ruling::denied(Rule::DirectSmtp, Reason::DirectSmtp, because);
    if question.identity.foreign {
        return denied(format!(
            "direct_smtp: redirect of {whose}, but the local MTA cannot be reached from another \
             network namespace"
        ));
    }
    if port == 0 {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        return denied(format!(
            "direct_smtp: redirect of {whose}, but `mta.listen` has no {family} address"
        ));
    }
    Ruling {
        rule: Rule::DirectSmtp,
        reason: Reason::DirectSmtp,
        verdict: Verdict::Redirected,
        because: format!(
            "direct_smtp: redirect of {whose}: to the local MTA (a socket that is bound to a \
             device or an address is refused)"
        ),
    }
}

/// Asks all limits as the kernel does: an ancestor that is only observed holds nobody back who is
/// enforced.
fn limits(question: &Question<'_>, chain: &[KnownTenant], name: &dyn Fn(u32) -> String) -> Ruling {
    let now_ns = question.moment.now_ns;
    let enforced = chain
        .first()
        .is_some_and(|leaf| leaf.tenant.enforces(now_ns));
    let mut would = None;
    for known in chain {
        let full = known.limits.iter().find(|limit| {
            limit.limit.unit == Unit::Connections
                && limit.limit.concerns(question.group)
                && !limit.admits(now_ns)
        });
        let Some(full) = full else { continue };
        let because = because_full(full, &name(known.index), question.moment);
        let (rule, reason) = match full.limit.kind {
            Kind::Window => (Rule::Limit, Reason::Limit),
            Kind::Pace => (Rule::Pace, Reason::Pace),
        };
        if enforced && !known.tenant.enforces(now_ns) {
            would.get_or_insert(Ruling {
                rule,
                reason,
                verdict: Verdict::WouldDeny,
                because: format!("{because}; but {} is only observed", name(known.index)),
            });
        } else {
            return Ruling::denied(rule, reason, because);
        }
    }
    would.unwrap_or_else(|| Ruling::allowed(Rule::Admitted, "all limits have room"))
}

fn because_full(limit: &LimitUse, owner: &str, moment: Moment) -> String {
    let usage = usage(limit, moment);
    let free = match usage.free_at {
        Some(at) => format!("free again at {at:.0}"),
        None => "never free".to_owned(),
    };
    format!(
        "limit {} of {owner}: {} used, {free}",
        usage.limit(),
        usage.used
    )
}

fn notes(identity: &Identity) -> Vec<String> {
    let mut notes = Vec::new();
    if identity.uid.is_none() {
        notes.push(
            "no uid was given: a process of the MTA's user would be allowed even there".to_owned(),
        );
    }
    if identity.foreign {
        notes.push(
            "it is in another network namespace than the node: users and uids do not count there"
                .to_owned(),
        );
    }
    notes
}
