//! Cases and what became of them, for people.

use std::fmt::Write as _;

use super::{
    case::{
        CaseDetails, CaseState, CaseSummary, Charged, ComplaintClock, Heard, HeardOutcome,
        HoldState, HoldStatus, NextStep, Note, Proposal, SeenBetween, Told,
    },
    outcome::CutOutcome,
    status_text::{Style, moment},
    text::{Align, few, printable, table},
    time,
};
use crate::notice::Channel;
use crate::offence::{How, Ids, Sanction, Standing};

/// How long something may be on its way to the record book without a word.
const ON_THE_WAY: std::time::Duration = std::time::Duration::from_secs(90);

/// How much of what was heard a case shows unless all is asked for.
const MOST_HEARD: usize = 20;

/// A sanction that waits for an operator, and what to do.
#[must_use]
pub fn proposal_words(proposal: &Proposal, style: &Style) -> String {
    let tenant = printable(&proposal.tenant);
    let (sanction, case) = (proposal.sanction.as_str(), printable(&proposal.case));
    let severity = proposal.severity.as_str();
    let mut out = format!("?? {sanction} of {tenant} waits for you ({case}, {severity})");
    if let Some(deadline) = proposal.deadline {
        let _ = write!(out, ", to be decided by {}", moment(deadline, style));
    }
    if let Some(meanwhile) = proposal.meanwhile {
        let _ = write!(out, "; {} meanwhile", meanwhile.as_str());
    }
    let _ = write!(
        out,
        "\n   do: limiter case confirm {tenant} {case} --sanction {sanction} --reason … (or reject)\n"
    );
    out
}

/// A sanction of a record in one line.
#[must_use]
pub fn hold_words(hold: &HoldStatus, style: &Style) -> String {
    let mut out = hold.sanction.as_str().to_owned();
    match hold.state {
        HoldState::InForce => {}
        HoldState::Proposed => out.push_str(" PROPOSED"),
        HoldState::Observed => out.push_str(" only observed, not in force"),
        HoldState::Ended => out.push_str(" over"),
        HoldState::Dropped => out.push_str(" proposed, never in force"),
    }
    let _ = write!(out, ", {}", printable(&hold.reason));
    if let Some(by) = &hold.by {
        let _ = write!(out, " ({})", printable(by));
    }
    if let (Some(ended), Some(how)) = (hold.ended, hold.how) {
        let how = match (hold.state, how) {
            (HoldState::Dropped, How::Reinstated) => "dropped by an operator",
            (_, how) => how_words(how),
        };
        let _ = write!(out, "; {how}, {}", moment(ended, style));
        return out;
    }
    if let Some(deadline) = hold.deadline {
        let _ = write!(out, "; to be decided by {}", moment(deadline, style));
    }
    if let Some(meanwhile) = hold.meanwhile {
        let _ = write!(out, "; {} meanwhile", meanwhile.as_str());
    }
    if hold.state == HoldState::Proposed {
        return out;
    }
    if let Some(until) = hold.until {
        let _ = write!(out, "; its time is over {}", moment(until, style));
    }
    let _ = write!(out, "; lifted by {}", printable(&hold.lift));
    if let Some(earliest) = hold.not_before {
        let _ = write!(out, ", not before {}", moment(earliest, style));
    }
    if let Some(then) = &hold.then {
        let _ = write!(
            out,
            "; if not, {} {}",
            then.sanction.as_str(),
            moment(then.at, style)
        );
    }
    out
}

/// How a sanction ended.
#[must_use]
pub const fn how_words(how: How) -> &'static str {
    match how {
        How::Rule => "its conditions were met",
        How::Reinstated => "lifted by an operator",
        How::Acquitted => "found wrong by an operator",
        How::Rejected => "rejected by an operator",
        How::Superseded => "something else took its place",
    }
}

