//! The programs that the end-to-end tests run, all of them listed here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::run::{Run, progress, say};
use crate::toolchain::find::{is_root, on_path};
use crate::{apt, workspace};

/// A program, and the Debian package that brings it.
struct Program {
    /// By which it is found on PATH; the whole path for a library that a program loads.
    name: &'static str,
    package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// Installed from their packages.
const PROGRAMS: [Program; 16] = [
    // The local MTA and the outside world, and the senders and sinks for many sessions at once.
    program("postfix", "postfix"),
    program("smtp-source", "postfix"),
    program("smtp-sink", "postfix"),
    // What customers send with.
    program("swaks", "swaks"),
    // swaks speaks IPv6 only with this.
    program(
        "/usr/share/perl5/IO/Socket/INET6.pm",
        "libio-socket-inet6-perl",
    ),
    program("php", "php-cli"),
    program(
        "/usr/share/php/libphp-phpmailer/autoload.php",
        "libphp-phpmailer",
    ),
    program("python3", "python3"),
    program("curl", "curl"),
    // A mail server that mailboxes are read from.
    program("dovecot", "dovecot-imapd"),
    program("/usr/lib/dovecot/pop3", "dovecot-pop3d"),
    // What others do with the kernel's programs and packets.
    program("bpftool", "bpftool"),
    program("nft", "nftables"),
    // Networks, and users of containers.
    program("ip", "iproute2"),
    program("newuidmap", "uidmap"),
    program("setpriv", "util-linux"),
];

/// What the bench compares limiter with.
const PEERS: [Program; 1] = [program("iptables-legacy-restore", "iptables")];

/// Exim cannot be installed beside Postfix (each provides mail-transport-agent), so its packages
/// are unpacked and its programs run from there.
const EXIM_PACKAGES: [&str; 3] = ["exim4-daemon-light", "exim4-base", "exim4-config"];

/// Where Exim is unpacked: `usr/sbin/exim4` below it is the program.
pub fn exim() -> PathBuf {
    workspace::test_programs().join("exim")
}

/// What is missing, by name.
pub fn missing() -> Vec<&'static str> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|program| !present(program.name))
        .map(|program| program.name)
        .collect();
    if !exim_program().is_file() {
        missing.push("exim4");
    }
    missing
}

/// Installs what is missing, saying so first; nothing when nothing is.
///
/// # Errors
/// When something is missing and cannot be installed from here.
pub fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::here() {
        bail!(
            "the end-to-end tests need {}, and there is no apt here to install it with",
            missing.join(", ")
        );
    }
    if !is_root() {
        bail!(
            "the end-to-end tests need {}; run this as root to install it",
            missing.join(", ")
        );
    }
    let packages = packages(
        &PROGRAMS
            .iter()
            .filter(|p| !present(p.name))
            .collect::<Vec<_>>(),
    );
    if !packages.is_empty() {
        say(&format!(
            "Installing for the end-to-end tests, with apt: {}.",
            packages.join(" ")
        ));
        apt::install(&packages, false)?;
    }
    if !exim_program().is_file() {
        say(&format!(
            "Unpacking Exim for the end-to-end tests into {} (not installed).",
            exim().display()
        ));
        unpack_exim()?;
    }
    let still = self::missing();
    if still.is_empty() {
        Ok(())
    } else {
        bail!(
            "the packages are installed, and still missing on PATH: {}",
            still.join(", ")
        )
    }
}

/// Installs what limiter is compared with, saying so first; nothing when nothing is missing.
///
/// # Errors
/// When it cannot be installed from here.
pub fn install_peers() -> Result<()> {
    let missing: Vec<&Program> = PEERS.iter().filter(|p| !present(p.name)).collect();
    let packages = packages(&missing);
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::here() {
        bail!("the bench needs {}", packages.join(", "));
    }
    say(&format!(
        "Installing for the bench, with apt: {}.",
        packages.join(" ")
    ));
    apt::install(&packages, false)
}

fn exim_program() -> PathBuf {
    exim().join("usr/sbin/exim4")
}

/// Whether a program is installed.
pub fn present(name: &str) -> bool {
    // Users other than root rarely have these two on their PATH.
    on_path(name).is_some()
        || ["/usr/sbin", "/sbin"]
            .iter()
            .any(|dir| Path::new(dir).join(name).is_file())
}

/// Each package once, in the order of the list.
fn packages(programs: &[&Program]) -> Vec<String> {
    let mut packages: Vec<String> = Vec::new();
    for program in programs {
        if !packages.iter().any(|known| known == program.package) {
            packages.push(program.package.to_owned());
        }
    }
    packages
}

fn unpack_exim() -> Result<()> {
    progress("unpacking Exim");
    let downloads = workspace::test_programs().join("downloads");
    let unpacked = workspace::test_programs().join("exim.new");
    for dir in [&downloads, &unpacked] {
        // What an interrupted run left.
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    // First the libraries it is linked to: installing them also sees to it that apt's lists are
    // fresh enough to download from.
    let names: Vec<String> = EXIM_PACKAGES.map(str::to_owned).to_vec();
    if apt::known(&EXIM_PACKAGES).offered.len() < EXIM_PACKAGES.len() {
        apt::update()?;
    }
    let libraries: Vec<String> = apt::depends("exim4-daemon-light")
        .into_iter()
        .filter(|n| n.starts_with("lib"))
        .collect();
    let wanted: Vec<&str> = libraries.iter().map(String::as_str).collect();
    let installed = apt::known(&wanted).installed;
    let absent: Vec<String> = libraries
        .into_iter()
        .filter(|name| !installed.contains(name))
        .collect();
    if !absent.is_empty() {
        apt::install(&absent, false)?;
    }
    let download = || {
        apt::apt_get("downloading Exim")
            .arg("download")
            .args(&names)
            .dir(&downloads)
            .hint("A Debian mirror must be reachable.")
            .run()
    };
    if download().is_err() {
        // Stale lists name files that are gone.
        apt::update()?;
        download()?;
    }
    for entry in fs::read_dir(&downloads)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            Run::new("dpkg-deb", "unpacking Exim")
                .arg("-x")
                .arg(&file)
                .arg(&unpacked)
                .run()?;
        }
    }
    if exim().exists() {
        fs::remove_dir_all(exim())?;
    }
    fs::rename(&unpacked, exim())
        .with_context(|| format!("cannot move {} into place", unpacked.display()))?;
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_brings_several_programs_is_installed_once() {
        let missing: Vec<&Program> = PROGRAMS
            .iter()
            .filter(|p| ["smtp-sink", "postfix", "php"].contains(&p.name))
            .collect();
        assert_eq!(packages(&missing), ["postfix", "php-cli"]);
        assert!(packages(&[]).is_empty());
    }

    #[test]
    fn nothing_that_is_installed_conflicts_with_postfix() {
        assert!(
            PROGRAMS
                .iter()
                .all(|program| !EXIM_PACKAGES.contains(&program.package))
        );
    }
}
