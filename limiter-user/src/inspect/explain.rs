//! What `explain` says: the kernel's decision, made again step by step with reasons.

use limiter_common::{
    abi::{DEFAULT, NODE},
    address::{self, EXEMPT_SET_BITS, ExemptKey},
    limit::{Kind, Unit},
    owner::Owner,
    sanction::{self, Sanction},
    settings::{self, Settings},
    tenant::{Tenant, flags},
    verdict::{Layer, Permission, PortGroup, Reason, Verdict},
};

use super::{
    Moment, View, amount, mode,
    subject::{Found, Identity},
    usage,
};
use crate::{
    control::node::NodeError,
    kernel::{
        KernelError,
        identities::wire_address,
        read::{KnownNames, KnownTenant, LimitUse},
    },
    policy::{model::Bounds, said},
    report::{
        event::Endpoint,
        explain::{ExplainQuery, Explanation, LimitState, Rule},
        status::Standing,
    },
};

/// The rule that decides, and what it decides under enforce.
struct Ruling {
    rule: Rule,
    reason: Reason,
    verdict: Verdict,
    because: String,
    /// By whose mode it is carried out.
    by: Carried,
}

/// What decides whether a refusal is carried out now.
#[derive(Clone, Copy)]
enum Carried {
    /// The tenant's mode.
    Tenant,
    /// The node's mode: the rule is no tenant's.
    Node,
    /// It is, unless the node or the tenant is opened for a while.
    Always,
}

impl Ruling {
    fn allowed(rule: Rule, because: impl Into<String>) -> Self {
        Self {
            rule,
            reason: Reason::None,
            verdict: Verdict::Allowed,
            because: because.into(),
            by: Carried::Tenant,
        }
    }

    fn denied(rule: Rule, reason: Reason, because: impl Into<String>) -> Self {
        Self {
            rule,
            reason,
            verdict: Verdict::Denied,
            because: because.into(),
            by: Carried::Tenant,
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
            &names,
        )?;
        let closed = moment.now_ns >= settings.observe_until_ns;
        let enforced = match ruling.by {
            Carried::Tenant => closed && tenant.enforces(moment.now_ns),
            Carried::Node => closed && settings.flags & settings::flags::ENFORCE != 0,
            Carried::Always => closed && moment.now_ns >= tenant.observe_until_ns,
        };
        let verdict = match ruling.verdict {
            Verdict::Denied | Verdict::Redirected if !enforced => Verdict::WouldDeny,
            verdict => verdict,
        };
        let limits = chain
            .iter()
            .flat_map(|known| known.limits.iter().map(|limit| (known.index, limit)))
            .filter(|(_, limit)| limit.limit.concerns(group))
            .map(|(owner, limit)| {
                let owner = name(owner);
                let policies = self.policy.asking_for(&owner, amount(limit));
                LimitState {
                    policies: policies.into_iter().map(str::to_owned).collect(),
                    owner,
                    usage: usage(limit, moment),
                }
            })
            .collect();
        let until = tenant.observe_until_ns.max(settings.observe_until_ns);
        Ok(Explanation {
            subject: query.subject.to_string(),
            destination: Endpoint::from(query.to),
            tenant: (!is_mta).then(|| name(index)),
            matched_by: found.by.clone(),
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
            layer: identity.layer,
            rule: ruling.rule,
            because: ruling.because,
            mode: mode(tenant.flags & flags::ENFORCE != 0),
            observe_until: moment.ahead(until),
            verdict,
            reason: ruling.reason,
            enforced_verdict: ruling.verdict,
            limits: if is_mta { Vec::new() } else { limits },
            notes: self.notes(&identity, &found, &settings)?,
            standing: Standing::Good,
            holds: Vec::new(),
            next: Vec::new(),
        })
    }

