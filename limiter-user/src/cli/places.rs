//! Where things are, at a glance: the main file alone, without the tenants and without judging
//! the rest, so that `detach` and the control socket work with a broken policy, and at once with
//! a large one.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf, absolute},
};

use serde::Deserialize;

use super::{Global, error::CliError};
use crate::{control::DEFAULT_SOCKET, policy::model::Places};

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
pub fn places(global: &Global) -> Result<Places, CliError> {
    let wrong = |why: String| CliError::Places {
        config: global.config.clone(),
        why,
    };
    let text = read(&global.config).map_err(|error| wrong(error.to_string()))?;
    let glance = glance(&text).map_err(wrong)?;
    let config = absolute(&global.config).map_err(|error| wrong(error.to_string()))?;
    Ok(resolve(config, glance))
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
        state_dir: place(glance.state_dir, "/var/lib/limiter"),
        pin_dir: place(glance.pin_dir, "/sys/fs/bpf/limiter"),
        control: place(glance.control, DEFAULT_SOCKET),
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
