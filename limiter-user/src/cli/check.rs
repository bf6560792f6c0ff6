//! `limiter check`

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{
    Global,
    error::{CliError, WRONG},
    output::Output,
};
use crate::{
    policy::{
        self,
        compile::compile,
        describe,
        fault::{Fault, any_error},
        model::{Origin, Policy},
    },
    report::{
        faults::{FaultReport, tally},
        text::printable,
    },
    system::{Sources, System},
};

/// Check the configuration.
#[derive(Debug, Args)]
pub struct Arguments {}

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    loadable: bool,
    faults: Vec<FaultReport>,
    /// What would be loaded, for people; null if it cannot be.
    summary: Option<String>,
}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let mut loaded = policy::load(&global.config);
    if let Some(policy) = &loaded.policy
        && !any_error(&loaded.faults)
    {
        loaded.faults.extend(on_this_machine(policy));
    }
    let loadable = loaded.policy.is_some() && !any_error(&loaded.faults);
    let checked = Checked {
        loadable,
        faults: loaded.faults.iter().map(FaultReport::from).collect(),
        summary: loaded
            .policy
            .as_ref()
            .filter(|_| loadable)
            .map(describe::summary),
    };
    let mut out = Output::new();
    if global.json {
        out.json(&checked)?;
    } else {
        for fault in &checked.faults {
            out.line(fault.to_string().as_bytes())?;
        }
        let config = printable(&global.config.display().to_string());
        match &checked.summary {
            Some(summary) => {
                out.text(summary)?;
                if !summary.ends_with('\n') {
                    out.text("\n")?;
                }
            }
            None => {
                let found = tally(&checked.faults);
                out.text(&format!("{config} cannot be loaded: {found}\n"))?;
            }
        }
    }
    out.flush()?;
    Ok(if loadable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WRONG)
    })
}

/// What this machine adds to the faults of the files: users and cgroups that do not exist yet, and
/// claims that clash once names have become numbers.
fn on_this_machine(policy: &Policy) -> Vec<Fault> {
    let looked = Sources::find()
        .map_err(|error| error.to_string())
        .and_then(|sources| System::snapshot(policy, &sources).map_err(|error| error.to_string()));
    match looked {
        Ok(system) => compile(policy, &system).faults,
        Err(why) => vec![Fault::warning(
            &Origin {
                file: policy.places.config.clone(),
                line: 0,
                column: 0,
            },
            format!("the files alone are checked: {why}"),
            "check on the node itself, as root, to see what is missing there",
        )],
    }
}
