//! What a further offence would lead to: for whoever looks at a record.

use std::collections::BTreeSet;

use super::{
    book::Book,
    case::Mark,
    ladder::{Ladder, RefusedAttempts, When},
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
    /// What would hold while it waits.
    pub meanwhile: Option<Sanction>,
    /// Whether the open case is as grave already: then it joins that, and nothing more follows.
    pub already: bool,
}

impl Record {
    /// What a further offence at `at` would lead to under each policy that binds `tenant`, for each
    /// severity that the policy knows. Where only refused attempts can be so grave, and the policy
    /// warns of those, it is a warning.
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
                let counted = observed || can_count(ladder, severity);
                let prior = kept.prior(ladder, at);
                let mark = Mark {
                    at,
                    severity,
                    counted,
                    fresh: true,
                    offence: if counted { prior.saturating_add(1) } else { 0 },
                };
                let open = kept.open.as_ref();
                let already = open.filter(|case| case.marks.iter().any(|old| old.covers(&mark)));
                let steps = steps::following(ladder, &mark, plan, reinstated);
                let Some(step) = steps.iter().max_by_key(|step| step.sanction) else {
                    continue;
                };
                let sanction = step.sanction;
                let waits = !observed && ladder.confirm.contains(&sanction);
                next.push(Next {
                    policy: ladder.name.clone(),
                    severity,
                    sanction,
                    proposed: observed || waits,
                    meanwhile: step.meanwhile.filter(|_| waits),
                    already: already.is_some(),
                });
            }
        }
        next
    }
}

/// Whether an offence so grave can count: rules about attempts cannot make one where attempts are
/// refused and the policy only warns of those.
fn can_count(ladder: &Ladder, severity: Severity) -> bool {
    let punishes = ladder.refused_attempts == RefusedAttempts::Punish;
    let mut rules = ladder.offences.iter();
    rules.any(|rule| {
        rule.severity == severity && (punishes || !matches!(rule.when, When::Violations { .. }))
    })
}
