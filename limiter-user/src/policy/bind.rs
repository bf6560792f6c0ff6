//! The plans of policies, put into the rules of everybody whom they bind: the strictest holds.
//!
//! The amounts of a plan are meant for each account by itself. A limit on a tenant counts all that
//! is below it, so a tenant that only holds customers together gets none of them: each of its
//! customers does. Nor does a domain, whose tenant counts it. `default` is nobody's account and no
//! policy's business.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use limiter_common::limit::{MAX_LIMITS, MAX_PACES};

use super::{
    bounds::{Amount, fit},
    describe::{limit_text, pace_text},
    fault::Fault,
    findings::Findings,
    image::{DEFAULT_NAME, NODE_NAME},
    item::shown,
    model::{Bounds, Match, Origin, Policy, Rules, Tenant},
};
use crate::offence::Ladder;

/// Puts the plans of the policies into the rules of the tenants and of the accounts, and reports
/// where more is asked for than the kernel takes.
pub(super) fn bind(policy: &mut Policy, out: &mut Findings) {
    if policy.ladders.values().all(|ladder| ladder.plan.is_none()) {
        return;
    }
    let mut troubles = Troubles::default();
    let (accounts, tenants) = bound(policy, &mut troubles);
    troubles.report(out);
    if let (Some(known), Some(rules)) = (&mut policy.accounts, accounts) {
        known.rules = rules;
    }
    for (tenant, rules) in policy.tenants.iter_mut().zip(tenants) {
        if let Some(rules) = rules {
            tenant.rules = rules;
        }
    }
}

/// The new rules of the accounts, and those of each tenant; `None`: they stay.
fn bound(policy: &Policy, troubles: &mut Troubles) -> (Option<Rules>, Vec<Option<Rules>>) {
    let mut sets = Sets::of(policy);
    let accounts = policy.accounts.as_ref().and_then(|accounts| {
        let origin = Origin {
            file: policy.places.config.as_path().into(),
            ..Origin::default()
        };
        let (rules, ladders) = sets.rules(0, &accounts.rules, true)?;
        let about = About {
            name: "accounts",
            origin: &origin,
        };
        troubles.check(about, rules, ladders)
    });
    let customers = with_customers(policy);
    // The set of policies that binds each tenant, by its name.
    let mut set_of: HashMap<&str, usize> = HashMap::with_capacity(policy.tenants.len());
    let mut found = Vec::with_capacity(policy.tenants.len());
    // Whether the tenant before the domains has any, is known once it is passed: look ahead.
    let mut ahead = policy.tenants.iter().skip(1);
    for tenant in &policy.tenants {
        let has_domains = ahead.next().is_some_and(|next| next.is_domain);
        // Parents stand before their children.
        let parent = tenant.parent.as_deref();
        let above = parent.and_then(|parent| set_of.get(parent)).copied();
        let set = sets.with(above.unwrap_or_default(), &tenant.policies);
        set_of.insert(&tenant.name, set);
        if tenant.is_domain {
            found.push(None);
            continue;
        }
        let holds = customers.contains(tenant.name.as_str());
        let amounts = !holds || sends(tenant, has_domains);
        let about = About {
            name: &tenant.name,
            origin: &tenant.origin,
        };
        found.push(
            sets.rules(set, &tenant.rules, amounts)
                .and_then(|(rules, ladders)| {
                    if holds && amounts {
                        troubles.together(about, ladders);
                    }
                    troubles.check(about, rules, ladders)
                }),
        );
    }
    (accounts, found)
}

/// Those who have customers.
fn with_customers(policy: &Policy) -> HashSet<&str> {
    policy
        .tenants
        .iter()
        .filter(|tenant| !tenant.is_domain)
        .filter_map(|tenant| tenant.parent.as_deref())
        .collect()
}

/// Whether traffic or mail can be the tenant's own.
fn sends(tenant: &Tenant, has_domains: bool) -> bool {
    has_domains || tenant.matches != Match::default()
}

