//! `cargo xtask setup`: makes the BPF tool chain complete, or says what is in the way.

use anyhow::{Result, bail};

use crate::run::{self, Run, say};
use crate::toolchain::plan::{Plan, Step, plan};
use crate::toolchain::{LINKER_VERSION, Toolchain, find};
use crate::{apt, workspace};

/// Installs what is missing; says beforehand what that is.
///
/// # Errors
/// When something is missing and cannot be installed from here.
pub fn setup() -> Result<Toolchain> {
    let mut refreshed = false;
    let mut installed = false;
    loop {
        match plan(&find::facts(refreshed)) {
            Plan::Ready(toolchain) => {
                let verdict = if installed {
                    "is ready"
                } else {
                    "is complete, nothing to do"
                };
                say(&format!(
                    "The BPF tool chain {verdict}: {}",
                    describe(&toolchain)
                ));
                return Ok(*toolchain);
            }
            Plan::Refresh => {
                say("Fetching apt's lists of packages: one that is needed is unknown.");
                apt::update()?;
                refreshed = true;
            }
            Plan::Install { missing, steps } if !installed => {
                announce(&missing, &steps);
                for step in &steps {
                    carry_out(step, refreshed)?;
                }
                installed = true;
            }
            Plan::Install { missing, .. } => {
                bail!("installed, and still missing: {}", missing.join("; "))
            }
            Plan::Impossible { missing, why } => {
                bail!("missing: {}; {why}", missing.join("; "))
            }
        }
    }
}

/// The tool chain, if it is complete.
///
/// # Errors
/// When it is not: what is missing, and the command that installs it.
pub fn ready() -> Result<Toolchain> {
    match plan(&find::facts(false)) {
        Plan::Ready(toolchain) => Ok(*toolchain),
        Plan::Install { missing, .. } | Plan::Impossible { missing, .. } => bail!(
            "the BPF tool chain is incomplete; missing: {}. Run `cargo xtask setup`.",
            missing.join("; ")
        ),
        Plan::Refresh => {
            bail!("the BPF tool chain is incomplete. Run `cargo xtask setup`.")
        }
    }
}

fn describe(toolchain: &Toolchain) -> String {
    let Toolchain { compiler, linker } = toolchain;
    format!(
        "{} ({}), {} ({})",
        compiler.version.text,
        compiler.rustc.display(),
        linker.text.as_deref().unwrap_or("bpf-linker"),
        linker.path.display()
    )
}

fn announce(missing: &[String], steps: &[Step]) {
    for what in missing {
        say(&format!("Missing: {what}."));
    }
    for step in steps {
        say(&match step {
            Step::Packages(names) => format!("Will install with apt: {}.", names.join(" ")),
            Step::Linker { llvm, replace } => format!(
                "Will build bpf-linker {LINKER_VERSION} on LLVM {llvm}{} (some minutes).",
                if *replace {
                    ", in place of the one that does not fit"
                } else {
                    ""
                }
            ),
        });
    }
}

fn carry_out(step: &Step, refreshed: bool) -> Result<()> {
    match step {
        Step::Packages(names) => apt::install(names, refreshed),
        Step::Linker { llvm, replace } => {
            run::progress("building bpf-linker");
            let mut build = Run::new(run::cargo(), "building bpf-linker")
                .args([
                    "install",
                    "bpf-linker",
                    "--version",
                    LINKER_VERSION,
                    "--locked",
                ])
                .args([
                    "--no-default-features",
                    "--features",
                    &format!("llvm-{llvm}"),
                ])
                .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
                // Not in the workspace: its settings are for the agent.
                .dir(std::env::temp_dir())
                .env_remove("CARGO_TARGET_DIR")
                .hint("cargo must reach its registry. `cargo xtask doctor` shows what is there.");
            if *replace {
                build = build.arg("--force");
            }
            build.run()
        }
    }
}

/// Runs setup unless the tool chain is complete, saying so.
///
/// # Errors
/// As [`setup`].
pub fn if_needed() -> Result<Toolchain> {
    if let Ok(toolchain) = ready() {
        return Ok(toolchain);
    }
    say(&format!(
        "{} needs the BPF tool chain first.",
        workspace::root().display()
    ));
    setup()
}
