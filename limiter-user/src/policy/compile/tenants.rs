//! Tenants as the kernel knows them.

use std::{collections::HashMap, time::Duration};

use limiter_common::{limit::Kind, verdict::Permission};

use crate::policy::{
    fault::Fault,
    image::{DEFAULT_NAME, ImageLimit, ImageTenant, NODE_NAME, TenantRef},
    model::{Limit, Mode, Pace, Policy, Rules},
};

/// Where the node stands among the tenants.
pub(super) const NODE: TenantRef = 0;
/// Where the first tenant of the files stands: behind the node and the default.
pub(super) const FIRST: TenantRef = 2;

/// The node, the default, and the tenants of the files in their order.
pub(super) fn build(policy: &Policy, faults: &mut Vec<Fault>) -> Vec<ImageTenant> {
    let node_mode = policy.node.mode;
    let mut tenants = Vec::with_capacity(policy.tenants.len() + FIRST);
    tenants.push(ImageTenant {
        name: NODE_NAME.to_owned(),
        parent: None,
        enforce: node_mode == Mode::Enforce,
        direct_smtp: Permission::Allow,
        submission: Permission::Allow,
        exempt: Vec::new(),
        limits: limits(&policy.node.limits, &[]),
    });
    tenants.push(tenant(DEFAULT_NAME, NODE, node_mode, &policy.default));
    let mut by_name = HashMap::with_capacity(policy.tenants.len());
    for known in &policy.tenants {
        let parent = match &known.parent {
            None => NODE,
            Some(parent) => by_name.get(parent.as_str()).copied().unwrap_or_else(|| {
                faults.push(Fault::error(
                    &known.origin,
                    format!(
                        "parent: tenant {} has the parent {parent}, which does not stand before it",
                        known.name
                    ),
                    "a tenant that exists and is no child of this one",
                ));
                NODE
            }),
        };
        by_name.insert(known.name.as_str(), tenants.len());
        tenants.push(tenant(
            &known.name,
            parent,
            known.mode.unwrap_or(node_mode),
            &known.rules,
        ));
    }
    tenants
}

/// A tenant with these rules.
pub(super) fn tenant(name: &str, parent: TenantRef, mode: Mode, rules: &Rules) -> ImageTenant {
    let Rules {
        direct_smtp,
        submission,
        exempt,
        limits: windows,
        pace,
    } = rules;
    ImageTenant {
        name: name.to_owned(),
        parent: Some(parent),
        enforce: mode == Mode::Enforce,
        direct_smtp: *direct_smtp,
        submission: *submission,
        exempt: exempt.clone(),
        limits: limits(windows, pace),
    }
}

/// Windows first, then paces.
fn limits(windows: &[Limit], paces: &[Pace]) -> Vec<ImageLimit> {
    let windows = windows.iter().map(
        |&Limit {
             unit,
             max,
             window,
             groups,
         }| ImageLimit {
            unit,
            kind: Kind::Window,
            max,
            span_ns: nanoseconds(window),
            groups,
        },
    );
    let paces = paces.iter().map(
        |&Pace {
             unit,
             every,
             burst,
             groups,
         }| ImageLimit {
            unit,
            kind: Kind::Pace,
            max: burst,
            span_ns: nanoseconds(every),
            groups,
        },
    );
    windows.chain(paces).collect()
}

/// A duration in nanoseconds. Checked policies stay far below 584 years; what does not is held to
/// the longest there is.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
