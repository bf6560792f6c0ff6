//! `limiter reload`

use std::process::ExitCode;

use clap::Args;

use super::{
    Global,
    ask::{block_on, client},
    error::{CliError, WRONG},
    output::Output,
};
use crate::{
    control::routes::ReloadRequest,
    report::{faults::tally, text::printable},
};

/// Have the agent read the configuration again.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = ReloadRequest {
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.reload(&request).await?) })?;
    let mut out = Output::new();
    if global.json {
        out.json(&outcome)?;
    } else {
        for fault in &outcome.faults {
            out.line(fault.to_string().as_bytes())?;
        }
        let said = if outcome.loaded {
            format!("loaded: {}\n", printable(&outcome.summary))
        } else {
            let found = tally(&outcome.faults);
            format!("NOT loaded ({found}): the policy before stays in force\n")
        };
        out.text(&said)?;
    }
    out.flush()?;
    Ok(if outcome.loaded {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WRONG)
    })
}
