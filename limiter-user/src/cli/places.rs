//! Where things are, for the commands.

use std::path::{Path, PathBuf, absolute};

use super::{Global, error::CliError};
use crate::{
    control::DEFAULT_SOCKET,
    policy::{glance, last_good, model::Places},
};

/// Where things are. A main file that does not exist means the defaults; of one that cannot be read
/// the places are those of the last good policy, which is in force.
pub fn places(global: &Global) -> Result<Places, CliError> {
    places_of(&global.config)
}

fn places_of(config: &Path) -> Result<Places, CliError> {
    glance::places(config).or_else(|why| match last_good_places(config) {
        Some(places) => {
            log::error!(
                "{}: {why}; going by the places of the last good policy",
                config.display()
            );
            Ok(places)
        }
        None => Err(CliError::Places {
            config: config.to_owned(),
            why,
        }),
    })
}

/// The places of the last good policy, if it was read from this very file.
fn last_good_places(config: &Path) -> Option<Places> {
    let kept = last_good::load(&glance::state_dir(config)).ok()??;
    let is_same = absolute(config).is_ok_and(|config| config == kept.places.config);
    is_same.then_some(kept.places)
}

/// The control socket: as told, else the configuration's, else the default. Whoever may use the
/// socket need not be able to read the configuration.
pub fn control(global: &Global) -> PathBuf {
    if let Some(control) = &global.control {
        return control.clone();
    }
    match places(global) {
        Ok(places) => places.control,
        Err(error) => {
            log::info!("taking the default control socket: {error}");
            PathBuf::from(DEFAULT_SOCKET)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_no_yaml_means_the_last_good_policys_places() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("limiter.yaml");
        fs::write(
            &config,
            "state_dir: state\ncontrol: c.sock\npin_dir: pins\n",
        )
        .unwrap();
        let policy = crate::policy::load(&config).policy.unwrap();
        last_good::keep(&policy).unwrap();
        fs::write(&config, "state_dir: state\ncontrol: [\n").unwrap();
        let places = places_of(&config).unwrap();
        assert_eq!(places.control, directory.path().join("c.sock"));
        assert_eq!(places.pin_dir, directory.path().join("pins"));
        // Another file's are not its own: nobody detaches another limiter.
        let other = directory.path().join("other.yaml");
        fs::write(&other, "state_dir: state\ncontrol: [\n").unwrap();
        assert!(matches!(places_of(&other), Err(CliError::Places { .. })));
    }
}
