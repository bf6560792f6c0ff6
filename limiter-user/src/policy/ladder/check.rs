//! What only shows when the whole policy is read: offences that nothing follows, steps that stand
//! in each other's way, and what holds meanwhile without need.

use std::collections::BTreeSet;

use super::super::{findings::Findings, node::Mark};
use crate::offence::{OffenceRule, Sanction, Step};

/// Checks the policy.
pub(super) fn check(
    offences: &[(OffenceRule, Mark)],
    steps: &[Option<(Step, Mark)>],
    confirm: &BTreeSet<Sanction>,
    out: &mut Findings,
) {
    for (rule, mark) in offences {
        // One that cannot be read may be the one.
        let follows = |step: &Option<(Step, Mark)>| {
            step.as_ref().is_none_or(|(step, _)| {
                !step.again
                    && step.plans.is_empty()
                    && step.severity.is_none_or(|from| from <= rule.severity)
            })
        };
        if !steps.iter().any(follows) {
            let severity = rule.severity.as_str();
            let problem = format!("offences: nothing follows an offence that is {severity}");
            let allowed = format!("add a step with `severity: {severity}` or a lower one");
            out.error(*mark, problem, allowed);
        }
    }
    for (index, step) in steps.iter().enumerate() {
        let Some((step, mark)) = step else {
            continue;
        };
        let place = |step: &Step| (step.severity, step.offence, step.again, step.plans.clone());
        let mut before = steps.iter().take(index).flatten();
        if let Some((_, first)) = before.find(|(other, _)| place(other) == place(step)) {
            let problem = format!("steps[{index}]: stands for the same as an earlier step");
            let allowed = format!("keep one; the other is at line {}", first.line);
            out.error(*mark, problem, allowed);
        }
        if step.meanwhile.is_some() && !confirm.contains(&step.sanction) {
            let problem = format!(
                "steps[{index}].meanwhile: has no effect, {} needs no confirmation",
                step.sanction.as_str()
            );
            out.warning(
                *mark,
                problem,
                "leave it out, or add the sanction to `confirm`",
            );
        }
        if let Some(meanwhile) = step
            .meanwhile
            .filter(|meanwhile| confirm.contains(meanwhile))
        {
            let problem = format!(
                "steps[{index}].meanwhile: {} waits for a confirmation itself",
                meanwhile.as_str()
            );
            out.error(*mark, problem, "a sanction that is not in `confirm`");
        }
    }
}
