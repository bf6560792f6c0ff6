//! What the plan of a policy leaves of a tenant's rules: of each thing the strictest. A policy
//! takes and never gives.

use ipnet::IpNet;
use limiter_common::{
    limit::{MAX_LIMITS, MAX_PACES},
    verdict::Permission,
};

use super::model::{Bounds, Exempt, Limit, Pace, Rules};

impl Bounds {
    /// What is left of the permissions and the exempt destinations in `rules`: block over redirect
    /// over allow, and of the tenant's own exempt destinations those that the policy exempts too,
    /// if it has the key. What the admin exempts for a tenant stays exempt otherwise.
    pub fn restrict(&self, rules: &mut Rules) {
        rules.direct_smtp = rules.direct_smtp.max(self.direct_smtp);
        rules.submission = rules.submission.max(self.submission);
        if let Some(allowed) = &self.exempt {
            rules.exempt = common(&rules.exempt, allowed);
        }
    }

    /// Holds `rules` to the limits and paces as well. What is counted alike becomes one: the
    /// smaller `max`; the longer `every` with the smaller `burst`. Everything else stands beside
    /// it.
    pub fn limit(&self, rules: &mut Rules) {
        for limit in &self.limits {
            let alike = |own: &&mut Limit| {
                (own.unit, own.window, own.groups) == (limit.unit, limit.window, limit.groups)
            };
            match rules.limits.iter_mut().find(alike) {
                Some(own) => own.max = own.max.min(limit.max),
                None => rules.limits.push(*limit),
            }
        }
        for pace in &self.pace {
            let alike = |own: &&mut Pace| (own.unit, own.groups) == (pace.unit, pace.groups);
            match rules.pace.iter_mut().find(alike) {
                Some(own) => {
                    own.every = own.every.max(pace.every);
                    own.burst = own.burst.min(pace.burst);
                }
                None => rules.pace.push(*pace),
            }
        }
    }
}

/// Takes limits and paces out that others imply, until there are no more than the kernel takes:
/// what is admitted stays the same. Whether that is enough.
pub(super) fn fit(rules: &mut Rules) -> bool {
    thin(&mut rules.limits, MAX_LIMITS, implied_limit)
        && thin(&mut rules.pace, MAX_PACES, implied_pace)
}

/// Takes those out of `all` that another one implies, the last ones first, until `most` are left.
fn thin<T>(all: &mut Vec<T>, most: usize, implied: impl Fn(&T, &T) -> bool) -> bool {
    for index in (0..all.len()).rev() {
        if all.len() <= most {
            break;
        }
        let idle = |(other, by): (usize, &T)| other != index && implied(&all[index], by);
        if all.iter().enumerate().any(idle) {
            all.remove(index);
        }
    }
    all.len() <= most
}

/// Whether `limit` never refuses what `by` admits: so many windows of `by` as cover one of its own
/// hold no more together than it allows.
fn implied_limit(limit: &Limit, by: &Limit) -> bool {
    let windows = limit
        .window
        .as_nanos()
        .div_ceil(by.window.as_nanos().max(1));
    limit.unit == by.unit
        && limit.groups & by.groups == limit.groups
        && windows.saturating_mul(u128::from(by.max)) <= u128::from(limit.max)
}

/// Whether `pace` never refuses what `by` admits.
fn implied_pace(pace: &Pace, by: &Pace) -> bool {
    pace.unit == by.unit
        && pace.groups & by.groups == pace.groups
        && pace.every <= by.every
        && pace.burst >= by.burst
}

/// The destinations that are in both.
fn common(own: &[Exempt], allowed: &[Exempt]) -> Vec<Exempt> {
    let mut found = Vec::new();
    for (one, other) in own
        .iter()
        .flat_map(|one| allowed.iter().map(move |other| (one, other)))
    {
        let Some(to) = narrower(one.to, other.to) else {
            continue;
        };
        let ports = match (one.ports.as_slice(), other.ports.as_slice()) {
            // Without ports, every one.
            ([], ports) | (ports, []) => ports.to_vec(),
            (ports, others) => {
                let both = ports.iter().filter(|port| others.contains(port));
                let both: Vec<u16> = both.copied().collect();
                if both.is_empty() {
                    continue;
                }
                both
            }
        };
        let exempt = Exempt { to, ports };
        if !found.contains(&exempt) {
            found.push(exempt);
        }
    }
    found
}

