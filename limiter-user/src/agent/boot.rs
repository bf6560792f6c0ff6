//! Which policy to start with: the one in the files, or the last good one if they are bad.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use log::{error, info, warn};

use super::AgentError;
use crate::policy::{
    self,
    compile::{Compiled, compile},
    fault::{Fault, Severity, any_error},
    glance,
    image::Image,
    model::Policy,
};
use crate::system::{Sources, System};

/// The name of the last good policy in the state directory.
const LAST_GOOD: &str = "last-good-policy.json";

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
    let policy = match load_last_good(&state_dir) {
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

/// Keeps a policy as the last good one: whole, or not at all.
///
/// # Errors
///
/// The state directory cannot be written.
pub fn keep_last_good(policy: &Policy) -> Result<(), AgentError> {
    let path = policy.places.state_dir.join(LAST_GOOD);
    let text = serde_json::to_vec(policy).map_err(io::Error::from);
    let keep = |text: &[u8]| -> io::Result<()> {
        if fs::read(&path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&policy.places.state_dir)?;
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&policy.places.state_dir)?.sync_all()
    };
    text.and_then(|text| keep(&text))
        .map_err(AgentError::io(format!(
            "keep the policy in {}",
            path.display()
        )))
}

fn load_last_good(state_dir: &Path) -> io::Result<Option<Policy>> {
    let path: PathBuf = state_dir.join(LAST_GOOD);
    match fs::read(&path) {
        Ok(text) => {
            info!("reading {}", path.display());
            Ok(Some(serde_json::from_slice(&text)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