/// A next step in one line.
#[must_use]
pub fn next_words(step: &NextStep, style: &Style) -> String {
    let mut what = String::new();
    if let Some(meanwhile) = step.meanwhile {
        let _ = write!(what, "{} at once, ", meanwhile.as_str());
    }
    what.push_str(step.sanction.as_str());
    if step.proposed {
        what.push_str(" proposed");
    }
    let mut out = match (step.at, step.severity) {
        (Some(at), _) => format!("{}: {what}", moment(at, style)),
        (None, Some(severity)) if step.already => format!(
            "a further {} offence: joins the open case, nothing beyond what that led to",
            severity.as_str()
        ),
        (None, Some(severity)) => format!("a further {} offence: {what}", severity.as_str()),
        (None, None) => what,
    };
    let _ = write!(out, " ({})", printable(&step.policy));
    out
}

/// How a tenant stands.
#[must_use]
pub const fn standing_words(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good: nothing is held against it",
        Standing::Warned => "warned",
        Standing::Blocked => "blocked: its mail does not leave",
        Standing::Suspended => "suspended",
        Standing::Terminated => "terminated",
    }
}

/// Cases, a line each.
#[must_use]
pub fn list(cases: &[CaseSummary], style: &Style) -> String {
    if cases.is_empty() {
        return "no cases\n".to_owned();
    }
    let rows = cases.iter().map(|case| {
        let in_force = case.sanction.iter().map(|it| it.as_str().to_owned());
        let waiting = case.waiting.iter();
        let waiting = waiting.map(|it| format!("{} PROPOSED", it.as_str()));
        let observed = case.observed.iter();
        let observed = observed.map(|it| format!("{} only observed", it.as_str()));
        let what = in_force
            .chain(waiting)
            .chain(observed)
            .collect::<Vec<_>>()
            .join(", ");
        [
            case.tenant.clone(),
            case.case.clone(),
            state_name(case.state).to_owned(),
            case.severity.map_or("", |it| it.as_str()).to_owned(),
            clock(case.opened, style),
            what,
        ]
    });
    table(
        [
            ("TENANT", 16, Align::Left),
            ("CASE", 14, Align::Left),
            ("STATE", 6, Align::Left),
            ("SEVERITY", 8, Align::Left),
            ("OPENED", 25, Align::Left),
            ("IN FORCE", 72, Align::Left),
        ],
        rows,
    )
}

const fn state_name(state: CaseState) -> &'static str {
    match state {
        CaseState::Open => "open",
        CaseState::Closed => "closed",
        CaseState::Void => "void",
    }
}

/// One case, whole.
#[must_use]
pub fn details(case: &CaseDetails, style: &Style) -> String {
    let mut out = head(&case.summary, style);
    for mark in &case.marks {
        let counts = match (mark.counted, case.summary.state) {
            (true, CaseState::Void) => {
                format!("was offence {}, found wrong: counts no more", mark.offence)
            }
            (true, _) => format!("offence {}", mark.offence),
            (false, _) => "does not count: nothing left the node".to_owned(),
        };
        let fresh = if mark.fresh {
            ""
        } else {
            ", of what led to the case before"
        };
        let (severity, at) = (mark.severity.as_str(), moment(mark.at, style));
        let _ = writeln!(out, "  {severity} since {at}: {counts}{fresh}");
    }
    section(&mut out, "sanctions", &case.holds, |hold| {
        hold_words(hold, style)
    });
    section(&mut out, "what follows", &case.next, |step| {
        next_words(step, style)
    });
    let evidence = evidence_lines(case, style);
    section(&mut out, "evidence", &evidence, Clone::clone);
    let most = if style.all { usize::MAX } else { MOST_HEARD };
    let skipped = case.heard.len().saturating_sub(most);
    let latest = case.heard.get(skipped..).unwrap_or_default();
    section(&mut out, "heard", latest, |heard| heard_words(heard, style));
    if skipped > 0 {
        let _ = writeln!(out, "    … and {skipped} before that (--all, --json)");
    }
    section(&mut out, "complaints to handle", &case.clocks, |clock| {
        clock_words(clock, style)
    });
    section(&mut out, "told", &case.notices, |told| {
        told_words(told, style)
    });
    section(&mut out, "notes", &case.notes, |note| {
        note_words(note, style)
    });
    section(&mut out, "charges", &case.charges, |charge| {
        charge_words(charge, style)
    });
    out
}

