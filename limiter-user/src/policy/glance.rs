//! Where things are, at a glance: the main file alone, without the tenants and without judging
//! the rest, so that `detach` and the control socket work with a broken policy, and at once with
//! a large one.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf, absolute},
};

use serde::Deserialize;

use super::{model::Places, services::ServicePlaces};
use crate::control::DEFAULT_SOCKET;

/// A larger main file is none.
const LARGEST: u64 = 16 << 20;

/// The keys that say where things are; all others are left to `check`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Glance {
    attach: Option<Attach>,
    tenants: Option<String>,
    state_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    control: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attach {
    cgroup: Option<PathBuf>,
    uplinks: Option<Vec<String>>,
    guests: Option<Vec<String>>,
}

/// Where things are. A main file that does not exist means the defaults.
///
/// # Errors
///
/// The file cannot be read or is no YAML; the text says why.
pub fn places(config: &Path) -> Result<Places, String> {
    let text = read(config).map_err(|error| error.to_string())?;
    let glance = glance(&text)?;
    let config = absolute(config).map_err(|error| error.to_string())?;
    Ok(resolve(config, glance))
}

/// The state directory that a main file names, even if it is no YAML any more: the last good
/// policy has to be found when it is needed most.
#[must_use]
pub fn state_dir(config: &Path) -> PathBuf {
    if let Ok(places) = places(config) {
        return places.state_dir;
    }
    let text = read(config).unwrap_or_default();
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix("state_dir:"))
        .map(|value| {
            value
                .split('#')
                .next()
                .unwrap_or(value)
                .trim()
                .trim_matches(['"', '\''])
        })
        .filter(|value| !value.is_empty());
    let directory = config.parent().unwrap_or(Path::new("/"));
    named.map_or_else(
        || PathBuf::from(DEFAULT_STATE_DIR),
        |value| directory.join(value),
    )
}

const DEFAULT_STATE_DIR: &str = "/var/lib/limiter";

fn read(config: &Path) -> io::Result<String> {
    let file = match File::open(config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn glance(text: &str) -> Result<Glance, String> {
    // An empty document is null, which is no mapping.
    let glance: Option<Glance> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    Ok(glance.unwrap_or_default())
}

fn resolve(config: PathBuf, glance: Glance) -> Places {
    let directory = config.parent().unwrap_or(Path::new("/")).to_owned();
    let place = |given: Option<PathBuf>, default: &str| match given {
        Some(path) => directory.join(path),
        None => PathBuf::from(default),
    };
    let attach = glance.attach.unwrap_or_default();
    let tenants = glance.tenants.as_deref().unwrap_or("tenants.d/*.yaml");
    Places {
        cgroup: attach.cgroup.unwrap_or_else(|| PathBuf::from("/")),
        uplinks: attach.uplinks,
        guests: attach.guests.unwrap_or_else(|| {
            ["veth*", "tap*", "vnet*", "macvtap*", "vif*"]
                .map(str::to_owned)
                .to_vec()
        }),
        tenants: directory.join(tenants).to_string_lossy().into_owned(),
        state_dir: place(glance.state_dir, DEFAULT_STATE_DIR),
        pin_dir: place(glance.pin_dir, "/sys/fs/bpf/limiter"),
        control: place(glance.control, DEFAULT_SOCKET),
        services: ServicePlaces::default(),
        config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Places {
        resolve("/etc/limiter/limiter.yaml".into(), glance(text).unwrap())
    }

    #[test]
    fn nothing_means_the_defaults() {
        for text in ["", "version: 1\n", "# nothing\n"] {
            let places = of(text);
            assert_eq!(places.control, Path::new("/run/limiter/control.sock"));
            assert_eq!(places.pin_dir, Path::new("/sys/fs/bpf/limiter"));
            assert_eq!(places.state_dir, Path::new("/var/lib/limiter"));
            assert_eq!(places.tenants, "/etc/limiter/tenants.d/*.yaml");
            assert_eq!(places.cgroup, Path::new("/"));
        }
    }

    #[test]
    fn paths_are_relative_to_the_file_and_faults_elsewhere_do_not_matter() {
        let places = of(
            "control: c.sock\nstate_dir: /srv/state\nnonsense: [1, {a: b}]\n\
             limits: [{max: -5}]\nattach: {cgroup: /tests/a}\n",
        );
        assert_eq!(places.control, Path::new("/etc/limiter/c.sock"));
        assert_eq!(places.state_dir, Path::new("/srv/state"));
        assert_eq!(places.cgroup, Path::new("/tests/a"));
    }

    #[test]
    fn what_is_no_yaml_is_said() {
        assert!(glance("a: [").is_err());
        assert!(glance("control: [x]").is_err());
    }
}
