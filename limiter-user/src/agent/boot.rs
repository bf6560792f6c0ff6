//! Which policy to start with: the one in the files, or the last good one if they are bad.

use std::{path::Path, sync::Arc};

use log::{error, warn};

use super::{AgentError, stages::Stages};
use crate::policy::{
    self, Kept,
    compile::compile_what_holds,
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
    pub policy: Arc<Policy>,
    /// What is to stand in the kernel.
    pub image: Image,
    /// What this machine was like.
    pub system: System,
    /// What is wrong: with the files, if this is the last good policy; else what the machine
    /// contradicts is an error among them, and left to whoever nobody claims.
    pub faults: Vec<Fault>,
    /// Whether the policy is the last good one and not what the files say.
    pub is_fallback: bool,
}

/// Reads what changed of the files since `kept` was filled, and compiles all for this machine, for a
/// reload: any fault refuses it.
///
/// # Errors
///
/// `Ok(Err(faults))` if the files are bad or contradict the machine; an error if the machine
/// cannot be looked at.
pub fn read(
    config: &Path,
    sources: &Sources,
    kept: &mut Kept,
) -> Result<Result<Ready, Vec<Fault>>, AgentError> {
    let mut stages = Stages::begin("reload");
    let loaded = policy::load_changed(config, kept);
    stages.done("reading the files");
    let Some(policy) = loaded.policy else {
        return Ok(Err(loaded.faults));
    };
    let ready = for_this_machine(Arc::new(policy), loaded.faults, sources)?;
    stages.done("compiling");
    Ok(if any_error(&ready.faults) {
        Err(ready.faults)
    } else {
        Ok(ready)
    })
}

/// Compiles a policy for this machine. What the machine contradicts is among the faults, and left
/// to whoever nobody claims: the rest of the policy holds.
///
/// # Errors
///
/// The machine cannot be looked at.
pub fn for_this_machine(
    policy: Arc<Policy>,
    faults: Vec<Fault>,
    sources: &Sources,
) -> Result<Ready, AgentError> {
    let mut stages = Stages::begin("compiling");
    let system = System::snapshot(&policy, sources)?;
    stages.done("looking at the machine");
    let ready = compiled(policy, faults, system);
    stages.done("the image");
    Ok(ready)
}

/// Compiles a policy for a machine like this; as [`for_this_machine`].
pub fn compiled(policy: Arc<Policy>, mut faults: Vec<Fault>, system: System) -> Ready {
    let (image, more) = compile_what_holds(&policy, &system);
    faults.extend(more);
    Ready {
        policy,
        image,
        system,
        faults,
        is_fallback: false,
    }
}

/// The policy to start with: the files', as far as the machine lets it hold; the last good one if
/// the files are bad. Fills `kept` with what it read.
///
/// # Errors
///
/// The files are bad and no earlier policy is kept, or the machine cannot be looked at.
pub fn start(config: &Path, sources: &Sources, kept: &mut Kept) -> Result<Ready, AgentError> {
    let mut stages = Stages::begin("start");
    let loaded = policy::load_changed(config, kept);
    stages.done("reading the files");
    if let Some(policy) = loaded.policy {
        return for_this_machine(Arc::new(policy), loaded.faults, sources);
    }
    for fault in &loaded.faults {
        error!("{fault}");
    }
    let state_dir = glance::state_dir(config);
    let kept = last_good::load(&state_dir).unwrap_or_else(|error| {
        let state_dir = state_dir.display();
        error!("the last good policy in {state_dir} cannot be used: {error}");
        None
    });
    let Some(policy) = kept else {
        return Err(AgentError::Configuration {
            faults: loaded.faults,
            state_dir,
        });
    };
    let ready = for_this_machine(Arc::new(policy), Vec::new(), sources)?;
    error!(
        "the configuration cannot be loaded: going on with the last good policy; mend what is \
         named above, then `limiter reload`"
    );
    Ok(Ready {
        faults: loaded.faults,
        is_fallback: true,
        ..ready
    })
}

/// Says the warnings of a policy that was loaded.
pub fn say_warnings(faults: &[Fault]) {
    for fault in faults
        .iter()
        .filter(|fault| fault.severity == Severity::Warning)
    {
        warn!("{fault}");
    }
}
