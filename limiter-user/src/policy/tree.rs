//! The tree of tenants: names once, parents there, no cycle, not too deep.

use std::collections::{HashMap, hash_map};

use limiter_common::abi::MAX_DEPTH;

use super::{
    fault::Fault,
    findings::Findings,
    item::{nearest, shown},
    model::Origin,
    section_tenant::RawTenant,
};

/// How many names a message lists of a chain of parents.
const CHAIN: usize = 8;
/// With how many tenants a message looks for a name that was meant.
const MAX_SEARCHED: usize = 2_000;

/// Checks the tree. Returns the indices of `tenants`, parents before their children, each tenant
/// followed by all that is below it, siblings in the order of the files.
pub(super) fn check(tenants: &[RawTenant], out: &mut Findings) -> Vec<usize> {
    let by_name = names(tenants, out);
    check_domains(tenants, out);
    let parents = parents(tenants, &by_name, out);
    let levels = levels(tenants, &parents, out);
    check_depth(tenants, &parents, &levels, out);
    order(&parents, &levels)
}

fn names<'t>(tenants: &'t [RawTenant], out: &mut Findings) -> HashMap<&'t str, usize> {
    let mut by_name = HashMap::with_capacity(tenants.len());
    for (index, tenant) in tenants.iter().enumerate() {
        match by_name.entry(tenant.name.as_str()) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(index);
            }
            hash_map::Entry::Occupied(first) => {
                let problem = format!("tenant: {} is there twice", shown(&tenant.name));
                let allowed = format!("keep one; the other is at {}", tenants[*first.get()].origin);
                out.add(Fault::error(&tenant.origin, problem, allowed));
            }
        }
    }
    by_name
}

fn check_domains(tenants: &[RawTenant], out: &mut Findings) {
    let mut first: HashMap<&str, &Origin> = HashMap::new();
    for domain in tenants.iter().flat_map(|tenant| &tenant.domains) {
        let domain = &domain.name;
        if let Some(other) = first.insert(&domain.value, &domain.origin) {
            let problem = format!("domains: {} is there twice", shown(&domain.value));
            let allowed = format!("keep one; the other is at {other}");
            out.add(Fault::error(&domain.origin, problem, allowed));
            first.insert(&domain.value, other);
        }
    }
}

/// The parent of each tenant, by index; a missing one is reported and is none.
fn parents(
    tenants: &[RawTenant],
    by_name: &HashMap<&str, usize>,
    out: &mut Findings,
) -> Vec<Option<usize>> {
    tenants
        .iter()
        .map(|tenant| {
            let parent = tenant.parent.as_ref()?;
            let found = by_name.get(parent.value.as_str()).copied();
            if found.is_none() {
                let near = (tenants.len() <= MAX_SEARCHED)
                    .then(|| nearest(&parent.value, by_name.keys().copied()))
                    .flatten();
                let allowed = match near {
                    _ if out.incomplete => {
                        "the name of a tenant; it may be in a part of the files \
                                            that could not be read"
                            .to_owned()
                    }
                    Some(near) => format!("did you mean {}?", shown(near)),
                    None => "the name of a tenant; one without any `match` is legal".to_owned(),
                };
                let problem = format!("parent: {} does not exist", shown(&parent.value));
                out.add(Fault::error(&parent.origin, problem, allowed));
            }
            found
        })
        .collect()
}

