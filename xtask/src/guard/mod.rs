//! `cargo xtask guard`: whether the kernel programs grew or slowed down since somebody last said that
//! they may. The kernel tests measure (`tests/tests/kernel/guard`); this compares.
//!
//! - [`figures`]: what was measured.
//! - [`baseline`]: what it may be, `baseline.json` beside this file.
//! - [`compare`]: one against the other; [`report`] says it.

mod baseline;
mod compare;
mod figures;
mod report;

use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::programs;
use crate::run::{self, Run, progress, say};
use crate::setup;
use crate::test::needs_root;
use crate::toolchain::Toolchain;
use crate::workspace;

use baseline::Baseline;
use figures::Figures;

/// How often is measured at most: a busy machine makes programs slower, never faster.
const TRIES: usize = 3;

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Make what is measured the baseline, instead of comparing with it.
    pub bless: bool,
    /// Another baseline than the committed one.
    pub baseline: Option<PathBuf>,
    /// Figures of before, instead of measuring.
    pub figures: Option<PathBuf>,
    /// Where figures go, beside.
    pub json: Option<PathBuf>,
}

/// Measures, and compares with the baseline or makes a new one.
///
/// # Errors
/// When something is beyond its margin or not known; when not root, or something needed cannot be had.
pub fn guard(plan: &Plan) -> Result<()> {
    let file = plan.baseline.clone().unwrap_or_else(committed);
    let known = Baseline::read(&file)?;
    if plan.bless {
        let found = match &plan.figures {
            Some(figures) => Figures::read(figures)?,
            None => best()?,
        };
        keep(plan, &found)?;
        let new = known.unwrap_or_default().blessed(found);
        new.write(&file)?;
        say(&format!(
            "guard: {} is what is compared with now",
            file.display()
        ));
        return Ok(());
    }
    let Some(known) = known else {
        bail!(
            "there is no baseline at {}: `cargo xtask guard --bless` makes one",
            file.display()
        );
    };
    let found = match &plan.figures {
        Some(figures) => Figures::read(figures)?,
        None => until_quiet(&known)?,
    };
    keep(plan, &found)?;
    let comparison = compare::compare(&known, &found);
    println!("{}", report::Report::new(&known, &found, &comparison));
    if comparison.is_fine() {
        return Ok(());
    }
    bail!(
        "guard: {} of {} figures are not what {} allows",
        comparison.faults().count(),
        comparison.rows.len(),
        file.display()
    )
}

/// Measures again while nothing but run times is at fault, and takes the best of each.
fn until_quiet(known: &Baseline) -> Result<Figures> {
    let stand = Stand::build()?;
    let mut found = stand.measure()?;
    for _ in 1..TRIES {
        if !compare::compare(known, &found).may_be_noise() {
            break;
        }
        say("guard: some programs ran slowly; measuring again, in case that it was the machine");
        found.take_best_of(stand.measure()?);
    }
    Ok(found)
}

/// Measures as often as a comparison may: the best of each.
fn best() -> Result<Figures> {
    let stand = Stand::build()?;
    let mut found = stand.measure()?;
    for _ in 1..TRIES {
        found.take_best_of(stand.measure()?);
    }
    Ok(found)
}

fn keep(plan: &Plan, figures: &Figures) -> Result<()> {
    plan.json
        .as_ref()
        .map_or(Ok(()), |file| figures.write(file))
}

/// The baseline of this checkout.
fn committed() -> PathBuf {
    workspace::root().join("xtask/src/guard/baseline.json")
}

/// The tests that measure, ready to run.
struct Stand {
    toolchain: Toolchain,
}

impl Stand {
    fn build() -> Result<Self> {
        needs_root("the guard loads programs into the kernel and makes network namespaces")?;
        let toolchain = setup::if_needed()?;
        programs::install()?;
        build::object(&toolchain)?;
        progress("building what measures");
        Self::tests().arg("--no-run").run()?;
        Ok(Self { toolchain })
    }

    fn measure(&self) -> Result<Figures> {
        progress("measuring");
        let name = format!("guard-{}.json", process::id());
        let file = workspace::bpf_target().join(name);
        let measured = Self::tests()
            .env("LIMITER_GUARD_FIGURES", &file)
            .args(["--", "--exact", "guard::every_program_is_measured"])
            .run()
            .and_then(|()| Figures::read(&file));
        let _ = std::fs::remove_file(&file);
        let mut figures = measured?;
        figures.compiler = self.toolchain.compiler.version.text.clone();
        Ok(figures)
    }

    fn tests() -> Run {
        Run::new(run::cargo(), "measuring the kernel programs")
            .dir(workspace::root())
            .args(["test", "--quiet", "-p", "limiter-tests", "--test", "kernel"])
    }
}

/// Reads a file of JSON.
fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not as written", file.display()))
}

/// Writes a file of JSON, whole or not at all.
fn write_json<T: serde::Serialize>(file: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let new = file.with_extension("new");
    std::fs::write(&new, text + "\n")
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
