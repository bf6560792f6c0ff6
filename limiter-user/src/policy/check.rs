//! What the files say → the checked policy.

use std::collections::{BTreeSet, HashMap};

use super::{
    bind, claims, domains,
    fault::Fault,
    findings::Findings,
    model::{Accounts, Blocked, Match, Node, Policy, Tenant},
    policy_files::PolicyFiles,
    section_node::{RawNode, plan_named},
    section_rules::RawRules,
    section_tenant::RawTenant,
    tree,
};

/// Checks what concerns several parts at once, and puts the policy together. It is of use only if
/// no error was found.
pub(super) fn policy(
    raw: RawNode,
    blocked: Blocked,
    tenants: Vec<RawTenant>,
    files: PolicyFiles,
    out: &mut Findings,
) -> Policy {
    let plans = raw.plans.as_ref();
    if let Some(plans) = plans {
        files.check_plans(plans, out);
    }
    if raw.bounces.is_off() {
        files.check_bounces(out);
    }
    let order = tree::check(&tenants, out);
    claims::check(&tenants, &raw.mta_users, out);

    let (default_plan, default_rules) = &raw.default;
    let default = default_rules.over(plan_named(default_plan.as_ref(), plans, out));
    let accounts = raw.accounts.map(|accounts| {
        let plan = plan_named(accounts.plan.as_ref(), plans, out);
        Accounts {
            uids: accounts.uids,
            rules: RawRules::default().over(plan),
            plan: accounts.plan.map(|plan| plan.value),
        }
    });
    for tenant in &tenants {
        // Here, so that the faults of those are found too that have no place in the tree.
        plan_named(tenant.plan.as_ref(), plans, out);
    }
    if raw.mta.listen.is_empty()
        && let Some(origin) = out.first_redirect().cloned()
    {
        out.add(Fault::warning(
            &origin,
            "direct_smtp: redirect has nowhere to send, so connections are refused",
            "name the MTA's sockets in mta.listen of the main file",
        ));
    }

    let mut policy = Policy {
        node: Node {
            name: raw.name.unwrap_or_else(host_name),
            mode: raw.mode,
            mta: raw.mta,
            ports: raw.ports,
            limits: raw.limits,
            exempt: raw.exempt,
            management: raw.management,
            blocked,
            mailbox: raw.mailbox.per_client,
            mailbox_accounts: raw.mailbox.per_account,
            mailbox_exempt: raw.mailbox.account_exempt,
            estimate: raw.estimate,
            notices: raw.notices,
            complaints: raw.complaints,
            bounces: raw.bounces,
            mailman: raw.mailman,
            services: raw.services,
            retention: raw.retention,
            policies: files.names(&raw.policies),
        },
        places: raw.places,
        accounts,
        default,
        tenants: in_order(tenants, plans, &files, &order),
        ladders: files.ladders,
    };
    bind::bind(&mut policy, out);
    domains::check(&policy, out);
    policy
}

/// The tenants in `order`, each followed by its domains.
fn in_order(
    mut tenants: Vec<RawTenant>,
    plans: Option<&HashMap<String, RawRules>>,
    files: &PolicyFiles,
    order: &[usize],
) -> Vec<Tenant> {
    let domains: usize = tenants.iter().map(|tenant| tenant.domains.len()).sum();
    let mut ordered = Vec::with_capacity(order.len() + domains);
    for index in order {
        let raw = std::mem::take(&mut tenants[*index]);
        let plan = raw.plan.as_ref().and_then(|plan| plans?.get(&plan.value));
        let rules = raw.rules.over(plan);
        let name = raw.name;
        let children: Vec<Tenant> = raw
            .domains
            .into_iter()
            .map(|domain| Tenant {
                name: format!("{name}/{}", domain.name.value),
                parent: Some(name.clone()),
                plan: None,
                mode: None,
                contact: Vec::new(),
                matches: Match::default(),
                rules: domain.rules.over(None),
                policies: BTreeSet::new(),
                is_domain: true,
                origin: domain.name.origin,
            })
            .collect();
        ordered.push(Tenant {
            name,
            parent: raw.parent.map(|parent| parent.value),
            plan: raw.plan.map(|plan| plan.value),
            mode: raw.mode,
            contact: raw.contact,
            matches: raw.matches,
            rules,
            policies: files.names(&raw.policies),
            is_domain: false,
            origin: raw.origin,
        });
        ordered.extend(children);
    }
    ordered
}

/// The host's name, as the kernel has it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
