//! Which steps of a ladder follow a mark.

use std::collections::BTreeSet;

use super::{
    case::Mark,
    ladder::{Condition, Ladder, Length, Lift, Step},
    words::Sanction,
};

/// The steps that follow `mark`. Of each kind (by severity, by number, by both, after a
/// reinstatement) the last one that was reached; all of them are taken, so that the strictest
/// holds in each dimension.
pub fn following(ladder: &Ladder, mark: &Mark, plan: Option<&str>, reinstated: bool) -> Vec<Step> {
    let reached = |step: &&Step| {
        step.severity.is_none_or(|from| mark.severity >= from)
            && step.offence.is_none_or(|from| mark.offence >= from)
            && (!step.again || reinstated)
            && (mark.counted || (step.offence.is_none() && !step.again))
    };
    let named = |step: &&Step| plan.is_some_and(|plan| step.plans.contains(plan));
    let mut steps: Vec<&Step> = ladder.steps.iter().filter(reached).collect();
    // The steps of the tenant's own plan take the place of the others.
    if steps.iter().any(&named) {
        steps.retain(named);
    } else {
        steps.retain(|step| step.plans.is_empty());
    }
    let kind = |step: &Step| (step.severity.is_some(), step.offence.is_some(), step.again);
    let place = |step: &Step| (step.severity, step.offence);
    let last = |step: &&&Step| {
        !steps
            .iter()
            .any(|other| kind(other) == kind(step) && place(other) > place(step))
    };
    let taken = steps.iter().filter(last).map(|step| {
        if mark.counted {
            (*step).clone()
        } else {
            weakened(step)
        }
    });
    let mut taken: BTreeSet<Step> = taken.collect();
    // Beside a suspension a warning says nothing.
    if taken.iter().any(|step| step.sanction > Sanction::Warn) {
        taken.retain(|step| step.sanction > Sanction::Warn);
    }
    taken.into_iter().collect()
}

/// The step as a warning: nothing left the node.
fn weakened(step: &Step) -> Step {
    let length = match step.sanction {
        Sanction::Warn => step.length,
        _ => None,
    };
    Step {
        sanction: Sanction::Warn,
        length: length.or(Some(Length::WARNING)),
        lift: Lift::Any(BTreeSet::from([Condition::Time])),
        meanwhile: None,
        then: None,
        charges: Vec::new(),
        ..step.clone()
    }
}

/// What follows a step whose sanction was not lifted in time.
pub fn after(step: &Step, sanction: Sanction) -> Step {
    Step {
        sanction,
        length: None,
        lift: Lift::All(BTreeSet::from([Condition::Never])),
        meanwhile: None,
        then: None,
        charges: Vec::new(),
        ..step.clone()
    }
}