/// The level of each tenant, 1 at the top; 0 where its parents run in a circle.
fn levels(tenants: &[RawTenant], parents: &[Option<usize>], out: &mut Findings) -> Vec<usize> {
    let mut levels: Vec<Option<usize>> = vec![None; tenants.len()];
    // When each tenant was last walked over: by the walk that started at which.
    let mut walked_by: Vec<Option<usize>> = vec![None; tenants.len()];
    for start in 0..tenants.len() {
        let mut chain = Vec::new();
        let mut at = start;
        let mut level = loop {
            if let Some(level) = levels[at] {
                break level;
            }
            if walked_by[at] == Some(start) {
                let circle = chain.iter().position(|index| *index == at).unwrap_or(0);
                report_cycle(tenants, &chain[circle..], out);
                // All of them, and all below, are without a level.
                for index in chain.drain(..) {
                    levels[index] = Some(0);
                }
                break 0;
            }
            walked_by[at] = Some(start);
            chain.push(at);
            match parents[at] {
                Some(parent) => at = parent,
                None => {
                    chain.pop();
                    levels[at] = Some(1);
                    break 1;
                }
            }
        };
        for index in chain.into_iter().rev() {
            level = if level == 0 { 0 } else { level + 1 };
            levels[index] = Some(level);
        }
    }
    levels.into_iter().map(Option::unwrap_or_default).collect()
}

fn report_cycle(tenants: &[RawTenant], circle: &[usize], out: &mut Findings) {
    // It is reported where it is written first.
    let Some(first) = (0..circle.len()).min_by_key(|at| &tenants[circle[*at]].origin) else {
        return;
    };
    let names = circle.iter().cycle().skip(first).take(circle.len() + 1);
    let names: Vec<&str> = names.map(|index| tenants[*index].name.as_str()).collect();
    let tenant = &tenants[circle[first]];
    let origin = tenant
        .parent
        .as_ref()
        .map_or(&tenant.origin, |parent| &parent.origin);
    out.add(Fault::error(
        origin,
        format!(
            "parent: the parents run in a circle: {}",
            chain_text(&names)
        ),
        "a tree: take `parent` out of one of them",
    ));
}

/// `a → b → c`, the middle left out where it is long.
fn chain_text(names: &[&str]) -> String {
    let shown: Vec<_> = names.iter().map(|name| shown(name)).collect();
    if shown.len() <= CHAIN {
        return shown.join(" → ");
    }
    let half = CHAIN / 2;
    format!(
        "{} → … → {}",
        shown[..half].join(" → "),
        shown[shown.len() - half..].join(" → ")
    )
}

fn check_depth(
    tenants: &[RawTenant],
    parents: &[Option<usize>],
    levels: &[usize],
    out: &mut Findings,
) {
    for (index, tenant) in tenants.iter().enumerate() {
        let level = levels[index];
        if level == 0 {
            continue;
        }
        let chain = || {
            let mut names = vec![tenant.name.as_str()];
            let mut at = index;
            while let Some(parent) = parents[at] {
                names.push(&tenants[parent].name);
                at = parent;
                if names.len() > CHAIN {
                    break;
                }
            }
            chain_text(&names)
        };
        let allowed = format!("at most {MAX_DEPTH} levels, domains included");
        if level > MAX_DEPTH {
            let origin = tenant
                .parent
                .as_ref()
                .map_or(&tenant.origin, |parent| &parent.origin);
            let problem = format!("parent: this is level {level} of the tree: {}", chain());
            out.add(Fault::error(origin, problem, allowed));
        } else if level == MAX_DEPTH
            && let Some(domain) = tenant.domains.first()
        {
            let problem = format!(
                "domains: {} is level {} of the tree, below {}",
                shown(&domain.name.value),
                level + 1,
                chain()
            );
            out.add(Fault::error(&domain.name.origin, problem, allowed));
        }
    }
}

/// Parents before their children; those in or below a circle are left out.
fn order(parents: &[Option<usize>], levels: &[usize]) -> Vec<usize> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut stack = Vec::new();
    for index in (0..parents.len()).rev().filter(|index| levels[*index] > 0) {
        match parents[index] {
            Some(parent) => children[parent].push(index),
            None => stack.push(index),
        }
    }
    let mut ordered = Vec::with_capacity(parents.len());
    while let Some(index) = stack.pop() {
        ordered.push(index);
        // They stand in reverse, so that the first comes off the stack first.
        stack.append(&mut children[index]);
    }
    ordered
}
