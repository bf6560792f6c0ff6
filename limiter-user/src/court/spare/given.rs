//! What a record puts in force, and why.

use super::Kept;
use crate::offence::{Moment, Record, Sanction};

/// What `tenant` suffers by its own record, as far as the kernel enforces it; `wall` turns a moment
/// of the engine's into one of the wall clock's.
pub(super) fn of_record(
    tenant: &str,
    record: &Record,
    wall: impl Fn(Moment) -> Moment,
) -> Vec<Kept> {
    let effective = record.effective.iter();
    let enforced = effective.filter(|(sanction, _)| sanction.in_kernel().is_some());
    enforced
        .map(|(sanction, until)| {
            let (cases, reason) = why(record, *sanction);
            Kept {
                tenant: tenant.to_owned(),
                sanction: *sanction,
                until: *until,
                ends: until.map(|until| wall(until).timestamp()),
                cases,
                reason,
            }
        })
        .collect()
}

/// The cases that a sanction follows from, and why it is there.
fn why(record: &Record, sanction: Sanction) -> (Vec<String>, String) {
    let mut cases = Vec::new();
    let mut reasons = Vec::new();
    for (policy, kept) in &record.ladders {
        if let Some(case) = &kept.open {
            let holds = case.holds.iter();
            for hold in holds.filter(|hold| hold.suffered() == Some(sanction)) {
                let name = format!("{policy}/{}", case.id);
                reasons.push(format!("case {name}: {}", hold.severity.as_str()));
                if !cases.contains(&name) {
                    cases.push(name);
                }
            }
        }
    }
    if let Some(own) = record.own.get(&sanction) {
        reasons.push(format!("{} (by {})", own.reason, own.by));
    }
    (cases, reasons.join("; "))
}
