//! `cargo xtask`: everything that is done to limiter rather than by it.

mod apt;
mod build;
mod run;
mod setup;
mod toolchain;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Profile;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Tool chain, build, tests and checks of limiter"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install the BPF tool chain
    Setup,
    /// Build the kernel object and the agent that carries it
    Build {
        /// Optimise the agent (the kernel object always is)
        #[arg(long)]
        release: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Task::Setup => setup::setup().map(drop),
        Task::Build { release } => build::build(if release {
            Profile::Release
        } else {
            Profile::Dev
        })
        .map(drop),
    }
}
