//! Telling a program: the hook into the hosting panel.
//!
//! It gets no arguments and no input, only variables; it runs without a shell, as a user of its own,
//! without the agent's files, privileges or time. What it prints is kept, a little of it, for the case
//! that it fails. Exit code 0 means done; anything else is tried again, so it must not mind doing a thing
//! twice.

pub(super) mod child;
mod environment;
mod program;

use super::{backoff::Failure, facts::Facts};
use crate::policy::notices::ExecSettings;
use child::Job;

pub(super) use program::{check, user};

/// Runs the program of `settings` for the notice `facts`. What it printed is returned.
///
/// # Errors
/// When the program is not safe to run, cannot be run, takes too long, or fails.
pub(super) async fn run(settings: &ExecSettings, facts: &Facts) -> Result<String, Failure> {
    let settings = settings.clone();
    let environment = environment::of(facts);
    let prepared = tokio::task::spawn_blocking(move || prepare(&settings, environment));
    let job = prepared
        .await
        .map_err(|error| Failure::again(format!("cannot prepare the program: {error}")))??;
    child::run_async(job).await
}

fn prepare(
    settings: &ExecSettings,
    environment: Vec<(&'static str, String)>,
) -> Result<Job, Failure> {
    let user = user(&settings.user).map_err(Failure::again)?;
    check(&settings.path, user.0).map_err(Failure::again)?;
    Ok(Job {
        program: settings.path.clone(),
        arguments: Vec::new(),
        environment,
        input: Vec::new(),
        user: Some(user),
        timeout: settings.timeout,
    })
}

#[cfg(test)]
mod tests;
