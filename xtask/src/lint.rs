//! `cargo xtask lint`: everything that can be said about the sources without running them.

use std::fs;

use anyhow::{Result, bail};

use crate::build;
use crate::run::{self, Run, ask, progress, say};
use crate::setup;
use crate::toolchain::Toolchain;
use crate::toolchain::find::on_path;
use crate::workspace;

/// From this many lines on a file is worth splitting.
const LONG_FILE: usize = 500;

/// One kind of check.
type Check = fn() -> Result<()>;

/// Runs every check, also after one fails.
///
/// # Errors
/// When any check fails; each says its own piece on the way.
pub fn lint() -> Result<()> {
    let checks: [(&str, Check); 4] = [
        ("formatting", formatting),
        ("shell scripts", scripts),
        ("the workspace's lints", workspace_lints),
        ("the kernel crate's lints", kernel_lints),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        progress(&format!("checking {name}"));
        if let Err(error) = check() {
            say(&format!("{error:#}"));
            failed.push(name);
        }
    }
    hint_at_long_files();
    if failed.is_empty() {
        say("lint: clean");
        Ok(())
    } else {
        bail!("lint: {} not clean", failed.join(", "))
    }
}

fn formatting() -> Result<()> {
    Run::new(run::cargo(), "checking the formatting")
        .dir(workspace::root())
        .args(["fmt", "--all", "--check"])
        .hint("`cargo fmt --all` formats.")
        .run()
}

fn scripts() -> Result<()> {
    let script = workspace::root().join(".ci/run");
    Run::new("bash", "checking a script")
        .arg("-n")
        .arg(&script)
        .run()?;
    if on_path("shellcheck").is_some() {
        Run::new("shellcheck", "checking a script")
            .arg(&script)
            .run()?;
    }
    Ok(())
}

fn workspace_lints() -> Result<()> {
    Run::new(run::cargo(), "linting the workspace")
        .dir(workspace::root())
        .args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .run()
}

/// The kernel crate is nearly empty on the host, so its own target is linted as well: by clippy
/// where the kernel's compiler has one, else by the compiler alone.
fn kernel_lints() -> Result<()> {
    let toolchain = match setup::ready() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            say(&format!(
                "The kernel crate was checked as the host's stub only: {missing}"
            ));
            return Ok(());
        }
    };
    let purpose = "linting the kernel crate for BPF";
    let run = match clippy(&toolchain) {
        Some(clippy) => build::kernel_cargo(&toolchain, &clippy, "clippy", purpose)
            .env("CARGO", &toolchain.compiler.cargo)
            .args(["--", "-D", "warnings"]),
        None => {
            say(&format!(
                "The kernel crate is checked without clippy: there is none beside {}.",
                toolchain.compiler.rustc.display()
            ));
            let cargo = &toolchain.compiler.cargo;
            build::kernel_cargo(&toolchain, cargo, "rustc", purpose).args([
                "--",
                "-C",
                "link-arg=--btf",
                "-D",
                "warnings",
            ])
        }
    };
    run.run()
}

/// The clippy that belongs to the kernel's compiler.
fn clippy(toolchain: &Toolchain) -> Option<std::path::PathBuf> {
    let rustc = &toolchain.compiler.rustc;
    let complete = rustc.with_file_name("clippy-driver").is_file();
    let clippy = rustc.with_file_name("cargo-clippy");
    (complete && clippy.is_file()).then_some(clippy)
}

/// A long file is a sign, not a fault.
fn hint_at_long_files() {
    let root = workspace::root();
    let listed = ask("git", &["-C", &root.to_string_lossy(), "ls-files", "*.rs"]);
    for name in listed.unwrap_or_default().lines() {
        let lines = fs::read_to_string(root.join(name)).map_or(0, |text| text.lines().count());
        if lines > LONG_FILE {
            say(&format!(
                "hint: {name} has {lines} lines; does it do one thing?"
            ));
        }
    }
}
