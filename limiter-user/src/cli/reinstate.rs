//! `limiter reinstate`

use std::process::ExitCode;

use clap::{Args, builder::PossibleValuesParser};
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{block_on, client},
    error::{CliError, FAILED},
    output::Output,
    suspend::{all, find, reason},
};
use crate::{
    control::routes::ReinstateRequest,
    offence::Sanction,
    report::{
        case_text::next_words,
        outcome::ReinstateOutcome,
        status_text::{Style, sanction_words},
        text::printable,
    },
};

/// Say that a tenant was looked at and is in order: lifts what its policies let a review lift, and
/// operators' own sanctions. What is in force still (by its policies, or inherited from an ancestor)
/// is shown; then the exit code is 1.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Whom
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// Only this one [default: all]
    #[arg(long, value_parser = PossibleValuesParser::new(all()))]
    sanction: Option<String>,
    /// Lift it against the rules of the policies
    #[arg(long = "override")]
    overriding: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = ReinstateRequest {
        tenant: args.tenant,
        sanction: args.sanction.as_deref().and_then(find),
        overriding: args.overriding,
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.reinstate(&request).await?) })?;
    let mut out = Output::new();
    if global.json {
        out.json(&outcome)?;
    } else {
        let style = Style {
            zone: TimeZone::system(),
            all: false,
        };
        out.text(&text(&outcome, &style))?;
    }
    out.flush()?;
    Ok(if still_under(&outcome, request.sanction) {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether what was to be taken back is in force all the same: an ancestor's.
fn still_under(outcome: &ReinstateOutcome, wanted: Option<Sanction>) -> bool {
    let wanted = wanted.and_then(Sanction::in_kernel);
    outcome
        .remaining
        .iter()
        .any(|it| wanted.is_none_or(|wanted| it.sanction == wanted.into()))
}

fn text(outcome: &ReinstateOutcome, style: &Style) -> String {
    let tenant = printable(&outcome.tenant);
    let lifted: Vec<&str> = outcome.lifted.iter().map(|it| it.as_str()).collect();
    let mut said = if !lifted.is_empty() {
        format!("{tenant}: {} taken back\n", lifted.join(", "))
    } else if outcome.remaining.iter().any(|it| it.from.is_none()) {
        format!("{tenant}: nothing was lifted\n")
    } else if outcome.dropped.is_empty() && outcome.closed.is_empty() {
        format!("{tenant}: it was under no such sanction of its own\n")
    } else {
        String::new()
    };
    for it in &outcome.dropped {
        let (sanction, case) = (it.sanction.as_str(), printable(&it.case));
        said.push_str(&format!(
            "{tenant}: {sanction} of case {case} is not carried out\n"
        ));
    }
    for case in &outcome.closed {
        said.push_str(&format!("{tenant}: case {} closed\n", printable(case)));
    }
    for sanction in &outcome.remaining {
        let words = sanction_words(sanction, style);
        said.push_str(&format!("  still in force: {words}\n"));
    }
    for hint in &outcome.hints {
        said.push_str(&format!("  {}\n", printable(hint)));
    }
    if let Some(why) = &outcome.unrecorded {
        said.push_str(&format!("  {}\n", printable(why)));
    }
    for step in &outcome.next {
        said.push_str(&format!("  next: {}\n", next_words(step, style)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::status::{self, SanctionStatus};

    #[test]
    fn what_an_ancestor_has_is_not_taken_back() {
        let outcome = ReinstateOutcome {
            tenant: "alice".to_owned(),
            lifted: vec![Sanction::BlockSmtp],
            remaining: vec![SanctionStatus {
                sanction: status::Sanction::SuspendNetwork,
                until: None,
                from: Some("reseller-7".to_owned()),
            }],
            dropped: Vec::new(),
            closed: Vec::new(),
            hints: Vec::new(),
            next: Vec::new(),
            unrecorded: None,
        };
        let style = Style {
            zone: TimeZone::UTC,
            all: false,
        };
        assert_eq!(
            text(&outcome, &style),
            "alice: block_smtp taken back\n  still in force: suspend_network without end, \
             inherited from reseller-7\n"
        );
        let refused = ReinstateOutcome {
            lifted: Vec::new(),
            remaining: vec![SanctionStatus {
                sanction: status::Sanction::SuspendNetwork,
                until: None,
                from: None,
            }],
            hints: vec!["`limiter case reject` drops it".to_owned()],
            ..outcome.clone()
        };
        assert_eq!(
            text(&refused, &style),
            "alice: nothing was lifted\n  still in force: suspend_network without end\n  `limiter \
             case reject` drops it\n"
        );
        assert!(still_under(&outcome, None));
        assert!(!still_under(&outcome, Some(Sanction::BlockSmtp)));
    }
}
