//! What virtual machines are made and run with.

use anyhow::{Result, bail};

use crate::apt;
use crate::programs::present;
use crate::run::say;
use crate::toolchain::find::is_root;

/// Programs, and the Debian packages that bring them.
const TOOLS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("strip", "binutils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
];

/// Installs what is missing, saying so first; nothing when nothing is.
///
/// # Errors
/// When something is missing and cannot be installed from here, or the machine is of a kind that
/// there is no kernel for.
pub fn install() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the virtual machines run the host's own programs, so far on x86_64 only");
    }
    let packages: Vec<String> = TOOLS
        .iter()
        .filter(|(name, _)| !present(name))
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::here() || !is_root() {
        bail!(
            "virtual machines need {}: install it, or run this as root on Debian",
            packages.join(" ")
        );
    }
    say(&format!(
        "Installing for virtual machines, with apt: {}.",
        packages.join(" ")
    ));
    apt::install(&packages, false)
}
