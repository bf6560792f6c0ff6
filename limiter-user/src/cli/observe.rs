//! `limiter observe`

use std::{process::ExitCode, time::Duration};

use clap::{ArgGroup, Args};
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{block_on, client},
    error::CliError,
    output::Output,
};
use crate::{
    control::routes::{LONGEST_OBSERVE, ObserveRequest},
    report::{
        duration::{Seconds, parse},
        status_text::{Style, moment},
        text::printable,
    },
};

/// Refuse nothing for a while; enforcement returns by itself, agent or no agent.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how_long").required(true)))]
pub struct Arguments {
    /// Only of this tenant [default: the whole node]
    #[arg(value_name = "TENANT")]
    tenant: Option<String>,
    /// For how long: 90s, 30m, 2h; 0 ends it now
    #[arg(long = "for", group = "how_long", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// End it now
    #[arg(long, group = "how_long")]
    end: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse(text).map_err(|error| error.to_string())?;
    if duration > LONGEST_OBSERVE {
        return Err("at most 31d; for longer set `mode: observe`".to_owned());
    }
    Ok(duration)
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = ObserveRequest {
        tenant: args.tenant,
        duration: args.duration.map(Seconds),
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.observe(&request).await?) })?;
    let mut out = Output::new();
    if global.json {
        out.json(&outcome)?;
    } else {
        let whom = outcome
            .tenant
            .as_deref()
            .map_or_else(|| "the whole node".to_owned(), printable);
        let style = Style {
            zone: TimeZone::system(),
            all: false,
        };
        let said = match outcome.until {
            Some(until) => {
                let until = moment(until, &style);
                format!("{whom}: nothing is refused until {until}; everything is counted\n")
            }
            None => format!("{whom}: the configured mode holds again\n"),
        };
        out.text(&said)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