/// Sets of policies: most tenants share the node's.
struct Sets<'a> {
    policy: &'a Policy,
    /// The names in each, and what they are.
    sets: Vec<(BTreeSet<&'a str>, Vec<&'a Ladder>)>,
    index: HashMap<BTreeSet<&'a str>, usize>,
}

impl<'a> Sets<'a> {
    /// The node's alone, which is set 0.
    fn of(policy: &'a Policy) -> Self {
        let mut sets = Self {
            policy,
            sets: Vec::new(),
            index: HashMap::new(),
        };
        sets.add(policy.node.policies.iter().map(String::as_str).collect());
        sets
    }

    fn add(&mut self, names: BTreeSet<&'a str>) -> usize {
        if let Some(known) = self.index.get(&names) {
            return *known;
        }
        let ladders = names
            .iter()
            .filter_map(|name| self.policy.ladders.get(*name));
        let index = self.sets.len();
        self.sets.push((names.clone(), ladders.collect()));
        self.index.insert(names, index);
        index
    }

    /// The set `above` and `more`.
    fn with(&mut self, above: usize, more: &'a BTreeSet<String>) -> usize {
        if more.is_empty() {
            return above;
        }
        let mut names = self.sets[above].0.clone();
        names.extend(more.iter().map(String::as_str));
        self.add(names)
    }

    /// `own` under the plans of a set, with their `amounts` or without; and the policies. `None`:
    /// none of them has a plan.
    fn rules(&self, set: usize, own: &Rules, amounts: bool) -> Option<(Rules, &[&'a Ladder])> {
        let ladders = self.sets[set].1.as_slice();
        let mut plans = ladders
            .iter()
            .filter_map(|ladder| ladder.plan.as_ref())
            .peekable();
        plans.peek()?;
        Some((strictest(own, plans, amounts), ladders))
    }
}

/// Of each thing the strictest.
fn strictest<'a>(own: &Rules, plans: impl Iterator<Item = &'a Bounds>, amounts: bool) -> Rules {
    let mut rules = own.clone();
    for plan in plans {
        plan.restrict(&mut rules);
        if amounts {
            plan.limit(&mut rules);
        }
    }
    rules
}

/// Whom a trouble is about.
#[derive(Clone, Copy)]
struct About<'a> {
    name: &'a str,
    origin: &'a Origin,
}

/// What is wrong, each once, however many tenants have it.
#[derive(Default)]
struct Troubles {
    /// By what is asked for: who is the first, and how many.
    too_many: BTreeMap<String, (String, Origin, usize)>,
    /// Who sends mail beside its customers' under limits for each.
    together: Option<(String, Origin, usize)>,
}

impl Troubles {
    /// The rules, if the kernel takes so many.
    fn check(&mut self, about: About<'_>, mut rules: Rules, by: &[&Ladder]) -> Option<Rules> {
        if fit(&mut rules) {
            return Some(rules);
        }
        let limits = rules.limits.iter().map(|limit| {
            let by = names(by, Amount::Limit(*limit));
            format!("{}{}", limit_text(limit), said(&by))
        });
        let paces = rules.pace.iter().map(|pace| {
            let by = names(by, Amount::Pace(*pace));
            format!("{}{}", pace_text(pace), said(&by))
        });
        let (what, all): (&str, Vec<String>) = if rules.limits.len() > MAX_LIMITS {
            ("limits", limits.collect())
        } else {
            ("pace", paces.collect())
        };
        let text = format!(
            "{what}: with its policies there are {}: {}",
            all.len(),
            all.join("; ")
        );
        let first = || (about.name.to_owned(), about.origin.clone(), 0);
        self.too_many.entry(text).or_insert_with(first).2 += 1;
        None
    }