fn head(case: &CaseSummary, style: &Style) -> String {
    let mut out = format!(
        "case {} of {}: {}",
        printable(&case.case),
        printable(&case.tenant),
        state_name(case.state)
    );
    if let Some(severity) = case.severity {
        let _ = write!(out, ", {}", severity.as_str());
    }
    let _ = write!(out, "\n  opened {}", moment(case.opened, style));
    if let Some(closed) = case.closed {
        let _ = write!(out, ", closed {}", moment(closed, style));
    }
    out.push('\n');
    out
}

fn section<T>(out: &mut String, title: &str, items: &[T], words: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "  {title}:");
    for item in items {
        let _ = writeln!(out, "    {}", words(item));
    }
}

/// So many attempts, by the reason for which they were refused.
#[must_use]
pub fn attempts(reason: &str, count: u64) -> String {
    let attempts = if count == 1 { "attempt" } else { "attempts" };
    match reason {
        // Under some sanctions more is refused than mail: no word of mail here.
        "suspended" => format!("{count} {attempts} to connect while under a sanction"),
        "null_route" => format!("{count} {attempts} to connect while null-routed"),
        reason => format!(
            "{count} {attempts} against the rules ({})",
            printable(reason)
        ),
    }
}

/// When, by whom and to which ports.
fn seen_words(seen: &SeenBetween, style: &Style) -> String {
    let mut out = String::new();
    if seen.let_out > 0 {
        let _ = write!(out, " ({} let out, not refused)", seen.let_out);
    }
    let _ = write!(out, ", {}", clock(seen.first, style));
    if seen.last != seen.first {
        let _ = write!(out, " to {}", clock(seen.last, style));
    }
    let from: Vec<&str> = seen.from.iter().map(String::as_str).collect();
    if !from.is_empty() {
        let _ = write!(out, ", by {}", printable(&few(&from)));
    }
    let ports: Vec<String> = seen.ports.iter().map(ToString::to_string).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    if !ports.is_empty() {
        let noun = if ports.len() == 1 { "port" } else { "ports" };
        let _ = write!(out, ", to {noun} {}", few(&ports));
    }
    out
}

/// What a case rests on, in numbers.
#[must_use]
pub fn evidence_lines(case: &CaseDetails, style: &Style) -> Vec<String> {
    let evidence = &case.evidence;
    let seen = |kind: &str| case.seen.get(kind).map(|seen| seen_words(seen, style));
    let mut lines: Vec<String> = evidence
        .violations
        .iter()
        .map(|(reason, count)| attempts(reason, *count) + &seen(reason).unwrap_or_default())
        .collect();
    if evidence.bounces != (0, 0) {
        let (hard, soft) = evidence.bounces;
        let seen = seen("bounces").unwrap_or_default();
        lines.push(format!("{hard} hard and {soft} other bounces{seen}"));
    }
    let mut ids = |what: &str, ids: &Ids| {
        for id in &ids.listed {
            lines.push(format!("{what}: {}", printable(id)));
        }
        let listed = u64::try_from(ids.listed.len()).unwrap_or(u64::MAX);
        if ids.total > listed {
            lines.push(format!("{what}: {} more", ids.total - listed));
        }
    };
    ids("complaint", &evidence.complaints);
    ids("listing", &evidence.listings);
    ids("an operator", &evidence.words);
    ids("offence of a customer", &evidence.customers);
    lines
}

