//! `limiter doctor`

use std::process::ExitCode;

use clap::Args;

use super::{
    Global,
    error::{CliError, FAILED},
    output::Output,
    places::places,
};
use crate::{
    kernel::doctor::examine,
    policy::{self, compile::compile_what_holds, image::Image},
    system::{Sources, System},
};

/// What the kernel offers and what is missing.
#[derive(Debug, Args)]
pub struct Arguments {}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let image = image(global);
    let report = examine(&places(global)?, image.as_ref(), &[]);
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

/// The policy, compiled for this machine as far as it holds. Doctor works without one: what is
/// wrong with it is for `limiter check` to say.
fn image(global: &Global) -> Option<Image> {
    let policy = policy::load(&global.config).policy?;
    let sources = Sources::find().ok()?;
    let system = System::snapshot(&policy, &sources).ok()?;
    Some(compile_what_holds(&policy, &system).0)
}
