//! Taking everything out of the kernel: the one thing that opens the gate.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{
    KernelError,
    attach::{detach_filters, other_limiters},
    pins::Pins,
};
use crate::{policy::model::Places, system::mounts::find_cgroup2};

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detached {
    /// The pins that are gone. With the last reference to a link the kernel lets its program go.
    pub removed: Vec<PathBuf>,
    /// The filters that are gone from interfaces.
    pub filters: Vec<String>,
    /// Where they were looked for.
    pub pin_dir: PathBuf,
    /// Programs of other limiters that still judge what this one judged, and where.
    pub others: Vec<String>,
}

impl fmt::Display for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() && self.filters.is_empty() {
            let pin_dir = self.pin_dir.display();
            write!(
                f,
                "nothing was pinned in {pin_dir}: this limiter was not in force"
            )?;
            return others(f, &self.others);
        }
        let links = self
            .removed
            .iter()
            .filter(|path| path.parent().is_some_and(is_links))
            .count();
        let maps = self.removed.len() - links;
        if !self.filters.is_empty() {
            write!(f, "removed {} filters; ", self.filters.len())?;
        }
        write!(
            f,
            "removed {links} links and {maps} maps: mail is no longer limited, and the kernel's \
             counts and sanctions are gone; the sanctions that are in the record book are put in \
             force again at the next start of the agent"
        )?;
        others(f, &self.others)
    }
}

fn others(f: &mut fmt::Formatter<'_>, others: &[String]) -> fmt::Result {
    for other in others {
        write!(
            f,
            "\nanother limiter is still in force: {other}; detach it with its own configuration"
        )?;
    }
    Ok(())
}

fn is_links(dir: &std::path::Path) -> bool {
    dir.file_name().is_some_and(|name| name == "links")
}

/// Removes every link and pin below the pin directory, of every version of limiter.
///
/// # Errors
///
/// A running agent holds them, or something could not be removed; the rest was.
pub fn detach(places: &Places) -> Result<Detached, KernelError> {
    let pins = Pins::new(&places.pin_dir);
    let lock = if places.pin_dir.exists() {
        Some(pins.lock()?)
    } else {
        None
    };
    // First: pins say which disciplines limiter made. Filters go also where no pin is left.
    let filters = detach_filters(&pins)?;
    let removed = pins.remove_all()?;
    drop(lock);
    Ok(Detached {
        removed,
        filters,
        pin_dir: places.pin_dir.clone(),
        others: others_in_force(places, &pins),
    })
}

/// Programs of other limiters that still judge what this one judged.
fn others_in_force(places: &Places, pins: &Pins) -> Vec<String> {
    let Ok(mount) = find_cgroup2() else {
        return Vec::new();
    };
    other_limiters(&places.attach_point(&mount), &mount, pins)
}
