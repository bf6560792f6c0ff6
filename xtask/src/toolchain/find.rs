//! What is on this machine. Looks, changes nothing.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::plan::{llvm_package, polly_package};
use super::version::{self, Linked};
use super::{
    Compiler, DEBIAN_CLIPPY, DEBIAN_COMPILER, DEBIAN_SOURCES, Facts, LINKER_LLVMS, Linker,
    LinkerLlvm,
};
use crate::{apt, run};

/// Everything that the decision about the tool chain needs.
pub fn facts(refreshed: bool) -> Facts {
    Facts {
        compilers: compilers(),
        linker: linker(),
        apt: apt_facts(),
        root: is_root(),
        refreshed,
        cxx: on_path("c++").is_some() || on_path("g++").is_some(),
    }
}

/// Whether this process may do what root may.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The first program of that name on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Cargo's own directory.
pub fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_else(|| PathBuf::from("/root/.cargo"))
}

fn compilers() -> Vec<Compiler> {
    let nightly = run::ask("rustup", &["which", "--toolchain", "nightly", "rustc"])
        .map(|path| ("rustup's nightly", PathBuf::from(path.trim())));
    let own = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let own = run::ask(own, &["--print", "sysroot"]).map(|sysroot| {
        (
            "the agent's own",
            Path::new(sysroot.trim()).join("bin/rustc"),
        )
    });
    let system = Some(("the system's", PathBuf::from("/usr/bin/rustc")));
    let mut found: Vec<Compiler> = Vec::new();
    for (origin, rustc) in [nightly, own, system].into_iter().flatten() {
        if let Some(compiler) = compiler(origin, rustc)
            && found.iter().all(|known| known.rustc != compiler.rustc)
        {
            found.push(compiler);
        }
    }
    found
}

fn compiler(origin: &'static str, rustc: PathBuf) -> Option<Compiler> {
    let version = version::rustc(&run::ask(&rustc, &["-vV"])?)?;
    let sysroot = run::ask(&rustc, &["--print", "sysroot"])?;
    let sources = sources(Path::new(sysroot.trim()), &version);
    // A nightly needs the cargo it came with: the flags for building `core` move together.
    let beside = rustc.with_file_name("cargo");
    let cargo =
        if beside.is_file() && (version.nightly || rustc.parent() != Some(Path::new("/usr/bin"))) {
            beside
        } else {
            PathBuf::from(run::cargo())
        };
    Some(Compiler {
        origin,
        rustc,
        cargo,
        version,
        sources,
    })
}

/// Where cargo's `build-std` looks, when what lies there is of the compiler's own release.
fn sources(sysroot: &Path, version: &version::Rustc) -> Option<PathBuf> {
    let sources = sysroot.join("lib/rustlib/src/rust");
    if !sources.join("library/Cargo.lock").is_file() {
        return None;
    }
    // Debian packages compiler and sources apart, so that one can be upgraded without the other.
    match fs::read_to_string(sources.join("src/version")) {
        Ok(text) if version::release(&text) != Some(version.release) => None,
        _ => Some(sources),
    }
}

fn linker() -> Option<Linker> {
    let path = on_path("bpf-linker").or_else(|| {
        let installed = cargo_home().join("bin/bpf-linker");
        installed.is_file().then_some(installed)
    })?;
    let text = run::ask(&path, &["--version"]).map(|text| text.trim().to_owned());
    let llvm = linker_llvm(&path);
    Some(Linker { path, text, llvm })
}

/// bpf-linker does not print its LLVM: the library it is linked to tells, else its own bytes,
/// else what cargo noted when it was installed.
fn linker_llvm(path: &Path) -> LinkerLlvm {
    let linked = run::ask("ldd", &[&path.to_string_lossy()]).map(|ldd| version::linked_llvm(&ldd));
    match linked {
        Some(Linked::Version(llvm)) => return LinkerLlvm::Version(llvm),
        Some(Linked::Gone(library)) => return LinkerLlvm::Gone(library),
        Some(Linked::No) | None => {}
    }
    let inside = fs::read(path)
        .ok()
        .and_then(|bytes| version::embedded_llvm(&bytes));
    let noted = || {
        let list = fs::read_to_string(cargo_home().join(".crates2.json")).ok()?;
        version::feature_llvm(&list, "bpf-linker")
    };
    inside
        .or_else(noted)
        .map_or(LinkerLlvm::Unknown, LinkerLlvm::Version)
}

fn apt_facts() -> Option<super::Apt> {
    if !apt::here() {
        return None;
    }
    let mut names = [DEBIAN_COMPILER, DEBIAN_SOURCES, DEBIAN_CLIPPY]
        .map(str::to_owned)
        .to_vec();
    for llvm in LINKER_LLVMS {
        names.extend([llvm_package(llvm), polly_package(llvm)]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = apt::known(&names);
    // The compiler's package names its library's, which depends on the LLVM.
    let compiler_llvm = known
        .offered
        .get(DEBIAN_COMPILER)
        .and_then(|version| version::release(version))
        .and_then(|release| {
            apt::depends(&format!("libstd-rust-web-{release}"))
                .iter()
                .find_map(|name| version::number(name.strip_prefix("libllvm")?))
        });
    Some(super::Apt {
        offered: known.offered,
        installed: known.installed,
        compiler_llvm,
    })
}
