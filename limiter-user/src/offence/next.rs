//! What a further offence would lead to: for whoever looks at a record.

use std::collections::BTreeSet;

use super::{
    book::Book,
    case::Mark,
    record::Record,
    steps,
    time::Moment,
    words::{Sanction, Severity},
};

/// What would follow an offence of one severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// By which policy.
    pub policy: String,
    /// How grave it would have to be.
    pub severity: Severity,
    /// The gravest sanction that would follow.
    pub sanction: Sanction,
    /// Whether it would wait for an operator.
    pub proposed: bool,
}

impl Record {
    /// What a further offence at `at` would lead to under each policy that binds `tenant`, for each
    /// severity that the policy knows. What the open case is already as grave as is left out.
    #[must_use]
    pub fn next(&self, book: &Book, tenant: &str, at: Moment) -> Vec<Next> {
        let subject = book.tenants.get(tenant);
        let plan = subject.and_then(|subject| subject.plan.as_deref());
        let observed = subject.is_some_and(|subject| subject.observe);
        let mut next = Vec::new();
        for ladder in book.binding(tenant) {
            let kept = self.ladders.get(&ladder.name).cloned().unwrap_or_default();
            let reinstated = kept
                .closed
                .iter()
                .any(|case| case.reinstated() && case.counts(ladder, at));
            let severities: BTreeSet<Severity> =
                ladder.offences.iter().map(|rule| rule.severity).collect();
            for severity in severities {
                let mark = Mark {
                    at,
                    severity,
                    counted: true,
                    fresh: true,
                    offence: kept.prior(ladder, at).saturating_add(1),
                };
                let open = kept.open.as_ref();
                if open.is_some_and(|case| case.marks.iter().any(|old| old.covers(&mark))) {
                    continue;
                }
                let steps = steps::following(ladder, &mark, plan, reinstated);
                let Some(sanction) = steps.iter().map(|step| step.sanction).max() else {
                    continue;
                };
                next.push(Next {
                    policy: ladder.name.clone(),
                    severity,
                    sanction,
                    proposed: observed || ladder.confirm.contains(&sanction),
                });
            }
        }
        next
    }
}
