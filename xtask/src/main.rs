//! `cargo xtask`: everything that is done to limiter rather than by it.

mod apt;
mod bench;
mod build;
mod doctor;
mod guard;
mod lint;
mod programs;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use workspace::Profile;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Tool chain, build, tests and checks of limiter"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install the BPF tool chain
    Setup,
    /// Build the kernel object, and the agent that carries it
    Build {
        /// Optimise the agent (the kernel object always is)
        #[arg(long)]
        release: bool,
    },
    /// Run the tests: unit, then end to end (as root)
    Test {
        #[command(subcommand)]
        which: Option<Which>,
        #[command(flatten)]
        threads: Threads,
    },
    /// Build, and show the product at work (as root)
    Demo,
    /// Measure limiter beside nftables and iptables, as ratios (as root, on an idle machine)
    Bench {
        /// Fewer sizes and rounds: under three minutes once it is built, instead of under twenty
        #[arg(long)]
        quick: bool,
        /// Write the figures to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Draw a chart for each question, into this directory
        #[arg(long, value_name = "DIR")]
        charts: Option<PathBuf>,
        /// Only these parts: connect, hot, unrelated, messages, policies, watch, agent
        #[arg(long, value_name = "PART,PART")]
        only: Option<String>,
    },
    /// Compare sizes and relative run times of the kernel programs with the committed baseline (as root)
    Guard {
        /// Make what is measured the baseline, instead
        #[arg(long)]
        bless: bool,
        /// Use this baseline instead of xtask/src/guard/baseline.json
        #[arg(long, value_name = "FILE")]
        baseline: Option<PathBuf>,
        /// Take the figures that --json wrote, instead of measuring
        #[arg(long, value_name = "FILE")]
        figures: Option<PathBuf>,
        /// Write the figures to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Check formatting, lints and scripts
    Lint,
    /// Say what is here to build and test with, and what is missing
    Doctor,
}

#[derive(Subcommand)]
enum Which {
    /// The tests that need neither root nor the BPF tool chain
    Unit,
    /// The tests on the real kernel with real mail programs
    E2e {
        /// Only tests whose name contains this
        name: Option<String>,
    },
    /// The tests that show what other kernels do, in virtual machines (as root)
    Vm {
        /// Kernels by the beginning of their version, as 6.1, or `newest`; if none is named,
        /// Debian's from 5.10 to the newest
        versions: Vec<String>,
        /// Only tests whose program and name contain this, as `e2e matrix::`
        #[arg(long, default_value = "")]
        only: String,
        /// How many virtual machines run at once
        #[arg(long, default_value_t = 2)]
        machines: usize,
        /// How long each may run, seconds (four kernels, two at a time, within a quarter of an hour)
        #[arg(long, default_value_t = 450)]
        patience: u64,
    },
}

#[derive(Args)]
struct Threads {
    /// How many end-to-end tests run at once (each has namespaces of its own; many more than the
    /// machine has processors, and those that measure time fail)
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        // For the person who typed the command: no backtrace, whatever the environment says.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::setup().map(drop),
        Task::Build { release } => build::build(if release {
            Profile::Release
        } else {
            Profile::Dev
        })
        .map(drop),
        Task::Test {
            which,
            threads: Threads { threads },
        } => {
            let selection = |name| test::Selection { name, threads };
            match which {
                None => test::all(&selection(None)),
                Some(Which::Unit) => test::unit(),
                Some(Which::E2e { name }) => test::end_to_end(&selection(name)),
                Some(Which::Vm {
                    versions,
                    only,
                    machines,
                    patience,
                }) => vm::run(&vm::Selection {
                    versions,
                    only,
                    at_once: machines,
                    patience: Duration::from_secs(patience),
                }),
            }
        }
        Task::Demo => test::demo(),
        Task::Bench {
            quick,
            json,
            charts,
            only,
        } => bench::bench(bench::Plan {
            quick,
            json: json.as_deref(),
            charts: charts.as_deref(),
            only: only.as_deref(),
        }),
        Task::Guard {
            bless,
            baseline,
            figures,
            json,
        } => guard::guard(&guard::Plan {
            bless,
            baseline,
            figures,
            json,
        }),
        Task::Lint => lint::lint(),
        Task::Doctor => doctor::doctor(),
    }
}
