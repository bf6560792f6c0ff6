//! `limiter detach`

use std::{os::unix::net::UnixStream, process::ExitCode};

use clap::Args;
use jiff::Timestamp;

use super::{
    Global,
    error::CliError,
    output::Output,
    places::{control, places},
};
use crate::{
    control::{
        audit::{Audit, AuditRecord},
        peer::{Peer, pid_of},
    },
    kernel,
};

/// Take everything out of the kernel.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let places = places(global)?;
    refuse_if_agent_runs(global)?;
    let outcome = kernel::detach(&places);
    // Nothing done is nothing to record, and no reason to make a state directory.
    if outcome
        .as_ref()
        .is_ok_and(|detached| detached.removed.is_empty())
    {
        return say(&outcome?, global);
    }
    Audit::new(&places.state_dir).record(&AuditRecord {
        time: Timestamp::now(),
        by: Peer::own(),
        action: "detach".to_owned(),
        arguments: serde_json::json!({ "pin_dir": places.pin_dir }),
        reason: args.reason,
        done: outcome.is_ok(),
        outcome: match &outcome {
            Ok(detached) => detached.to_string(),
            Err(error) => error.to_string(),
        },
    });
    say(&outcome?, global)
}

fn say(detached: &kernel::Detached, global: &Global) -> Result<ExitCode, CliError> {
    let mut out = Output::new();
    if global.json {
        out.json(detached)?;
    } else {
        out.line(detached.to_string().trim_end().as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A living agent holds its programs itself and puts back what is missing.
fn refuse_if_agent_runs(global: &Global) -> Result<(), CliError> {
    match UnixStream::connect(control(global)) {
        Ok(stream) => Err(CliError::AgentRuns {
            pid: pid_of(&stream).map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
        }),
        Err(_) => Ok(()),
    }
}