    fn rule(
        &self,
        question: &Question<'_>,
        found: &Found,
        chain: &[KnownTenant],
        names: &KnownNames,
    ) -> Result<Ruling, KernelError> {
        let Question {
            settings,
            destination,
            port,
            group,
            ..
        } = question;
        let is_mail = matches!(group, PortGroup::Smtp | PortGroup::Submission);
        let not_mail = || {
            let because =
                format!("port {port} is none that mail is sent to (`ports` in the configuration)");
            Ok(Ruling::allowed(Rule::NotAMailPort, because))
        };
        let concerns = match group {
            PortGroup::Smtp | PortGroup::Submission => u32::MAX,
            PortGroup::Mailbox => UNUSUAL | settings::flags::SANCTIONS,
            PortGroup::Other => UNUSUAL,
        };
        if !is_mail && settings.flags & concerns == 0 {
            return not_mail();
        }
        if address::is_loopback(destination) {
            return Ok(Ruling::allowed(
                Rule::Loopback,
                "it does not leave the node",
            ));
        }
        if *group != PortGroup::Other && self.maps.own_addresses.get(destination)?.is_some() {
            return Ok(Ruling::allowed(
                Rule::OwnAddress,
                "the address is the node's own",
            ));
        }
        if settings.flags & settings::flags::BLOCKED != 0
            && self.maps.blocked.get(128, *destination)?.is_some()
        {
            return Ok(Ruling {
                by: Carried::Node,
                ..Ruling::denied(
                    Rule::BlockedAddress,
                    Reason::BlockedAddress,
                    "the destination is in `blocked`, for everybody",
                )
            });
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
        if let Some(ruling) = self.sanctioned(question, known, names)? {
            return Ok(ruling);
        }
        if !is_mail {
            return not_mail();
        }
        let whose = names.name_of(known.index);
        if let Some(because) = self.exempt(settings, &known.tenant, *destination, *port)? {
            return Ok(Ruling::allowed(Rule::Exempt, because));
        }
        let permission = Permission::from_wire(known.tenant.permission(*group));
        let strict = permission.unwrap_or(Permission::Block);
        let asking = |asks: &dyn Fn(&Bounds) -> bool| said(&self.policy.asking(&whose, asks));
        let (rule, reason, key, by) = match group {
            PortGroup::Submission => (
                Rule::Submission,
                Reason::Submission,
                "submission",
                asking(&|plan| plan.wants_submission(strict)),
            ),
            _ => (
                Rule::DirectSmtp,
                Reason::DirectSmtp,
                "direct_smtp",
                asking(&|plan| plan.wants_direct_smtp(strict)),
            ),
        };
        let whose = format!("{whose}{by}");
        match permission {
            Some(Permission::Allow) => Ok(limits(question, chain, &|index| names.name_of(index))),
            Some(Permission::Redirect) => Ok(redirect(question, &whose)),
            Some(Permission::Block) | None => Ok(Ruling::denied(
                rule,
                reason,
                format!("{key}: block of {whose}"),
            )),
        }
    }

    /// What the tenant's sanctions say, its ancestors' included.
    fn sanctioned(
        &self,
        question: &Question<'_>,
        known: &KnownTenant,
        names: &KnownNames,
    ) -> Result<Option<Ruling>, KernelError> {
        let Question {
            settings,
            destination,
            port,
            group,
            moment,
            ..
        } = question;
        let now_s = sanction::seconds(moment.now_ns);
        let sanctions = &known.tenant.sanctions;
        if settings.flags & settings::flags::SANCTIONS == 0 || !sanctions.refuses(*group, now_s) {
            return Ok(None);
        }
        // The strongest forbids whatever any forbids.
        let in_force = self.sanctions(known.index, names, *moment)?;
        let words = in_force.first().map_or_else(String::new, |it| {
            let name = sanctions.strongest(now_s).map_or("", Sanction::as_str);
            let until = match it.until {
                Some(until) => format!(" until {until:.0}"),
                None => " without end".to_owned(),
            };
            let from = it.from.as_ref();
            let from = from.map_or_else(String::new, |from| format!(", inherited from {from}"));
            format!("sanction {name}{until}{from}")
        });
        if *group == PortGroup::Other && self.maps.management.get(128, *destination)?.is_some() {
            return Ok(Some(Ruling::allowed(
                Rule::Management,
                format!("{words}; but the destination is in `management`"),
            )));
        }
        let reason = if sanctions.holds(Sanction::NullRoute, now_s) {
            Reason::NullRoute
        } else {
            Reason::Suspended
        };
        let hold = if *group == PortGroup::Other {
            format!("{words}: port {port} too")
        } else {
            words
        };
        Ok(Some(Ruling {
            by: Carried::Always,
            ..Ruling::denied(Rule::Sanction, reason, hold)
        }))
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

/// While one of these is set, connections to any port are judged.
const UNUSUAL: u32 = settings::flags::SUSPENSIONS | settings::flags::BLOCKED;

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
        by: Carried::Tenant,
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
                by: Carried::Tenant,
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

impl View<'_> {
    /// What else to know about an answer.
    fn notes(
        &self,
        identity: &Identity,
        found: &Found,
        settings: &Settings,
    ) -> Result<Vec<String>, KernelError> {
        let mut notes = Vec::new();
        match identity.layer {
            Layer::Guest => notes.push(
                "what is counted and refused there is decided by the guest layer, packet by \
                 packet, not at connect"
                    .to_owned(),
            ),
            Layer::Uplink => notes.push(
                "what is forwarded from there is decided by the guest layer where it comes in by \
                 a guest's interface (ask with --interface), by the uplink layer otherwise"
                    .to_owned(),
            ),
            _ if identity.uid.is_none() => notes.push(
                "no uid was given: a process of the MTA's user would be allowed even there"
                    .to_owned(),
            ),
            _ => {}
        }
        if let Some((name, index)) = &identity.interface {
            if found.owner == Owner::NOBODY {
                notes.push(format!(
                    "no tenant claims {name}: if one claims the address that is sent from, it is \
                     that one's (ask with --from)"
                ));
            }
            if !self.is_watched(*index)? {
                notes.push(format!(
                    "the guest layer does not watch {name}: what leaves the node from there is \
                     judged by the uplink layer"
                ));
            }
        }
        if let Some(from) = identity.from
            && self.maps.own_addresses.get(&wire_address(from))?.is_some()
        {
            notes.push(
                "the address is the node's own: its processes are known by uid and cgroup (ask \
                 with --uid, --pid or --cgroup)"
                    .to_owned(),
            );
        }
        if identity.foreign && identity.layer == Layer::Connect {
            notes.push(
                "it is in another network namespace than the node: users and uids do not count \
                 there"
                    .to_owned(),
            );
            if settings.flags & settings::flags::COUNT_EVERYWHERE == 0 {
                notes.push(
                    "connect only refuses it early: what it may is counted by the guest or the \
                     uplink layer, where its interface or address may make it somebody else's"
                        .to_owned(),
                );
            }
        }
        Ok(notes)
    }
}
