//! Which policy to start with: the one in the files, or the last good one if they are bad.

use std::path::Path;

use log::{error, warn};

use super::AgentError;
use crate::policy::{
    self,
    compile::{Compiled, compile},
    fault::{Fault, Severity, any_error},
    glance,
    image::Image,
    last_good,
    model::Policy,
};
use crate::system::{Sources, System};

/// A policy that can be enforced on this machine.
pub struct Ready {
    /// The policy.
    pub policy: Policy,
    /// What is to stand in the kernel.
    pub image: Image,
    /// What is wrong with the files; errors only if the policy is the last good one.
    pub faults: Vec<Fault>,
    /// Whether the policy is the last good one and not what the files say.
    pub is_fallback: bool,
}

/// Reads the files and compiles them for this machine.
///
/// # Errors
///
/// `Ok(Err(faults))` if the files are bad; an error if the machine cannot be looked at.
pub fn read(config: &Path, sources: &Sources) -> Result<Result<Ready, Vec<Fault>>, AgentError> {
    let loaded = policy::load(config);
    match loaded.policy {
        Some(policy) => for_this_machine(policy, loaded.faults, sources),
        None => Ok(Err(loaded.faults)),
    }
}

/// Compiles a policy for this machine.
///
/// # Errors
///
/// As [`read`].
pub fn for_this_machine(
    policy: Policy,
    mut faults: Vec<Fault>,
    sources: &Sources,
) -> Result<Result<Ready, Vec<Fault>>, AgentError> {
    let system = System::snapshot(&policy, sources)?;
    let Compiled {
        image,
        faults: more,
    } = compile(&policy, &system);
    faults.extend(more);
    Ok(match image {
        Some(image) => Ok(Ready {
            policy,
            image,
            faults,
            is_fallback: false,
        }),
        None => Err(faults),
    })
}

/// The policy to start with.
///
/// # Errors
///
/// The files are bad and no earlier policy is kept, or the machine cannot be looked at.
pub fn start(config: &Path, sources: &Sources) -> Result<Ready, AgentError> {
    let faults = match read(config, sources)? {
        Ok(ready) => return Ok(ready),
        Err(faults) => faults,
    };
    for fault in &faults {
        error!("{fault}");
    }
    let state_dir = glance::state_dir(config);
    let refuse = |faults| AgentError::Configuration {
        faults,
        state_dir: state_dir.clone(),
    };
    let policy = match last_good::load(&state_dir) {
        Ok(Some(policy)) => policy,
        Ok(None) => return Err(refuse(faults)),
        Err(error) => {
            error!(
                "the last good policy in {} cannot be used: {error}",
                state_dir.display()
            );
            return Err(refuse(faults));
        }
    };
    match for_this_machine(policy, Vec::new(), sources)? {
        Ok(ready) => {
            error!(
                "the configuration cannot be loaded: going on with the last good policy; mend \
                 what is named above, then `limiter reload`"
            );
            Ok(Ready {
                faults,
                is_fallback: true,
                ..ready
            })
        }
        Err(more) => Err(refuse(faults.into_iter().chain(more).collect())),
    }
}

/// Says the warnings of a policy that was loaded.
pub fn say_warnings(faults: &[Fault]) {
    for fault in faults
        .iter()
        .filter(|fault| fault.severity == Severity::Warning)
    {
        warn!("{fault}");
    }
    debug_assert!(!any_error(faults), "a policy with errors is not loaded");
}