    /// Notes that limits for each account hold a tenant and its customers together.
    fn together(&mut self, about: About<'_>, by: &[&Ladder]) {
        let mut plans = by.iter().filter_map(|ladder| ladder.plan.as_ref());
        if plans.any(|plan| !plan.limits.is_empty() || !plan.pace.is_empty()) {
            let first = || (about.name.to_owned(), about.origin.clone(), 0);
            self.together.get_or_insert_with(first).2 += 1;
        }
    }

    fn report(self, out: &mut Findings) {
        let more = |count: usize| match count - 1 {
            0 => String::new(),
            1 => " (and one more)".to_owned(),
            more => format!(" (and {more} more)"),
        };
        for (text, (name, origin, count)) in self.too_many {
            let problem = format!("{}{}: {text}", shown(&name), more(count));
            let allowed = format!(
                "at most {MAX_LIMITS} limits and {MAX_PACES} paces: leave one out of the tenant \
                 or its plan, or give it the port groups and the window of a policy's, so that \
                 the two become one"
            );
            out.add(Fault::error(&origin, problem, allowed));
        }
        if let Some((name, origin, count)) = self.together {
            let problem = format!(
                "{}{}: sends mail itself and has customers, so that the limits of its policies \
                 hold all of them together",
                shown(&name),
                more(count)
            );
            let allowed = "make its own `match` and `domains` a tenant of their own below it, and \
                           each has the limits for itself";
            out.add(Fault::warning(&origin, problem, allowed));
        }
    }
}

/// ` (policy mvmcloud)`, or nothing.
#[must_use]
pub fn said(policies: &[&str]) -> String {
    match policies {
        [] => String::new(),
        [one] => format!(" (policy {one})"),
        more => format!(" (policies {})", more.join(", ")),
    }
}

fn names<'a>(ladders: &[&'a Ladder], amount: Amount) -> Vec<&'a str> {
    asking(ladders, |plan| plan.asks_for(amount))
}

fn asking<'a>(ladders: &[&'a Ladder], asks: impl Fn(&Bounds) -> bool) -> Vec<&'a str> {
    let asking = |ladder: &&&'a Ladder| ladder.plan.as_ref().is_some_and(&asks);
    let ladders = ladders.iter().filter(asking);
    ladders.map(|ladder| ladder.name.as_str()).collect()
}

impl Policy {
    /// The policies that bind `tenant`, a tenant of the files or an account: the node's, those of
    /// its ancestors, its own; none for the node and `default`.
    #[must_use]
    pub fn binding(&self, tenant: &str) -> Vec<&Ladder> {
        if tenant == NODE_NAME || tenant == DEFAULT_NAME {
            return Vec::new();
        }
        let mut names: BTreeSet<&String> = self.node.policies.iter().collect();
        let mut at = Some(tenant);
        // Children stand behind their parents.
        for known in self.tenants.iter().rev() {
            if at == Some(&known.name) {
                names.extend(&known.policies);
                at = known.parent.as_deref();
            }
        }
        let ladders = names.into_iter().filter_map(|name| self.ladders.get(name));
        ladders.collect()
    }

    /// The names of the policies that ask for this limit or pace of `tenant`; none: it is the
    /// tenant's own.
    #[must_use]
    pub fn asking_for(&self, tenant: &str, amount: Amount) -> Vec<&str> {
        if self.gets_amounts(tenant) {
            names(&self.binding(tenant), amount)
        } else {
            Vec::new()
        }
    }

    /// The names of the policies that `asks` picks by their plans, of those that bind `tenant`.
    #[must_use]
    pub fn asking(&self, tenant: &str, asks: impl Fn(&Bounds) -> bool) -> Vec<&str> {
        asking(&self.binding(tenant), asks)
    }

    fn gets_amounts(&self, tenant: &str) -> bool {
        let domains = |domain: bool| {
            let mut all = self.tenants.iter();
            all.any(|it| it.is_domain == domain && it.parent.as_deref() == Some(tenant))
        };
        match self.tenants.iter().find(|known| known.name == tenant) {
            Some(known) => !known.is_domain && (sends(known, domains(true)) || !domains(false)),
            None => true,
        }
    }
}
