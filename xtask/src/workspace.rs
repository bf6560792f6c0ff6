//! Where things are in the workspace.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::run;

/// The workspace's top directory: the one cargo runs this program from, even where several
/// checkouts share a target directory and so this binary.
pub fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
    let here = env::var_os("CARGO_MANIFEST_DIR").map_or(built, PathBuf::from);
    here.parent().unwrap_or(&here).to_path_buf()
}

/// Where the kernel crate is built. Always below the workspace, whatever target directory the
/// agent uses: limiter-user/build.rs looks for the object here.
pub fn bpf_target() -> PathBuf {
    root().join("target/bpf")
}

/// The kernel object that the agent embeds.
pub fn object() -> PathBuf {
    bpf_target().join("limiter.o")
}

/// Where mail programs are unpacked that cannot be installed side by side.
pub fn test_programs() -> PathBuf {
    root().join("target/test-programs")
}

/// Where kernels are unpacked and virtual machines keep what they write.
pub fn virtual_machines() -> PathBuf {
    root().join("target/vm")
}

/// The build profile of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What `cargo build` does by itself; the tests share its artefacts.
    Dev,
    /// Optimised, for machines that serve.
    Release,
}

/// The agent's binary, as the given profile builds it.
///
/// # Errors
/// When cargo does not say where it builds.
pub fn agent(profile: Profile) -> Result<PathBuf> {
    let said = run::ask(
        run::cargo(),
        &[
            "metadata",
            "--no-deps",
            "--format-version=1",
            "--manifest-path",
            &root().join("Cargo.toml").to_string_lossy(),
        ],
    )
    .context("`cargo metadata` failed: the workspace's Cargo.toml cannot be read")?;
    let said: serde_json::Value =
        serde_json::from_str(&said).context("`cargo metadata` printed something else than JSON")?;
    let target = said["target_directory"]
        .as_str()
        .context("`cargo metadata` does not name its target directory")?;
    Ok(Path::new(target)
        .join(match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        })
        .join("limiter"))
}
