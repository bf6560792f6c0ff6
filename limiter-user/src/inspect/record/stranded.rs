//! Who is under a sanction, or has an open case, and is no tenant of the configuration any more.

use std::{collections::BTreeMap, path::Path};

use crate::{
    offence::{Record, Sanction, Status},
    policy::{fault::Fault, model::Origin},
    report::{problem::Problem, text::few},
};

use super::name_of;

/// More are summed up.
const MOST_NAMED: usize = 20;

/// A record that has something open, and no tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Whose it is.
    pub tenant: String,
    /// What is on record as in force, weakest first; warnings are left out.
    pub sanctions: Vec<Sanction>,
    /// The open cases: `hostup/1`.
    pub cases: Vec<String>,
    /// What waits for an operator.
    pub waiting: Vec<Sanction>,
}

/// All of `records` that have something open, and whose tenants are not among those that are `known`
/// on this machine.
#[must_use]
pub fn stranded<'k>(
    records: &BTreeMap<String, Record>,
    known: impl IntoIterator<Item = &'k str>,
) -> Vec<Stranded> {
    let open = records.iter();
    let mut open: BTreeMap<&str, Stranded> = open
        .filter_map(|(tenant, record)| Some((tenant.as_str(), Stranded::of(tenant, record)?)))
        .collect();
    if !open.is_empty() {
        for tenant in known {
            open.remove(tenant);
        }
    }
    open.into_values().collect()
}

impl Stranded {
    fn of(tenant: &str, record: &Record) -> Option<Self> {
        let suffered = record.effective.keys().copied();
        let sanctions: Vec<Sanction> = suffered.filter(|it| *it > Sanction::Warn).collect();
        let mut cases = Vec::new();
        let mut waiting = Vec::new();
        for (policy, kept) in &record.ladders {
            let Some(case) = &kept.open else { continue };
            cases.push(name_of(policy, case.id));
            let proposed = case
                .holds
                .iter()
                .filter(|hold| matches!(hold.status, Status::Proposed(_)));
            waiting.extend(proposed.map(|hold| hold.step.sanction));
        }
        waiting.sort_unstable();
        waiting.dedup();
        (!sanctions.is_empty() || !cases.is_empty()).then(|| Self {
            tenant: tenant.to_owned(),
            sanctions,
            cases,
            waiting,
        })
    }

    /// What is wrong.
    fn problem(&self) -> String {
        let Self {
            tenant,
            sanctions,
            cases,
            waiting,
        } = self;
        let mut parts = Vec::new();
        if !sanctions.is_empty() {
            parts.push(format!("is under {}", names(sanctions)));
        }
        if !cases.is_empty() {
            parts.push(format!("has open cases ({})", cases.join(", ")));
        }
        if !waiting.is_empty() {
            parts.push(format!("waits for your word on {}", names(waiting)));
        }
        let what_happens = if sanctions.is_empty() {
            "the case is kept, and its deadlines run on"
        } else {
            "that is kept on record and is NOT in force: what belonged to the tenant is \
             whoever else's claims it, or `(default)`'s, its mail in the queue is released, and the \
             time of the sanction runs on"
        };
        format!(
            "{tenant:?} {} and is no tenant of the configuration: {what_happens}",
            parts.join(", ")
        )
    }

    /// What to do.
    fn remedy(&self) -> String {
        let tenant = &self.tenant;
        if self.sanctions.is_empty() {
            return format!(
                "if the customer is gone, leave it so; else put the tenant back (`limiter report \
                 {tenant}` says what is on record)"
            );
        }
        format!(
            "if it should hold, put the tenant back and `limiter reload`: it is in force again at \
             once, for what is left of its time. If it should end, put the tenant back, `limiter \
             reinstate {tenant} --override --reason …`, then remove it. If the customer is gone \
             and what it had is too, leave it so"
        )
    }
}

fn names(sanctions: &[Sanction]) -> String {
    let names: Vec<&str> = sanctions.iter().map(|it| it.as_str()).collect();
    names.join(", ")
}

/// What `limiter check` and `reload` say of them.
#[must_use]
pub fn warnings(stranded: &[Stranded], config: &Path) -> Vec<Fault> {
    let origin = Origin {
        file: config.into(),
        line: 0,
        column: 0,
    };
    let named = stranded.get(..MOST_NAMED).unwrap_or(stranded);
    let mut faults: Vec<Fault> = named
        .iter()
        .map(|it| Fault::warning(&origin, it.problem(), it.remedy()))
        .collect();
    let more = stranded.len() - named.len();
    if more > 0 {
        faults.push(Fault::warning(
            &origin,
            format!("{more} more are under sanctions or have open cases, and are no tenants"),
            "`limiter case list` names the cases",
        ));
    }
    faults
}

/// What `limiter status` says of those whose sanctions are not in force, if there are any.
#[must_use]
pub fn problem(stranded: &[Stranded]) -> Option<Problem> {
    let sanctioned = stranded.iter().filter(|it| !it.sanctions.is_empty());
    let all: Vec<String> = sanctioned
        .map(|it| format!("{:?} ({})", it.tenant, names(&it.sanctions)))
        .collect();
    let named: Vec<&str> = all.iter().map(String::as_str).collect();
    (!named.is_empty()).then(|| {
        Problem::warning(
            format!(
                "under sanctions and no tenants of the configuration, so nothing of it is in \
                 force: {}",
                few(&named)
            ),
            "`limiter check` says what to do",
        )
    })
}
