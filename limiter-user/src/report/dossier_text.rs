//! The evidence report as plain text.

use std::fmt::Write as _;

use super::{
    case::{CaseState, HoldState},
    case_text::{
        charge_words, clock, clock_words, evidence_lines, heard_words, hold_words, note_words,
        standing_words, told_words,
    },
    dossier::{Dossier, Suffered},
    status_text::Style,
    text::printable,
};

/// The evidence report. Remarks of a person go below its last line.
#[must_use]
pub fn text(dossier: &Dossier, style: &Style) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "EVIDENCE REPORT: {} on {}\n",
        printable(&dossier.tenant),
        printable(&dossier.node)
    );
    for (name, value) in facts(dossier, style) {
        let _ = writeln!(out, "  {name:<10} {}", printable(&value));
    }
    for (title, lines) in sections(dossier, style) {
        let _ = writeln!(out, "\n{}", title.to_uppercase());
        if lines.is_empty() {
            out.push_str("  none\n");
        }
        for line in lines {
            let _ = writeln!(out, "  {}", line.replace('\n', "\n  "));
        }
    }
    out.push_str(
        "\nREMARKS\n  (what no machine on the node can see: consent records, what the customer \
         said and did)\n\n\n\n",
    );
    out
}

/// What stands at the head of a report, by name.
#[must_use]
pub fn facts(dossier: &Dossier, style: &Style) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("tenant", dossier.tenant.clone()),
        ("node", dossier.node.clone()),
    ];
    facts.extend(dossier.parent.clone().map(|parent| ("customer of", parent)));
    facts.extend(dossier.plan.clone().map(|plan| ("plan", plan)));
    if !dossier.known {
        facts.push(("account", "no tenant of this node any more".to_owned()));
    }
    facts.push((
        "policies",
        if dossier.policies.is_empty() {
            "none".to_owned()
        } else {
            dossier.policies.join(", ")
        },
    ));
    facts.push(("standing", standing_words(dossier.standing).to_owned()));
    let (from, to) = (clock(dossier.since, style), clock(dossier.made, style));
    facts.push(("period", format!("{from} to {to} ({})", dossier.span)));
    facts.push(("made", to));
    facts.extend(dossier.made_by.clone().map(|by| ("made by", by)));
    facts
}

/// The parts of a report: a title, and its lines.
#[must_use]
pub fn sections(dossier: &Dossier, style: &Style) -> Vec<(&'static str, Vec<String>)> {
    let heard = dossier.heard.iter();
    let mut heard: Vec<String> = heard.map(|it| heard_words(it, style)).collect();
    if dossier.heard_left_off {
        heard.insert(0, "… what lies before is left off".to_owned());
    }
    let counters = dossier.counters.map(|counters| {
        format!(
            "since the tenant was created: {} attempts allowed, {} denied, {} redirected to the \
             local mail server, {} that would have been denied",
            counters.allowed, counters.denied, counters.redirected, counters.would_deny
        )
    });
    let mut holds = each(&dossier.holds, |hold| hold_words(hold, style));
    if dossier
        .holds
        .iter()
        .any(|hold| hold.state == HoldState::Observed)
    {
        let said = "the tenant is only observed: what its policies led to was recorded, and nothing \
                    of it carried out";
        holds.insert(0, said.to_owned());
    }
    vec![
        ("In force and proposed", holds),
        ("Cases", cases(dossier, style)),
        ("What was heard, and what was decided", heard),
        (
            "Sanctions suffered",
            each(&dossier.sanctions, |it| suffered_words(it, style)),
        ),
        ("Counters of the kernel", counters.into_iter().collect()),
        (
            "Reports of abuse",
            each(&dossier.complaints, |it| {
                format!(
                    "{}: {} ({}) {}",
                    clock(it.received, style),
                    printable(&it.id),
                    printable(&it.state),
                    printable(&it.why)
                )
            }),
        ),
        (
            "To be done about them",
            each(&dossier.clocks, |it| clock_words(it, style)),
        ),
        (
            "Who was told",
            each(&dossier.notices, |it| told_words(it, style)),
        ),
        ("Notes", each(&dossier.notes, |it| note_words(it, style))),
        (
            "Charges",
            each(&dossier.charges, |it| charge_words(it, style)),
        ),
    ]
}

fn each<T>(items: &[T], words: impl Fn(&T) -> String) -> Vec<String> {
    items.iter().map(words).collect()
}

fn cases(dossier: &Dossier, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    for case in &dossier.cases {
        let summary = &case.summary;
        let state = match (summary.state, summary.closed) {
            (CaseState::Open, _) => "open".to_owned(),
            (CaseState::Closed, Some(closed)) => format!("closed {}", clock(closed, style)),
            (CaseState::Closed, None) => "closed".to_owned(),
            (CaseState::Void, _) => "void: it was wrong".to_owned(),
        };
        let mut line = format!(
            "{} ({}), opened {}, {state}",
            printable(&summary.case),
            summary.severity.map_or("", |it| it.as_str()),
            clock(summary.opened, style),
        );
        for hold in &case.holds {
            let _ = write!(line, "\n  {}", hold_words(hold, style));
        }
        for evidence in evidence_lines(case, style) {
            let _ = write!(line, "\n  evidence: {evidence}");
        }
        lines.push(line);
    }
    lines
}

fn suffered_words(suffered: &Suffered, style: &Style) -> String {
    let mut out = format!(
        "{} from {}",
        suffered.sanction.as_str(),
        clock(suffered.since, style)
    );
    match (suffered.lifted, suffered.until) {
        (Some(lifted), _) => {
            let _ = write!(out, " to {}", clock(lifted, style));
        }
        (None, Some(until)) => {
            let _ = write!(out, ", in force until {}", clock(until, style));
        }
        (None, None) => out.push_str(", in force until it is lifted"),
    }
    out
}