/// The addresses in both prefixes, if there are any.
fn narrower(one: IpNet, other: IpNet) -> Option<IpNet> {
    if other.contains(&one) {
        Some(one)
    } else if one.contains(&other) {
        Some(other)
    } else {
        None
    }
}

/// A limit or a pace as whoever looks for its origin sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A limit.
    Limit(Limit),
    /// A pace.
    Pace(Pace),
}

impl Bounds {
    /// Whether `permission` for the port group smtp is as strict as it is because of this plan.
    #[must_use]
    pub fn wants_direct_smtp(&self, permission: Permission) -> bool {
        permission != Permission::Allow && self.direct_smtp == permission
    }

    /// Whether `permission` for the port group submission is as strict as it is because of this
    /// plan.
    #[must_use]
    pub fn wants_submission(&self, permission: Permission) -> bool {
        permission != Permission::Allow && self.submission == permission
    }

    /// Whether a tenant has `amount` because of this plan, or would have it without its own.
    #[must_use]
    pub fn asks_for(&self, amount: Amount) -> bool {
        match amount {
            Amount::Limit(limit) => self.limits.contains(&limit),
            // The interval and the burst may come from two.
            Amount::Pace(pace) => self.pace.iter().any(|own| {
                (own.unit, own.groups) == (pace.unit, pace.groups)
                    && (own.every == pace.every || own.burst == pace.burst)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use limiter_common::limit::Unit;

    use super::*;

    const fn limit(max: u32, seconds: u64) -> Limit {
        Limit {
            unit: Unit::Messages,
            max,
            window: Duration::from_secs(seconds),
            groups: 1,
        }
    }

    /// The most units that fall into one window of `limit` if `by` admits as many as it can.
    fn most(limit: Limit, by: Limit) -> u64 {
        let (window, admitted) = (limit.window.as_secs(), by.window.as_secs());
        // All of a window's units at its start: no window of `by` holds two such moments.
        (0..window)
            .filter(|second| second % admitted == 0)
            .map(|_| u64::from(by.max))
            .sum()
    }

    #[test]
    fn a_limit_is_implied_exactly_where_the_other_never_lets_it_be_reached() {
        for (a, b) in (1..=6).flat_map(|a| (1..=6).map(move |b| (a, b))) {
            for (max_a, max_b) in (0..=7).flat_map(|a| (0..=7).map(move |b| (a, b))) {
                let (limit, by) = (limit(max_a, a), limit(max_b, b));
                let reached = most(limit, by) > u64::from(max_a);
                assert_eq!(implied_limit(&limit, &by), !reached, "{limit:?} {by:?}");
            }
        }
        let wide = Limit {
            groups: 3,
            ..limit(5, 60)
        };
        assert!(implied_limit(&limit(5, 60), &wide));
        assert!(!implied_limit(&wide, &limit(5, 60)));
        let other = Limit {
            unit: Unit::Connections,
            ..limit(1, 60)
        };
        assert!(!implied_limit(&limit(5, 60), &other));
    }

    #[test]
    fn of_two_that_imply_each_other_one_stays() {
        let mut rules = Rules {
            limits: (1..=6).map(|hours| limit(0, hours * 3_600)).collect(),
            ..Rules::default()
        };
        assert!(fit(&mut rules));
        assert_eq!(rules.limits.len(), MAX_LIMITS);
        let pace = |every, burst| Pace {
            unit: Unit::Messages,
            every: Duration::from_secs(every),
            burst,
            groups: 1,
        };
        rules.pace = vec![pace(1, 9), pace(2, 8), pace(3, 9), pace(4, 4), pace(5, 5)];
        assert!(fit(&mut rules));
        assert_eq!(
            rules.pace,
            [pace(1, 9), pace(2, 8), pace(4, 4), pace(5, 5)],
            "only the third is implied, by the last two"
        );
    }
}
