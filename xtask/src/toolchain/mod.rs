//! The BPF tool chain: a compiler with the sources of `core`, and bpf-linker.
//!
//! [`find`] gathers facts, [`plan`] decides from facts alone, `setup` carries the decision out.

pub mod find;
pub mod plan;
pub mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use version::{Release, Rustc};

/// The oldest compiler that takes the workspace (`rust-version` in Cargo.toml).
pub const OLDEST_RUSTC: Release = Release {
    major: 1,
    minor: 95,
};
/// The bpf-linker that setup installs.
pub const LINKER_VERSION: &str = "0.13.0";
/// The LLVMs that this bpf-linker can be built on, oldest first.
pub const LINKER_LLVMS: [u32; 3] = [21, 22, 23];
/// Debian's compiler of the newest Rust, and its sources.
pub const DEBIAN_COMPILER: &str = "rustc-web";
/// The sources that belong to [`DEBIAN_COMPILER`].
pub const DEBIAN_SOURCES: &str = "rust-web-src";
/// Its clippy, with which the kernel crate is linted.
pub const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// A Rust compiler on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Where it comes from, for people.
    pub origin: &'static str,
    /// The compiler itself, not a proxy.
    pub rustc: PathBuf,
    /// The cargo that goes with it.
    pub cargo: PathBuf,
    /// What it says about itself.
    pub version: Rustc,
    /// The directory of the sources of the standard library, when they are there and its own.
    pub sources: Option<PathBuf>,
}

/// Which LLVM a linker reads bitcode with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkerLlvm {
    /// The major version.
    Version(u32),
    /// Linked to a library that is gone.
    Gone(String),
    /// Cannot be told.
    Unknown,
}

/// A bpf-linker on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// What `--version` prints, when it runs.
    pub text: Option<String>,
    /// The LLVM it was built on.
    pub llvm: LinkerLlvm,
}

/// What apt knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apt {
    /// Packages asked about that can be installed, with the version they would have.
    pub offered: BTreeMap<String, String>,
    /// Packages asked about that are installed.
    pub installed: BTreeSet<String>,
    /// The LLVM of the compiler that apt offers.
    pub compiler_llvm: Option<u32>,
}

/// Everything the decision rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Compilers found, best first.
    pub compilers: Vec<Compiler>,
    /// The linker found.
    pub linker: Option<Linker>,
    /// What apt knows; nothing where there is no apt.
    pub apt: Option<Apt>,
    /// Whether packages may be installed.
    pub root: bool,
    /// Whether apt's lists have been fetched in this run.
    pub refreshed: bool,
    /// Whether there is a C++ compiler, which brings the library that bpf-linker links to.
    pub cxx: bool,
}

/// A tool chain that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Compiles the kernel crate.
    pub compiler: Compiler,
    /// Links it.
    pub linker: Linker,
}
