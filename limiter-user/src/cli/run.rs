//! `limiter run`

use std::process::ExitCode;

use clap::Args;

use super::{Global, error::CliError};
use crate::{
    agent::{self, RunOptions},
    system::clock::{SimulatedBoot, Simulation},
};

/// Run the agent in the foreground.
#[derive(Debug, Args)]
pub struct Arguments {
    /// For tests: all clocks are so many seconds ahead, and can be put forward
    #[arg(long, hide = true, value_name = "SECONDS")]
    simulated_clock: Option<u64>,
    /// For tests: another boot, which began at that second of the boot clock
    #[arg(
        long,
        hide = true,
        value_name = "ID[@SECONDS]",
        requires = "simulated_clock"
    )]
    simulated_boot: Option<SimulatedBoot>,
    /// For tests: how far the wall clock alone is wrong
    #[arg(
        long,
        hide = true,
        value_name = "SECONDS",
        requires = "simulated_clock",
        allow_negative_numbers = true,
        default_value_t = 0
    )]
    simulated_wall: i64,
    /// For tests: whether the wall clock is known to be right
    #[arg(long, hide = true, value_name = "BOOL", requires = "simulated_clock")]
    simulated_trust: Option<bool>,
}

impl Arguments {
    fn simulation(self) -> Option<Simulation> {
        let Self {
            simulated_clock,
            simulated_boot,
            simulated_wall,
            simulated_trust,
        } = self;
        simulated_clock.map(|offset_s| Simulation {
            offset_s,
            boot: simulated_boot,
            wall_s: simulated_wall,
            trusted: simulated_trust,
        })
    }
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let options = RunOptions {
        simulation: args.simulation(),
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
