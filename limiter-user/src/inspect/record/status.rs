//! What the records add to `status` and `explain`.

use std::collections::BTreeMap;

use super::{Times, holds, is_worth_telling, next_steps};
use crate::{
    court::Study,
    offence,
    report::{
        case::{HoldState, HoldStatus, Proposal, RecordStatus},
        explain::Explanation,
        status::{Sanction, SanctionStatus, Standing, Status, TenantStatus},
    },
};

/// Adds what the records say: to each tenant, and the proposals that wait, on the whole node or for
/// the tenants shown.
pub fn add_to_status(status: &mut Status, study: &Study<'_>, only_shown: bool) {
    let times = Times::from(study);
    let mut all: BTreeMap<&str, Vec<HoldStatus>> = BTreeMap::new();
    for (tenant, record) in study.records {
        if is_worth_telling(record) {
            all.insert(tenant, holds(tenant, record, times));
        }
    }
    for tenant in &mut status.tenants {
        add(tenant, study, &all);
    }
    let shown = |name: &str| status.tenants.iter().any(|it| it.tenant == name);
    let mut proposals: Vec<Proposal> = all
        .iter()
        .filter(|(tenant, _)| !only_shown || shown(tenant))
        .flat_map(|(tenant, holds)| holds.iter().filter_map(|hold| proposal(tenant, hold)))
        .collect();
    proposals.sort_by_key(|it| (it.deadline.is_none(), it.deadline));
    status.proposals = proposals;
}

fn proposal(tenant: &str, hold: &HoldStatus) -> Option<Proposal> {
    if hold.state != HoldState::Proposed {
        return None;
    }
    Some(Proposal {
        tenant: tenant.to_owned(),
        case: hold.case.clone()?,
        sanction: hold.sanction,
        severity: hold.severity?,
        deadline: hold.deadline,
        meanwhile: hold.meanwhile,
    })
}

fn add(tenant: &mut TenantStatus, study: &Study<'_>, all: &BTreeMap<&str, Vec<HoldStatus>>) {
    if let Some(record) = study.records.get(&tenant.tenant)
        && is_worth_telling(record)
    {
        let times = Times::from(study);
        // What the kernel does not know by that name: warnings, and what is for good.
        for unknown in [offence::Sanction::Warn, offence::Sanction::Terminate] {
            let Some(until) = record.effective.get(&unknown) else {
                continue;
            };
            tenant.sanctions.push(SanctionStatus {
                sanction: unknown.into(),
                until: until.map(|until| times.at(until)),
                from: None,
            });
        }
        if record.effective.contains_key(&offence::Sanction::Terminate)
            && !record
                .effective
                .contains_key(&offence::Sanction::SuspendNetwork)
        {
            // That is how the kernel carries it out.
            tenant
                .sanctions
                .retain(|it| it.sanction != Sanction::SuspendNetwork || it.from.is_some());
        }
        tenant
            .sanctions
            .sort_by_key(|it| std::cmp::Reverse(it.sanction));
        let next = next_steps(&tenant.tenant, record, study);
        let holds = all.get(tenant.tenant.as_str()).cloned().unwrap_or_default();
        tenant.record = RecordStatus {
            deadline: holds.iter().filter_map(|hold| hold.deadline).min(),
            holds,
            next,
            ..RecordStatus::default()
        };
    }
    let Some(strongest) = tenant.sanctions.first() else {
        return;
    };
    tenant.sanction = Some(strongest.sanction);
    tenant.until = strongest.until;
    let standing: Standing = strongest.sanction.into();
    tenant.standing = tenant.standing.max(standing);
    let whose = strongest.from.as_deref().unwrap_or(&tenant.tenant);
    let mut holds = all.get(whose).into_iter().flatten();
    let Some(hold) = holds.find(|hold| makes_suffer(hold, strongest.sanction)) else {
        return;
    };
    tenant.record.reason = Some(match &strongest.from {
        Some(from) => format!("{from}: {}", why(hold)),
        None => why(hold),
    });
    tenant.record.lift = Some(hold.lift.clone());
}

/// Whether this is why a tenant suffers `sanction`.
fn makes_suffer(hold: &HoldStatus, sanction: Sanction) -> bool {
    let suffered = match hold.state {
        HoldState::InForce => Some(hold.sanction),
        HoldState::Proposed => hold.meanwhile,
        HoldState::Observed | HoldState::Ended | HoldState::Dropped => None,
    };
    suffered.is_some_and(|suffered| {
        let in_kernel = suffered.in_kernel().map(Sanction::from);
        Sanction::from(suffered) == sanction || in_kernel == Some(sanction)
    })
}

/// Why a sanction is there, and who put it there.
fn why(hold: &HoldStatus) -> String {
    match &hold.by {
        Some(by) => format!("{} ({by})", hold.reason),
        None => hold.reason.clone(),
    }
}

/// Adds what the records of the tenant and its ancestors say.
pub fn add_to_explanation(answer: &mut Explanation, study: &Study<'_>) {
    let times = Times::from(study);
    let all = answer.tenant.iter().chain(&answer.ancestors);
    let mut notes = Vec::new();
    for (at, tenant) in all.enumerate() {
        let Some(record) = study.records.get(tenant) else {
            continue;
        };
        if at == 0 {
            answer.standing = record.standing().into();
            answer.next = if is_worth_telling(record) {
                next_steps(tenant, record, study)
            } else {
                Vec::new()
            };
        }
        for hold in holds(tenant, record, times) {
            notes.push((tenant.clone(), hold));
        }
    }
    answer.holds = notes
        .into_iter()
        .map(|(tenant, hold)| crate::report::explain::HeldAgainst { tenant, hold })
        .collect();
}
