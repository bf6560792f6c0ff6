//! `cargo xtask bench`: limiter and its peers side by side.

use std::path::Path;

use anyhow::Result;

use crate::build;
use crate::programs;
use crate::run::{self, Run, progress};
use crate::setup;
use crate::test::needs_root;
use crate::workspace;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Fewer sizes and rounds.
    pub quick: bool,
    /// Where figures go, beside the terminal.
    pub json: Option<&'a Path>,
}

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
    progress("bench");
    let mut run = Run::new(run::cargo(), "measuring")
        .dir(workspace::root())
        .args([
            "bench",
            "--quiet",
            "-p",
            "limiter-tests",
            "--bench",
            "speed",
            "--",
        ])
        .shown();
    if plan.quick {
        run = run.arg("--quick");
    }
    if let Some(path) = plan.json {
        run = run.arg("--json").arg(&std::path::absolute(path)?);
    }
    run.run()
}
