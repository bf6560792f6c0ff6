//! `cargo xtask bench`: limiter and its peers side by side.

use std::path::Path;

use anyhow::Result;

use crate::build;
use crate::programs;
use crate::run::{self, Run, progress};
use crate::setup;
use crate::test::needs_root;
use crate::workspace::{self, Profile};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Fewer sizes and rounds.
    pub quick: bool,
    /// Where figures go, beside the terminal.
    pub json: Option<&'a Path>,
    /// A directory for charts.
    pub charts: Option<&'a Path>,
    /// Parts of it by name, separated by commas; all of it if none is named.
    pub only: Option<&'a str>,
}

/// Linked as a whole it would be some hundredths faster, and take minutes to build.
const QUICKLY_BUILT: [(&str, &str); 2] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_BENCH_LTO", "off"),
];

/// Measures, optimised.
///
/// # Errors
/// When not root, or when something needed cannot be had.
pub fn bench(plan: Plan<'_>) -> Result<()> {
    needs_root("the bench loads programs into the kernel and makes network namespaces")?;
    let toolchain = setup::if_needed()?;
    programs::install()?;
    programs::install_peers()?;
    build::object(&toolchain)?;
    progress("building the agent, the bench and what it sends with");
    // Together, so that what both need is built once.
    let programs = ["-p", "limiter-user", "-p", "limiter-tests", "--bins"];
    let bench = ["-p", "limiter-tests", "--bench", "speed"];
    let compile = cargo("building the agent and the senders", "build");
    compile.arg("--release").args(programs).run()?;
    let compile = cargo("building the bench", "bench").args(bench);
    compile.arg("--no-run").run()?;
    progress("bench");
    let mut run = cargo("measuring", "bench").args(bench).shown().arg("--");
    // Where the senders are, too.
    run = run.env("LIMITER_BIN", workspace::agent(Profile::Release)?);
    if plan.quick {
        run = run.arg("--quick");
    }
    if let Some(parts) = plan.only {
        run = run.arg("--only").arg(parts);
    }
    for (name, path) in [("--json", plan.json), ("--charts", plan.charts)] {
        if let Some(path) = path {
            run = run.arg(name).arg(std::path::absolute(path)?);
        }
    }
    run.run()
}

/// A cargo that is quick to be done.
fn cargo(purpose: &str, command: &str) -> Run {
    let run = Run::new(run::cargo(), purpose);
    let run = run.dir(workspace::root()).args([command, "--quiet"]);
    QUICKLY_BUILT
        .iter()
        .fold(run, |run, (name, value)| run.env(name, value))
}
