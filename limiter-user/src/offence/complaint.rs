//! Reports of abuse: which count, and by when they are to be handled.

use super::{
    action::Action,
    ladder::{ComplaintRules, Ladder},
    record::Record,
    signal::Complaint,
    time::{Moment, Span},
};

/// How long ids of complaints and listings are remembered, so that duplicates are recognised.
const REMEMBERED: Span = Span::days(400);

/// Whether `id` is heard for the first time; if so, it is remembered.
pub fn is_new(
    record: &mut Record,
    tenant: &str,
    id: &str,
    at: Moment,
    out: &mut Vec<Action>,
) -> bool {
    if record.heard.contains_key(id) {
        out.push(Action::Duplicate {
            tenant: tenant.to_owned(),
            id: id.to_owned(),
        });
        return false;
    }
    record.heard.insert(id.to_owned(), at);
    record.heard.retain(|_, heard| heard.plus(REMEMBERED) > at);
    let Record { heard, clocks, .. } = record;
    clocks.retain(|key, due| {
        let id = key.split_once('\n').map_or("", |(id, _)| id);
        due.is_some() || heard.contains_key(id)
    });
    true
}

/// Whether `complaint` is valid under `ladder`.
pub fn is_valid(ladder: &Ladder, complaint: &Complaint, out: &mut Vec<Action>) -> bool {
    let ComplaintRules {
        formats, require, ..
    } = &ladder.complaints;
    let format = formats.is_empty() || formats.contains(&complaint.format);
    let missing: std::collections::BTreeSet<_> =
        require.difference(&complaint.parts).copied().collect();
    if format && missing.is_empty() {
        return true;
    }
    out.push(Action::InvalidComplaint {
        tenant: complaint.tenant.clone(),
        complaint: complaint.id.clone(),
        policy: ladder.name.clone(),
        missing,
        format: !format,
    });
    false
}

/// Starts the clocks of a valid complaint; of several policies the shortest holds.
pub fn start_clocks(record: &mut Record, ladder: &Ladder, id: &str, at: Moment) {
    for (clock, span) in &ladder.complaints.clocks {
        // Nothing is to be done about one that was wrong.
        let due = (!record.voided.is_complaint(id)).then(|| at.plus(*span));
        let entry = record.clocks.entry(key(id, clock)).or_insert(due);
        // One that a person stopped stays stopped.
        *entry = entry.zip(due).map(|(before, due)| before.min(due));
    }
}

/// Stops a clock: a person did what was to be done.
pub fn stop_clock(record: &mut Record, id: &str, clock: &str) {
    record.clocks.insert(key(id, clock), None);
}

/// The complaint was wrong: it counts no more, and nothing is to be done about it.
pub fn withdraw(record: &mut Record, id: &str, at: Moment) {
    record.voided.complaint(id, at);
    let of = key(id, "");
    let clocks = record.clocks.range_mut(of.clone()..);
    for (_, due) in clocks.take_while(|(clock, _)| clock.starts_with(&of)) {
        *due = None;
    }
}

fn key(id: &str, clock: &str) -> String {
    format!("{id}\n{clock}")
}
