//! `limiter contact`, `limiter acknowledge`, `limiter settle-clock`

use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{block_on, client},
    error::{CliError, FAILED},
    output::Output,
    suspend::reason,
};
use crate::{
    control::routes_court::{Said, SettleRequest, WordRequest},
    report::{case::HeardOutcome, case_text, status_text::Style},
};

/// Say so of a tenant. What its policies let that lift is lifted when this returns; what still holds
/// is shown.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Of whom
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// How and what, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// Say that the wall clock is right: what time the node was off is credited, and sanctions end
/// by it.
#[derive(Debug, Args)]
pub struct SettleArguments {
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

pub fn run(args: Arguments, word: Said, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = WordRequest {
        tenant: args.tenant,
        word,
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.word(&request).await?) })?;
    show(&outcome, global)
}

/// Shows what became of it. Without a policy that speaks of it, or with something that is not in
/// force as it should be, the command failed.
pub fn show(outcome: &HeardOutcome, global: &Global) -> Result<ExitCode, CliError> {
    let mut out = Output::new();
    if global.json {
        out.json(outcome)?;
    } else {
        out.text(&case_text::outcome(outcome, &here(false)))?;
    }
    out.flush()?;
    Ok(if outcome.no_policy || !outcome.owed.is_empty() {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// The clock of whoever looks.
pub fn here(all: bool) -> Style {
    Style {
        zone: TimeZone::system(),
        all,
    }
}

pub fn settle(args: SettleArguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = SettleRequest {
        reason: args.reason,
    };
    let done = block_on(async { Ok(agent.settle(&request).await?) })?;
    let mut out = Output::new();
    if global.json {
        out.json(&done)?;
    } else {
        out.text("the wall clock is taken to be right; sanctions end by it\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