/// Something that was heard, in one line.
#[must_use]
pub fn heard_words(heard: &Heard, style: &Style) -> String {
    // When it happened is what counts; a few seconds on the way are not worth a word.
    let long = |happened: &jiff::Timestamp| {
        happened.duration_until(heard.time).unsigned_abs() > ON_THE_WAY
    };
    let happened = heard.happened.unwrap_or(heard.time);
    let mut out = format!("{}: {}", clock(happened, style), printable(&heard.text));
    if heard.happened.as_ref().is_some_and(long) {
        let _ = write!(out, ", heard {}", clock(heard.time, style));
    }
    if let Some(by) = &heard.by {
        let _ = write!(out, ", by {}", printable(by));
    }
    let reason = heard.reason.as_ref();
    if let Some(reason) = reason.filter(|reason| !heard.text.contains(*reason)) {
        let _ = write!(out, ", because {}", printable(reason));
    }
    if !heard.followed.is_empty() {
        let _ = write!(out, " → {}", printable(&heard.followed.join(", ")));
    }
    for evidence in &heard.evidence {
        if let Some(words) = event_words(evidence) {
            let _ = write!(out, "\n      {words}");
        }
    }
    out
}

/// The kernel event that something rests on, in one line.
#[must_use]
pub fn event_words(evidence: &serde_json::Value) -> Option<String> {
    let body = &evidence["body"];
    if evidence["kind"] != "event" {
        return Some(printable(&format!(
            "{}: {body}",
            evidence["kind"].as_str().unwrap_or("evidence")
        )));
    }
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let mut parts = Vec::new();
    for key in [
        "verdict",
        "reason",
        "layer",
        "uid",
        "pid",
        "comm",
        "exe",
        "cgroup",
        "interface",
    ] {
        parts.extend(text(&body[key]).map(|value| format!("{key} {value}")));
    }
    for key in ["source", "destination"] {
        let end = &body[key];
        if let Some(address) = text(&end["address"]) {
            let port = text(&end["port"]).unwrap_or_default();
            parts.push(format!("{key} {address} port {port}"));
        }
    }
    (!parts.is_empty()).then(|| printable(&parts.join(", ")))
}

/// What people were told, in one line.
#[must_use]
pub fn told_words(told: &Told, style: &Style) -> String {
    let mut out = format!(
        "{}: {} — {}",
        clock(told.time, style),
        printable(&told.to),
        printable(&told.text)
    );
    if told.deliveries.is_empty() {
        out.push_str(" [recorded only: nobody is told]");
    }
    for delivery in &told.deliveries {
        let channel = match serde_json::from_value::<Channel>(delivery.channel.clone()) {
            Ok(channel) => channel.to_string(),
            Err(_) => delivery.channel.to_string(),
        };
        let _ = write!(
            out,
            " [{}: {}",
            printable(&channel),
            printable(&delivery.state)
        );
        if delivery.attempts > 0 {
            let times = if delivery.attempts == 1 {
                "time"
            } else {
                "times"
            };
            let _ = write!(out, ", tried {} {times}", delivery.attempts);
        }
        if let Some(next) = delivery.next {
            let _ = write!(out, ", again at {}", clock(next, style));
        }
        if let Some(said) = &delivery.said {
            let _ = write!(out, ": {}", printable(said));
        }
        out.push(']');
    }
    out
}

/// A note in one line.
#[must_use]
pub fn note_words(note: &Note, style: &Style) -> String {
    format!(
        "{}: {} ({}, {})",
        clock(note.time, style),
        printable(&note.text),
        printable(&note.by),
        printable(&note.case)
    )
}

/// A charge in one line.
#[must_use]
pub fn charge_words(charge: &Charged, style: &Style) -> String {
    let mut out = format!("{}: ", clock(charge.time, style));
    match charge.cents {
        Some(cents) => {
            let _ = write!(out, "{}.{:02} ", cents / 100, cents % 100);
        }
        None => out.push_str("an amount to be named "),
    }
    // What a person will name has no currency yet.
    if !charge.currency.is_empty() {
        let _ = write!(out, "{} ", printable(&charge.currency));
    }
    let _ = write!(
        out,
        "for {}, billed to {} ({})",
        printable(&charge.cause),
        printable(&charge.bill),
        printable(&charge.policy)
    );
    if !charge.plus.is_empty() {
        let _ = write!(out, ", plus {}", printable(&charge.plus.join(", ")));
    }
    if charge.proposed {
        out.push_str(" [proposed only: the tenant is observed]");
    }
    if charge.void {
        out.push_str(" [void: its case was found wrong]");
    }
    out
}

