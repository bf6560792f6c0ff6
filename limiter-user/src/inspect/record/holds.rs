//! The sanctions of a record, and what comes next.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Times, name_of, words};
use crate::{
    court::Study,
    offence::{Case, Hold, OwnHold, Record, Sanction, Severity, Status, Why},
    report::case::{HoldState, HoldStatus, NextStep, Then},
};

/// Everything that is in force or proposed by this record, strongest first.
#[must_use]
pub fn holds(tenant: &str, record: &Record, times: Times) -> Vec<HoldStatus> {
    let mut found: Vec<HoldStatus> = record
        .own
        .iter()
        .map(|(sanction, own)| of_operator(tenant, *sanction, own, times))
        .collect();
    for (policy, kept) in &record.ladders {
        let open = kept.open.iter();
        found.extend(open.flat_map(|case| {
            let holds = case.holds.iter().filter(|hold| hold.is_open());
            holds.map(|hold| of_case(tenant, policy, case, hold, times))
        }));
    }
    sort(&mut found);
    found
}

/// What holds before what waits before what is over; the strongest first.
pub(super) fn sort(holds: &mut [HoldStatus]) {
    holds.sort_by_key(|hold| (hold.state, Reverse(hold.sanction), hold.since));
}

/// A sanction that follows from a case.
pub(super) fn of_case(
    tenant: &str,
    policy: &str,
    case: &Case,
    hold: &Hold,
    times: Times,
) -> HoldStatus {
    let (state, ended) = match hold.status {
        Status::InForce => (HoldState::InForce, None),
        Status::Proposed(Why::Confirm) => (HoldState::Proposed, None),
        Status::Proposed(Why::Observed) => (HoldState::Observed, None),
        Status::Ended { at, how } if hold.forced => (HoldState::Ended, Some((at, how))),
        Status::Ended { at, how } => (HoldState::Dropped, Some((at, how))),
    };
    let name = name_of(policy, case.id);
    let what = match hold.offence {
        0 => "attempts that were refused, which do not count".to_owned(),
        number => format!("offence {number}"),
    };
    HoldStatus {
        sanction: hold.step.sanction,
        state,
        reason: format!("case {name}: {}, {what}", hold.severity.as_str()),
        case: Some(name),
        severity: Some(hold.severity),
        offence: hold.offence,
        by: None,
        since: times.at(hold.since),
        until: hold.until.map(|until| times.at(until)),
        not_before: hold
            .not_before
            .filter(|earliest| *earliest > hold.since)
            .map(|earliest| times.at(earliest)),
        lift: words::lift(&hold.step.lift, tenant),
        deadline: hold.deadline.map(|deadline| times.at(deadline)),
        meanwhile: match state {
            HoldState::Proposed => hold.step.meanwhile,
            _ => None,
        },
        then: hold.then.map(|(sanction, at)| Then {
            sanction,
            at: times.at(at),
        }),
        ended: ended.map(|(at, _)| times.at(at)),
        how: ended.map(|(_, how)| how),
    }
}

/// A sanction by an operator's own word.
fn of_operator(tenant: &str, sanction: Sanction, own: &OwnHold, times: Times) -> HoldStatus {
    HoldStatus {
        sanction,
        state: HoldState::InForce,
        case: None,
        severity: None,
        offence: 0,
        reason: own.reason.clone(),
        by: Some(own.by.clone()),
        since: times.at(own.since),
        until: own.until.map(|until| times.at(until)),
        not_before: None,
        lift: words::lift_of_operator(own.until.is_some(), tenant),
        deadline: None,
        meanwhile: None,
        then: None,
        ended: None,
        how: None,
    }
}

/// What comes next: by itself, soonest first, then with a further offence, of each severity the
/// gravest of all policies.
#[must_use]
pub fn next_steps(tenant: &str, record: &Record, study: &Study<'_>) -> Vec<NextStep> {
    let times = Times::from(study);
    let mut by_time = Vec::new();
    for (policy, kept) in &record.ladders {
        let holds = kept.open.iter().flat_map(|case| &case.holds);
        for (sanction, at) in holds.filter_map(|hold| hold.then) {
            let ladder = study.book.ladders.get(policy);
            by_time.push(NextStep {
                sanction,
                at: Some(times.at(at)),
                severity: None,
                policy: policy.clone(),
                // Without its policy nobody can say: then it waits.
                proposed: ladder.is_none_or(|ladder| ladder.confirm.contains(&sanction)),
                meanwhile: None,
                already: false,
            });
        }
    }
    by_time.sort_by_key(|step| (step.at, Reverse(step.sanction)));
    let mut by_severity: BTreeMap<Severity, NextStep> = BTreeMap::new();
    for next in record.next(study.book, tenant, study.now) {
        let step = NextStep {
            sanction: next.sanction,
            at: None,
            severity: Some(next.severity),
            policy: next.policy,
            proposed: next.proposed,
            meanwhile: next.meanwhile,
            already: next.already,
        };
        let gravest = by_severity
            .entry(next.severity)
            .or_insert_with(|| step.clone());
        let weight = |step: &NextStep| (step.sanction, !step.already);
        if weight(&step) > weight(gravest) {
            *gravest = step;
        }
    }
    by_time.extend(by_severity.into_values().rev());
    by_time
}
