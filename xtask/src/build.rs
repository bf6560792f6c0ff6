//! `cargo xtask build`: the kernel object, then the agent around it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::run::{self, Run, progress, say};
use crate::setup;
use crate::toolchain::{Toolchain, find};
use crate::workspace::{self, Profile};

/// The target the kernel crate is compiled for: BPF in the byte order of this machine.
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// Builds object and agent; the path of the agent.
///
/// # Errors
/// When the tool chain is incomplete or something does not compile.
pub fn build(profile: Profile) -> Result<PathBuf> {
    object(&setup::ready()?)?;
    agent(profile)
}

/// Builds the kernel object. The file is left alone when nothing changed, so that the agent is
/// not built again either.
///
/// # Errors
/// When it does not compile or cannot be written.
pub fn object(toolchain: &Toolchain) -> Result<()> {
    progress("building the kernel object");
    let cargo = &toolchain.compiler.cargo;
    kernel_cargo(toolchain, cargo, "rustc", "building the kernel object")
        .args(["--", "-C", "link-arg=--btf"])
        .run()?;
    let built = workspace::bpf_target()
        .join(TARGET)
        .join("release/limiter-ebpf");
    let bytes = fs::read(&built)
        .with_context(|| format!("cargo succeeded, but {} cannot be read", built.display()))?;
    let object = workspace::object();
    let changed = replace_if_changed(&object, &bytes)
        .with_context(|| format!("cannot write {}", object.display()))?;
    say(&format!(
        "kernel object: {} ({} bytes, {})",
        object.display(),
        bytes.len(),
        if changed { "new" } else { "unchanged" }
    ));
    Ok(())
}

/// Builds the agent with whatever object there is.
fn agent(profile: Profile) -> Result<PathBuf> {
    progress("building the agent");
    let mut cargo = quiet(Run::new(run::cargo(), "building the agent"))
        .dir(workspace::root())
        .args(["build", "-p", "limiter-user", "--bin", "limiter"]);
    if profile == Profile::Release {
        cargo = cargo.arg("--release");
    }
    cargo.run()?;
    let agent = workspace::agent(profile)?;
    say(&format!("agent: {}", agent.display()));
    Ok(agent)
}

/// A program that is cargo, or behaves like it, about to do `command` to the kernel crate for BPF.
///
/// Everything the object depends on is set here and nothing is taken from the caller's
/// environment, so that every machine builds the same bytes.
pub fn kernel_cargo(toolchain: &Toolchain, cargo: &Path, command: &str, purpose: &str) -> Run {
    let Toolchain { compiler, linker } = toolchain;
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = linker.path.parent().map(Path::to_path_buf).into_iter();
    let path = env::join_paths(dirs.chain(env::split_paths(&path))).unwrap_or(path);
    let mut run = quiet(Run::new(cargo, purpose))
        .dir(workspace::root())
        .arg(command)
        .args(["--package", "limiter-ebpf", "--release", "--target", TARGET])
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(workspace::bpf_target())
        .env("PATH", path)
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain).join("\x1f"))
        // The agent's release profile is not the kernel's: bpf-linker does the link-time
        // optimisation, and there is no unwinding.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_INCREMENTAL", "0")
        .hint("`cargo xtask doctor` shows the tool chain.");
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_TARGET",
        "RUSTUP_TOOLCHAIN",
        // Cargo's own, for this program; the other compiler must not load its libraries.
        "LD_LIBRARY_PATH",
    ] {
        run = run.env_remove(name);
    }
    if compiler.version.nightly {
        run
    } else {
        run.env("RUSTC_BOOTSTRAP", "1")
    }
}

/// Debug information for BTF, without the names of this machine's directories: two checkouts
/// give the same object.
fn flags(toolchain: &Toolchain) -> Vec<String> {
    let mut places = vec![
        (workspace::root(), "/limiter"),
        (find::cargo_home(), "/cargo"),
    ];
    if let Some(sources) = &toolchain.compiler.sources {
        places.push((sources.clone(), "/rust"));
        if let Ok(real) = sources.canonicalize() {
            places.push((real, "/rust"));
        }
    }
    let mut flags = vec!["-Cdebuginfo=2".to_owned()];
    flags.extend(
        places
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())),
    );
    flags
}

/// Keeps cargo to itself where nobody watches.
fn quiet(run: Run) -> Run {
    if run::on_terminal() {
        run
    } else {
        run.env("CARGO_TERM_QUIET", "true")
    }
}

/// Writes the file when its content is another; whether it was.
fn replace_if_changed(file: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let new = file.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(&new, file)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("limiter.o");
        assert!(replace_if_changed(&file, b"one").unwrap());
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        assert!(!replace_if_changed(&file, b"one").unwrap());
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), time);
        assert!(replace_if_changed(&file, b"two").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
