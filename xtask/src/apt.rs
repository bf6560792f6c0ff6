//! Debian packages: what is known, what is there, and installing more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::run::{Run, ask};
use crate::toolchain::find::on_path;

/// What apt knows about some packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What can be installed, with its version.
    pub offered: BTreeMap<String, String>,
    /// What is installed.
    pub installed: BTreeSet<String>,
}

/// Whether this machine has apt.
pub fn here() -> bool {
    on_path("apt-get").is_some() && on_path("apt-cache").is_some()
}

/// Asks about packages.
pub fn known(names: &[&str]) -> Known {
    let mut args = vec!["policy"];
    args.extend(names);
    policy(&ask("apt-cache", &args).unwrap_or_default())
}

/// The packages that `package` depends on.
pub fn depends(package: &str) -> Vec<String> {
    depends_with(&[], package)
}

/// The packages that `package` depends on, as an apt with these options knows it.
pub fn depends_with(options: &[&str], package: &str) -> Vec<String> {
    let mut args = options.to_vec();
    args.extend(["depends", "--important", package]);
    direct(&ask("apt-cache", &args).unwrap_or_default())
}

/// Reads the output of `apt-cache policy`.
fn policy(text: &str) -> Known {
    let mut known = Known::default();
    let mut package = "";
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':')
            && !line.starts_with(' ')
        {
            package = name.split(':').next().unwrap_or(name);
        } else if let Some(version) = line.trim().strip_prefix("Installed: ")
            && version != "(none)"
        {
            known.installed.insert(package.to_owned());
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            known.offered.insert(package.to_owned(), version.to_owned());
        }
    }
    known
}

/// Reads the output of `apt-cache depends`; virtual packages are left out.
fn direct(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches('|')
                .strip_prefix("Depends: ")
        })
        .filter(|name| !name.starts_with('<'))
        .map(str::to_owned)
        .collect()
}

/// Fetches the lists of packages.
///
/// # Errors
/// When apt cannot.
pub fn update() -> Result<()> {
    apt_get("fetching the lists of packages")
        .arg("update")
        .hint("Check the network, the clock and /etc/apt/sources.list.")
        .run()
}

/// Installs packages; fetches the lists first when apt has not heard of one, and again when
/// installing fails, for stale lists name files that are gone. Nothing is ever removed, and no
/// service is started.
///
/// # Errors
/// When apt cannot.
pub fn install(names: &[String], mut refreshed: bool) -> Result<()> {
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = known(&all);
    if !refreshed && all.iter().any(|name| !known.offered.contains_key(*name)) {
        update()?;
        refreshed = true;
    }
    let _no_services = NoServices::begin().context(
        "cannot write /usr/sbin/policy-rc.d, which keeps installed services from starting",
    )?;
    let install = || {
        apt_get(&format!("installing {}", names.join(" ")))
            .args(["install", "--yes", "--no-remove", "--no-install-recommends"])
            .args(names)
            .hint(
                "If a package would have to be removed for it, use a machine where it is not \
                 installed: nothing is removed here.",
            )
            .run()
    };
    match install() {
        Err(_) if !refreshed => {
            update()?;
            install()
        }
        result => result,
    }
}

/// An `apt-get` that asks nothing.
pub fn apt_get(purpose: &str) -> Run {
    Run::new("apt-get", purpose)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "-q",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=120",
        ])
}

/// While it lives, packages do not start their services: the tests run their own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> io::Result<Self> {
        let policy = Path::new(Self::POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        fs::write(
            policy,
            "#!/bin/sh\n# For the length of an installation of test programs.\nexit 101\n",
        )?;
        let guard = Self { ours: true };
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Nothing better can be done about a failure here, and the file says what it is.
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_offered_and_installed() {
        let known = policy(
            "rustc-web:
  Installed: 1.96.0+dfsg1-1~deb12u2
  Candidate: 1.96.0+dfsg1-1~deb12u2
  Version table:
 *** 1.96.0+dfsg1-1~deb12u2 500
        500 http://mirror.example/debian-security bookworm-security/main amd64 Packages
postfix:
  Installed: (none)
  Candidate: 3.7.11-0+deb12u1
exim:
  Installed: (none)
  Candidate: (none)
",
        );
        assert_eq!(known.installed, BTreeSet::from(["rustc-web".to_owned()]));
        assert_eq!(
            known.offered,
            BTreeMap::from([
                ("postfix".to_owned(), "3.7.11-0+deb12u1".to_owned()),
                ("rustc-web".to_owned(), "1.96.0+dfsg1-1~deb12u2".to_owned()),
            ])
        );
    }

    #[test]
    fn reads_direct_dependencies() {
        let text = "libstd-rust-web-1.96
  Depends: libc6
 |Depends: debconf
  Depends: <debconf-2.0>
    cdebconf
  Depends: libllvm22
  Conflicts: <rustup>
";
        assert_eq!(direct(text), ["libc6", "debconf", "libllvm22"]);
    }
}
