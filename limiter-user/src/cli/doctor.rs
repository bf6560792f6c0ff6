//! `limiter doctor`

use std::process::ExitCode;

use clap::Args;

use super::{
    Global,
    error::{CliError, FAILED},
    output::Output,
    places::places,
};
use limiter_common::verdict::Layer;

use crate::{
    inspect::coverage,
    kernel::{
        LayerState,
        attach::pinned_layers,
        doctor::{Interfaces, examine},
        pins::Pins,
    },
    policy::{
        self,
        compile::compile_what_holds,
        image::Image,
        model::{Places, Policy},
    },
    system::{Sources, System, interfaces::Wanted},
};

/// What the kernel offers and what is missing.
#[derive(Debug, Args)]
pub struct Arguments {}

pub fn run(_args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let places = places(global)?;
    let policy = policy::load(&global.config).policy;
    let image = policy.as_ref().and_then(image);
    let wanted = match &policy {
        Some(policy) => Wanted::of(policy),
        // Without a policy nobody knows whose they are; where they are is known.
        None => Wanted {
            config: places.config.clone(),
            uplinks: places.uplinks.clone(),
            guests: places.guests.clone(),
            tenants: Vec::new(),
        },
    };
    let report = examine(&places, image.as_ref(), &interfaces(&wanted, &places));
    let mut out = Output::new();
    if global.json {
        out.json(&report)?;
    } else {
        out.line(report.to_string().trim_end().as_bytes())?;
    }
    out.flush()?;
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// The policy, compiled for this machine as far as it holds. Doctor works without one: what is
/// wrong with it is for `limiter check` to say.
fn image(policy: &Policy) -> Option<Image> {
    let sources = Sources::find().ok()?;
    let system = System::snapshot(policy, &sources).ok()?;
    Some(compile_what_holds(policy, &system).0)
}

/// Which interfaces have their programs, and which should have one. Where limiter is not in force
/// none has, which is said elsewhere.
fn interfaces(wanted: &Wanted, places: &Places) -> Interfaces {
    let coverage = match coverage::expected(wanted) {
        Ok(coverage) => coverage,
        Err(error) => {
            return Interfaces {
                odd: vec![(
                    format!("the interfaces cannot be listed: {error}"),
                    "run doctor as root".to_owned(),
                )],
                ..Interfaces::default()
            };
        }
    };
    let pins = Pins::new(&places.pin_dir);
    let mut layers = pinned_layers(&pins);
    layers.retain(|state| matches!(state.layer, Layer::Guest | Layer::Uplink));
    layers.extend(coverage::missing(&coverage, &layers));
    let (covered, bare): (Vec<_>, Vec<_>) = layers.into_iter().partition(|state| state.attached);
    let problem = |state: LayerState| {
        let lost = "its program is pinned, and attached no more".to_owned();
        (state.target, state.problem.unwrap_or(lost))
    };
    Interfaces {
        covered: covered.len(),
        uncovered: if pins.exist() {
            bare.into_iter().map(problem).collect()
        } else {
            Vec::new()
        },
        odd: coverage
            .missing
            .into_iter()
            .map(|problem| {
                (
                    problem,
                    "Nothing that leaves by it is seen by the uplink layer.".into(),
                )
            })
            .chain(
                coverage
                    .warnings
                    .into_iter()
                    .map(|warning| (warning.problem, warning.advice)),
            )
            .collect(),
    }
}
