//! Who is bound by which policy, for the engine of offences: the tenants of the files, and the
//! accounts that were found on the system.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    image::{DEFAULT_NAME, Image, NODE_NAME},
    model::{Mode, Policy, Tenant},
};
use crate::offence::{Book, Subject};

/// The policies and everybody whom they bind. `image` is what `policy` was compiled to: it knows
/// the accounts. Those who are no tenants, the node and `default`, are not in it.
///
/// A domain is a part of its tenant, and so has its plan and its mode.
#[must_use]
pub fn book(policy: &Policy, image: &Image) -> Book {
    let mut tenants: BTreeMap<String, Subject> = BTreeMap::new();
    for tenant in &policy.tenants {
        // Tenants stand before their domains.
        let whole = tenant.parent.as_deref().filter(|_| tenant.is_domain);
        let subject = match whole.and_then(|whole| tenants.get(whole)) {
            Some(Subject { plan, observe, .. }) => Subject {
                plan: plan.clone(),
                observe: *observe,
                ..subject(tenant, policy.node.mode)
            },
            None => subject(tenant, policy.node.mode),
        };
        tenants.insert(tenant.name.clone(), subject);
    }
    let plan = policy.accounts.as_ref().and_then(|it| it.plan.as_ref());
    for account in &image.tenants {
        let nobody = account.name == NODE_NAME || account.name == DEFAULT_NAME;
        if !nobody && !tenants.contains_key(&account.name) {
            let subject = Subject {
                parent: None,
                plan: plan.cloned(),
                observe: !account.enforce,
                policies: BTreeSet::new(),
            };
            tenants.insert(account.name.clone(), subject);
        }
    }
    Book {
        ladders: policy.ladders.clone(),
        everybody: policy.node.policies.clone(),
        tenants,
    }
}

fn subject(tenant: &Tenant, node: Mode) -> Subject {
    Subject {
        parent: tenant.parent.clone(),
        plan: tenant.plan.clone(),
        observe: tenant.mode.unwrap_or(node) == Mode::Observe,
        policies: tenant.policies.clone(),
    }
}
