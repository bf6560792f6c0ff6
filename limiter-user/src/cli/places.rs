//! Where things are, for the commands.

use std::path::PathBuf;

use super::{Global, error::CliError};
use crate::{
    control::DEFAULT_SOCKET,
    policy::{glance, model::Places},
};

/// Where things are. A main file that does not exist means the defaults.
pub fn places(global: &Global) -> Result<Places, CliError> {
    glance::places(&global.config).map_err(|why| CliError::Places {
        config: global.config.clone(),
        why,
    })
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