/// What is to be done about a complaint, in one line.
#[must_use]
pub fn clock_words(clock: &ComplaintClock, style: &Style) -> String {
    let (complaint, what) = (printable(&clock.complaint), printable(&clock.clock));
    match clock.due {
        Some(due) => format!("{complaint}: {what} by {}", moment(due, style)),
        None => format!("{complaint}: {what}, done or overdue and told"),
    }
}

/// A moment on the clock of people, without how far away it is.
#[must_use]
pub fn clock(time: jiff::Timestamp, style: &Style) -> String {
    time::stamp(time, &style.zone)
}

/// What became of a word or an offence.
#[must_use]
pub fn outcome(outcome: &HeardOutcome, style: &Style) -> String {
    let tenant = printable(&outcome.tenant);
    let mut out = String::new();
    if outcome.duplicate {
        let _ = writeln!(out, "{tenant}: heard before, it does not count again");
    }
    if outcome.no_policy {
        let _ = writeln!(
            out,
            "!! recorded, and nothing follows: no policy that binds {tenant} speaks of it\n   \
             do: name one under `policies`, or `limiter suspend {tenant}`"
        );
    }
    let names = |sanctions: &[Sanction]| {
        let names: Vec<&str> = sanctions.iter().map(|it| it.as_str()).collect();
        names.join(", ")
    };
    for (what, cases) in [("opened", &outcome.opened), ("closed", &outcome.closed)] {
        for case in cases {
            let _ = writeln!(out, "{tenant}: case {} {what}", printable(case));
        }
    }
    for case in &outcome.voided {
        let _ = writeln!(
            out,
            "{tenant}: case {} was wrong: it counts no more; what followed from it elsewhere stands",
            printable(case)
        );
    }
    for it in &outcome.dropped {
        let (sanction, case) = (it.sanction.as_str(), printable(&it.case));
        let _ = writeln!(
            out,
            "{tenant}: {sanction} of case {case} is not carried out"
        );
    }
    if !outcome.lifted.is_empty() {
        let _ = writeln!(out, "{tenant}: {} lifted", names(&outcome.lifted));
    }
    if !outcome.applied.is_empty() {
        let _ = writeln!(out, "{tenant}: {} in force", names(&outcome.applied));
    }
    if let Some(opened) = outcome.opened_until {
        let opened = moment(opened, style);
        let _ = writeln!(
            out,
            "!! not carried out yet: opened until {opened} (limiter observe --end, for the node or \
             the tenant)"
        );
    }
    if !outcome.owed.is_empty() {
        let _ = writeln!(
            out,
            "!! {} decided and not in force in the kernel yet: it is tried again every second \
             (limiter status)",
            names(&outcome.owed)
        );
    }
    if out.is_empty() {
        let _ = writeln!(out, "{tenant}: recorded; nothing changes at once");
    }
    let any = |cut: &&CutOutcome| cut.sessions > 0 || cut.left > 0;
    if let Some(cut) = outcome.cut.as_ref().filter(any) {
        let _ = writeln!(
            out,
            "  {} live sessions were cut, {} are left: what they send is dropped",
            cut.sessions, cut.left
        );
    }
    let _ = writeln!(out, "  standing {}", standing_words(outcome.standing));
    for hold in &outcome.holds {
        let _ = writeln!(out, "  {}", hold_words(hold, style));
    }
    for hint in &outcome.hints {
        let _ = writeln!(out, "  {}", printable(hint));
    }
    for step in &outcome.next {
        let _ = writeln!(out, "  next: {}", next_words(step, style));
    }
    out
}
