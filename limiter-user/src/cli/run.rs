//! `limiter run`

use std::process::ExitCode;

use clap::Args;

use super::{Global, error::CliError};
use crate::agent::{self, RunOptions};

/// Run the agent in the foreground.
#[derive(Debug, Args)]
pub struct Arguments {}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let options = RunOptions {
        config: global.config.clone(),
        control: global.control.clone(),
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io {
            doing: "start the agent's threads",
            source,
        })?
        .block_on(agent::run(options))?;
    Ok(ExitCode::SUCCESS)
}
