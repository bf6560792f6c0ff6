//! From YAML files to what the kernel needs: read → check → compile. Nothing here touches the
//! kernel.

pub mod compile;
pub mod fault;
pub mod image;
pub mod model;

use std::path::{Path, PathBuf};

pub mod describe;

/// What the files of a configuration hold.
#[derive(Debug)]
pub struct Loaded {
    /// The policy; `None` if any fault is an error.
    pub policy: Option<model::Policy>,
    /// What was found, errors and warnings.
    pub faults: Vec<fault::Fault>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration. Placeholder of the interface: every file is a fault.
#[must_use]
pub fn load(config: &Path) -> Loaded {
    let origin = model::Origin {
        file: config.to_owned(),
        ..model::Origin::default()
    };
    Loaded {
        policy: None,
        faults: vec![fault::Fault::error(
            &origin,
            "this build reads no policy",
            "use a build that does",
        )],
        files: Vec::new(),
    }
}
