//! Whole configurations, read from files.

mod book;
mod example;
mod faults_files;
mod faults_main;
mod faults_tenants;
mod faults_yaml;
mod hostile;
mod kept;
mod meaning;
mod networks;
mod notices;
mod policies;
mod services;
mod strictest;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use super::{
    Loaded,
    fault::{Fault, Severity},
    load,
    model::Policy,
};

/// A configuration in a directory of its own.
struct Config {
    dir: TempDir,
}

impl Config {
    fn new(main: &str) -> Self {
        let config = Self {
            dir: tempfile::Builder::new()
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir()
                .unwrap(),
        };
        fs::create_dir(config.path("tenants.d")).unwrap();
        config.write("limiter.yaml", main)
    }

    fn tenants(text: &str) -> Self {
        Self::new("").write("tenants.d/t.yaml", text)
    }

    fn write(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self) -> Loaded {
        load(&self.path("limiter.yaml"))
    }

    /// The faults as they are printed, paths relative to the configuration's directory.
    fn faults(&self) -> Vec<String> {
        let loaded = self.load();
        assert_eq!(
            loaded.policy.is_some(),
            loaded
                .faults
                .iter()
                .all(|f| f.severity == Severity::Warning),
            "a policy exactly where there is no error: {:?}",
            loaded.faults
        );
        self.print(&loaded.faults)
    }

    fn print(&self, faults: &[Fault]) -> Vec<String> {
        let dir = format!("{}/", self.dir.path().display());
        faults
            .iter()
            .map(|fault| fault.to_string().replace(&dir, ""))
            .collect()
    }

    fn policy(&self) -> Policy {
        let loaded = self.load();
        let faults = self.print(&loaded.faults);
        loaded.policy.unwrap_or_else(|| panic!("{faults:#?}"))
    }
}

/// That the only fault is `expected`.
#[track_caller]
fn only(config: &Config, expected: &str) {
    assert_eq!(config.faults(), [expected]);
}

/// That `expected` are the faults, each given by its beginning and, after a `…`, its end.
#[track_caller]
fn all(config: &Config, expected: &[&str]) {
    let faults = config.faults();
    let fits = |(fault, expected): (&String, &&str)| match expected.split_once('…') {
        Some((start, end)) => fault.starts_with(start) && fault.ends_with(end),
        None => fault == expected,
    };
    assert!(
        faults.len() == expected.len() && faults.iter().zip(expected).all(fits),
        "found {faults:#?}\nexpected {expected:#?}"
    );
}

fn names(policy: &Policy) -> Vec<&str> {
    policy.tenants.iter().map(|t| t.name.as_str()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
