//! `limiter suspend`

use std::{process::ExitCode, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{block_on, client},
    error::CliError,
    output::Output,
};
use crate::{
    control::routes::SanctionRequest,
    kernel::{LONGEST_SANCTION, SHORTEST_SANCTION},
    offence::Sanction,
    report::{
        duration::{Seconds, parse},
        outcome::{CutOutcome, SanctionOutcome},
        status_text::{Style, moment},
        text::printable,
    },
};

/// Put a tenant and everybody below it under a sanction, at once; it ends on time, agent or no
/// agent, and holds in observe mode too.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Whom
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// What it suffers; each includes those before it
    #[arg(long, value_parser = PossibleValuesParser::new(all()), default_value = DEFAULT)]
    sanction: String,
    /// For how long: 30m, 24h, 30d [default: until `limiter reinstate`]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Why, for the record: the customer is not shown it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// What `suspend` means unless told otherwise.
const DEFAULT: &str = Sanction::SuspendNetwork.as_str();

/// The names of all sanctions, weakest first.
pub fn all() -> impl Iterator<Item = &'static str> {
    let words = Sanction::WORDS.iter();
    words
        .filter(|(_, sanction)| sanction.in_kernel().is_some())
        .map(|(word, _)| *word)
}

/// The sanction with this name.
pub fn find(name: &str) -> Option<Sanction> {
    let mut words = Sanction::WORDS.iter();
    words
        .find(|(word, _)| *word == name)
        .map(|(_, sanction)| *sanction)
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse(text).map_err(|error| error.to_string())?;
    if (SHORTEST_SANCTION..=LONGEST_SANCTION).contains(&duration) {
        return Ok(duration);
    }
    let most = Seconds(LONGEST_SANCTION);
    Err(format!(
        "from 1s to {most}; for a sanction without end leave out --for"
    ))
}

/// A reason that says something.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: whoever the customer calls will want to know".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = SanctionRequest {
        tenant: args.tenant,
        // One of `all`, as clap has checked.
        sanction: find(&args.sanction).unwrap_or(Sanction::SuspendNetwork),
        duration: args.duration.map(Seconds),
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.sanction(&request).await?) })?;
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
    Ok(ExitCode::SUCCESS)
}

fn text(outcome: &SanctionOutcome, style: &Style) -> String {
    let (tenant, sanction) = (printable(&outcome.tenant), outcome.sanction.as_str());
    let until = outcome.until.map_or_else(
        || "without end".to_owned(),
        |until| format!("until {}", moment(until, style)),
    );
    let mut said = format!("{tenant}: {sanction} {until}");
    match outcome.tenants.saturating_sub(1) {
        0 => {}
        1 => said.push_str(", and one tenant below it"),
        below => said.push_str(&format!(", and {below} tenants below it")),
    }
    if outcome.replaced {
        said.push_str("; it takes the place of the same sanction from before");
    }
    said.push('\n');
    if let Some(opened) = outcome.opened_until {
        let opened = moment(opened, style);
        said.push_str(&format!(
            "!! not carried out yet: opened until {opened} (limiter observe --end, for the node \
             or the tenant)\n"
        ));
    }
    if let Some(why) = &outcome.unrecorded {
        said.push_str(&format!("!! {}\n", printable(why)));
    }
    if let Some(cut) = &outcome.cut {
        said.push_str(&cut_text(cut));
    }
    said
}

fn cut_text(cut: &CutOutcome) -> String {
    let mut said = match cut.sessions {
        1 => "one live session of a socket on this kernel was cut".to_owned(),
        sessions => format!("{sessions} live sessions of sockets on this kernel were cut"),
    };
    if cut.left > 0 {
        said.push_str(&format!(
            ", {} are left: what they send is dropped",
            cut.left
        ));
    }
    said.push_str("; a guest's own are reset at their next packet\n");
    for failure in &cut.failures {
        said.push_str(&format!(" - {}\n", printable(failure)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let style = Style {
            zone: TimeZone::UTC,
            all: false,
        };
        let mut outcome = SanctionOutcome {
            tenant: "alice".to_owned(),
            sanction: Sanction::SuspendNetwork,
            until: None,
            replaced: false,
            tenants: 1,
            opened_until: None,
            cut: None,
            unrecorded: None,
        };
        assert_eq!(
            text(&outcome, &style),
            "alice: suspend_network without end\n"
        );
        outcome.tenants = 3;
        outcome.cut = Some(CutOutcome {
            sessions: 1,
            left: 2,
            failures: vec!["no \x1b".to_owned()],
        });
        assert_eq!(
            text(&outcome, &style),
            "alice: suspend_network without end, and 2 tenants below it\n\
             one live session of a socket on this kernel was cut, 2 are left: what they send is \
             dropped; a guest's own are reset at their next packet\n - no \\u{1b}\n"
        );
    }

    #[test]
    fn absurd_durations_and_empty_reasons() {
        assert!(duration("0").is_err() && duration("4000d").is_err());
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert!(reason("  ").is_err());
    }
}
