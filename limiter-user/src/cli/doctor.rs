//! `limiter doctor`

use std::process::ExitCode;

use clap::Args;

use super::{
    Global,
    error::{CliError, FAILED},
    output::Output,
    places::places,
};
use crate::kernel::doctor::examine;

/// What the kernel offers and what is missing.
#[derive(Debug, Args)]
pub struct Arguments {}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let report = examine(&places(global)?);
    let mut out = Output::new();
    if global.json {
        out.json(&report)?;
    } else {
        out.line(report.to_string().trim_end().as_bytes())?;
    }
    out.flush()?;
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}
