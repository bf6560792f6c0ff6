//! Taking everything out of the kernel: the one thing that opens the gate.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{KernelError, pins::Pins};
use crate::policy::model::Places;

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detached {
    /// The pins that are gone. With the last reference to a link the kernel lets its program go.
    pub removed: Vec<PathBuf>,
}

impl fmt::Display for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() {
            return f.write_str("nothing was pinned: limiter was not in force");
        }
        let links = self
            .removed
            .iter()
            .filter(|path| path.parent().is_some_and(is_links))
            .count();
        let maps = self.removed.len() - links;
        write!(
            f,
            "removed {links} links and {maps} maps: mail is no longer limited, and all counts are \
             gone"
        )
    }
}

fn is_links(dir: &std::path::Path) -> bool {
    dir.file_name().is_some_and(|name| name == "links")
}

/// Removes every link and pin below the pin directory, of every version of limiter.
///
/// # Errors
///
/// Something could not be removed; the rest was.
pub fn detach(places: &Places) -> Result<Detached, KernelError> {
    let removed = Pins::new(&places.pin_dir).remove_all()?;
    Ok(Detached { removed })
}
