//! What is said of what was decided: to people, by way of the record book, and in the log.

use std::collections::BTreeMap;

use super::setting::{Herald, Study, Told};
use crate::{
    ledger::{LedgerError, Page},
    offence::{Action, Evidence, Notice, Record},
};

/// Writes down who is told of these notices, and by which ways.
pub(super) fn announce(
    page: &Page<'_>,
    herald: &dyn Herald,
    study: &Study<'_>,
    notices: &[(i64, Notice)],
) -> Result<(), LedgerError> {
    let told: Vec<Told<'_>> = notices
        .iter()
        .map(|(number, notice)| Told {
            number: *number,
            notice,
            at: study.now,
            wall: study.wall,
            evidence: evidence_of(study.records, notice),
        })
        .collect();
    for (number, planned) in herald.plan(&told, study.book) {
        page.deliver(number, &planned, study.wall)?;
    }
    Ok(())
}

/// What a case rests on that `notice` is about.
fn evidence_of<'s>(records: &'s BTreeMap<String, Record>, notice: &Notice) -> Option<&'s Evidence> {
    let kept = records
        .get(&notice.tenant)?
        .ladders
        .get(notice.policy.as_ref()?)?;
    let closed = kept
        .closed
        .last()
        .filter(|case| Some(case.id) == notice.case);
    Some(closed.map_or(&kept.evidence, |case| &case.evidence))
}

/// What an action says in the log.
pub(super) fn log_line(action: &Action) -> Option<String> {
    match action {
        Action::Apply {
            tenant,
            sanction,
            until,
        } => {
            let end = until.map_or("until it is lifted", |_| "for a time");
            Some(format!("{tenant:?} is under {} {end}", sanction.as_str()))
        }
        Action::LiftSanction { tenant, sanction } => {
            Some(format!("{} of {tenant:?} is lifted", sanction.as_str()))
        }
        Action::OpenCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant:?} is opened")),
        Action::CloseCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant:?} is closed")),
        _ => None,
    }
}
