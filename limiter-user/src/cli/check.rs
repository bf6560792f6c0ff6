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
    inspect::record::{Shelf, stranded},
    notice,
    offence::Book,
    policy::{
        self,
        compile::compile,
        describe,
        fault::{Fault, any_error},
        image::{Holder, Image},
        model::{Origin, Policy},
    },
    report::{
        faults::{FaultReport, tally},
        text::printable,
    },
    system::{Sources, System, clock::MachineClock},
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
    /// Who is exempt here as the MTA; null if this machine could not be looked at.
    exempt: Option<Vec<String>>,
}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let mut loaded = policy::load(&global.config);
    let mut exempt = None;
    if let Some(policy) = &loaded.policy
        && !any_error(&loaded.faults)
    {
        let (faults, mta) = on_this_machine(policy);
        loaded.faults.extend(faults);
        loaded.faults.extend(notice::check(&policy.node.notices));
        exempt = mta;
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
        exempt,
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
                if let Some(exempt) = &checked.exempt {
                    let exempt = match exempt.as_slice() {
                        [] => "nobody: no MTA user was found".to_owned(),
                        users => users.join(", "),
                    };
                    out.text(&format!(
                        "exempt on this machine as the MTA: {}\n",
                        printable(&exempt)
                    ))?;
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
/// claims that clash once names have become numbers. And who is exempt here as the MTA.
fn on_this_machine(policy: &Policy) -> (Vec<Fault>, Option<Vec<String>>) {
    let origin = Origin {
        file: policy.places.config.as_path().into(),
        line: 0,
        column: 0,
    };
    let looked = Sources::find()
        .map_err(|error| error.to_string())
        .and_then(|sources| {
            let system = System::snapshot(policy, &sources).map_err(|error| error.to_string())?;
            Ok((system, sources.cgroup_mount))
        });
    let (system, mount) = match looked {
        Ok(looked) => looked,
        Err(why) => {
            let fault = Fault::warning(
                &origin,
                format!("the files alone are checked: {why}"),
                "check on the node itself, as root, to see what is missing there",
            );
            return (vec![fault], None);
        }
    };
    let compiled = compile(policy, &system);
    let mut faults = compiled.faults;
    if let Some(image) = &compiled.image {
        faults.extend(stranded(policy, image));
    }
    let exempt = compiled.image.map(|image| {
        let mta = image
            .uids
            .iter()
            .filter(|binding| binding.holder == Holder::Mta);
        mta.map(|binding| format!("uid {} ({})", binding.range.first, binding.by))
            .collect()
    });
    let cgroup = policy.places.attach_point(&mount);
    if !cgroup.is_dir() {
        faults.push(Fault::warning(
            &origin,
            format!("attach.cgroup: there is no cgroup {}", cgroup.display()),
            "the agent does not start without it; \"/\" is the whole node",
        ));
    }
    (faults, exempt)
}

/// Who has something open in the record book, and is no tenant of these files. Where there is no
/// record book, nothing was ever recorded.
fn stranded(policy: &Policy, image: &Image) -> Vec<Fault> {
    let config = &policy.places.config;
    let reading = MachineClock::new(None).reading();
    let records = Shelf::alone(&policy.places.state_dir, Book::default(), &reading)
        .and_then(|shelf| shelf.map(|shelf| shelf.records()).transpose());
    match records {
        Ok(records) => {
            let stranded = stranded::stranded(&records.unwrap_or_default(), image.names());
            stranded::warnings(&stranded, config)
        }
        Err(error) => {
            let origin = Origin {
                file: config.as_path().into(),
                line: 0,
                column: 0,
            };
            vec![Fault::warning(
                &origin,
                format!("it is not known whether anybody under a sanction is missing: {error}"),
                "check as root; `limiter status` says what is wrong with the record book",
            )]
        }
    }
}
