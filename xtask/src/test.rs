//! `cargo xtask test` and `cargo xtask demo`: the product under test, from arithmetic to mail.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::programs;
use crate::run::{self, Run, progress};
use crate::setup;
use crate::toolchain::find::is_root;
use crate::workspace::{self, Profile};

/// One profile for the unit tests, the agent under test and the test programs: they share every
/// dependency, and the part whose speed matters, the kernel object, is optimised in any case.
const PROFILE: Profile = Profile::Dev;

/// Which end-to-end tests to run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only tests whose name contains this.
    pub name: Option<String>,
    /// How many at once.
    pub threads: usize,
}

/// The tests that need the kernel programs.
const KERNEL_TESTS: [&str; 6] = ["-p", "limiter-tests", "--test", "kernel", "--test", "e2e"];

/// The tests that need neither root nor the BPF tool chain.
///
/// # Errors
/// When one fails or does not compile.
pub fn unit() -> Result<()> {
    progress("unit tests");
    test(
        &["-p", "limiter-common", "-p", "limiter-user", "-p", "xtask"],
        "running the unit tests",
    )
    .into_iter()
    .try_for_each(Run::run)
}

/// The tests on the real kernel, with real mail programs.
///
/// # Errors
/// When not root, when something needed cannot be had, or when a test fails.
pub fn end_to_end(selection: &Selection) -> Result<()> {
    needs_root("the end-to-end tests load programs into the kernel and make network namespaces")?;
    let agent = prepare()?;
    progress("end-to-end tests");
    let threads = format!("--test-threads={}", selection.threads);
    let mut which = KERNEL_TESTS.to_vec();
    which.extend(["--test", "mta"]);
    let [compile, run] = test(&which, "running the end-to-end tests");
    compile.run()?;
    equipped(run.arg("--").arg(&threads).args(&selection.name), &agent).run()
}

/// Everything, fastest first.
///
/// # Errors
/// As [`unit`] and [`end_to_end`].
pub fn all(selection: &Selection) -> Result<()> {
    needs_root("`cargo xtask test` ends with tests on the real kernel")?;
    unit()?;
    end_to_end(selection)
}

/// Shows the product at work.
///
/// # Errors
/// When not root, when something needed cannot be had, or when the demo fails.
pub fn demo() -> Result<()> {
    needs_root("the demo loads programs into the kernel and makes network namespaces")?;
    let agent = prepare()?;
    progress("demo");
    // The programs that its customers run are beside it.
    Run::new(run::cargo(), "building the demo")
        .dir(workspace::root())
        .args(["build", "--quiet", "-p", "limiter-tests", "--bins"])
        .shown()
        .run()?;
    let run = Run::new(run::cargo(), "running the demo")
        .dir(workspace::root())
        .args(["run", "--quiet", "-p", "limiter-tests", "--bin", "demo"])
        .shown();
    equipped(run, &agent).run()
}

/// Builds the agent and the end-to-end tests without running them: the agent, and the test programs
/// by name.
///
/// # Errors
/// When something needed cannot be had or does not compile.
pub fn built() -> Result<(PathBuf, Vec<(String, PathBuf)>)> {
    setup::if_needed()?;
    let agent = build::build(PROFILE)?;
    progress("building the end-to-end tests");
    let which = KERNEL_TESTS;
    let [compile, _] = test(&which, "building the end-to-end tests");
    compile.run()?;
    let manifest = workspace::root().join("Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let mut args = vec!["test", "--no-run", "--message-format=json"];
    args.extend(["--manifest-path", &manifest]);
    args.extend(which);
    let said = run::ask(run::cargo(), &args).context("cargo does not say what it built")?;
    Ok((agent, programs_in(&said)))
}

/// The test programs that cargo names in its messages.
fn programs_in(messages: &str) -> Vec<(String, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?;
            let path = message["executable"].as_str()?;
            Some((name.to_owned(), path.into()))
        })
        .collect()
}

/// Refuses anybody but root, who needs it because of this.
///
/// # Errors
/// When the caller is not root.
pub fn needs_root(because: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("{because}: run this as root, or `cargo xtask test unit` as anybody")
}

/// Tool chain, mail programs, agent; the agent's path.
fn prepare() -> Result<PathBuf> {
    setup::if_needed()?;
    programs::install()?;
    build::build(PROFILE)
}

/// Compiles quietly first, so that a pipe sees the results of the tests and little else.
fn test(args: &[&str], purpose: &str) -> [Run; 2] {
    let cargo = || {
        Run::new(run::cargo(), purpose)
            .dir(workspace::root())
            .arg("test")
            .args(args)
    };
    [cargo().arg("--no-run"), cargo().shown()]
}

/// Tells the tests where the agent and the unpacked programs are.
fn equipped(run: Run, agent: &Path) -> Run {
    let path = env::var_os("PATH").unwrap_or_default();
    let with_sbin = env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .collect::<Vec<PathBuf>>();
    run.env("LIMITER_BIN", agent)
        .env("LIMITER_TEST_PROGRAMS", workspace::test_programs())
        .env("PATH", env::join_paths(with_sbin).unwrap_or(path))
}
