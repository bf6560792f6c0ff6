//! From facts to a decision. Nothing here looks at the machine.

use super::version::release;
use super::{
    Apt, Compiler, DEBIAN_CLIPPY, DEBIAN_COMPILER, DEBIAN_SOURCES, Facts, LINKER_LLVMS,
    LINKER_VERSION, Linker, LinkerLlvm, OLDEST_RUSTC, Toolchain,
};

/// One thing that setup does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Install these Debian packages.
    Packages(Vec<String>),
    /// Build bpf-linker on this LLVM; over an older one if there is one.
    Linker {
        /// The major version.
        llvm: u32,
        /// Whether a bpf-linker that does not fit is there already.
        replace: bool,
    },
}

/// What is to be done about the tool chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: this one works.
    Ready(Box<Toolchain>),
    /// These steps, in this order, because this is missing.
    Install {
        /// What is missing, one sentence each.
        missing: Vec<String>,
        /// What helps.
        steps: Vec<Step>,
    },
    /// Fetch apt's lists, then decide again: a package is unknown.
    Refresh,
    /// It cannot be done from here.
    Impossible {
        /// What is missing, one sentence each.
        missing: Vec<String>,
        /// Why it cannot be installed, and what a person can do.
        why: String,
    },
}

/// Decides.
pub fn plan(facts: &Facts) -> Plan {
    let usable: Vec<&Compiler> = facts
        .compilers
        .iter()
        .filter(|c| unusable(c).is_none())
        .collect();
    if let Some(linker) = &facts.linker
        && let Some(compiler) = usable
            .iter()
            .find(|c| misfit(linker, c.version.llvm).is_none())
    {
        return Plan::Ready(Box::new(Toolchain {
            compiler: (*compiler).clone(),
            linker: linker.clone(),
        }));
    }
    let missing = missing(facts, &usable);
    match steps(facts, &usable) {
        Ok(steps) => Plan::Install { missing, steps },
        Err(Obstacle::UnknownPackage(_)) if facts.root && !facts.refreshed => Plan::Refresh,
        Err(obstacle) => Plan::Impossible {
            missing,
            why: obstacle.why(),
        },
    }
}

/// What keeps setup from installing what is missing.
enum Obstacle {
    NoApt,
    NotRoot,
    UnknownPackage(String),
    CompilerTooOld(String),
    NoLinkerFor(u32),
}

impl Obstacle {
    fn why(&self) -> String {
        let by_hand = format!(
            "`rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker \
             --version {LINKER_VERSION} --locked`, with an LLVM not older than the compiler's, do \
             it by hand"
        );
        match self {
            Self::NoApt => format!("there is no apt here to install it with; {by_hand}"),
            Self::NotRoot => {
                "installing packages needs root; run `cargo xtask setup` as root".into()
            }
            Self::UnknownPackage(name) => {
                format!("apt offers no package {name} (bookworm-security has it); {by_hand}")
            }
            Self::CompilerTooOld(version) => format!(
                "apt offers {DEBIAN_COMPILER} {version}, and {OLDEST_RUSTC} is needed; {by_hand}"
            ),
            Self::NoLinkerFor(llvm) => format!(
                "bpf-linker {LINKER_VERSION} cannot be built on LLVM {llvm}, which the compiler \
                 needs; use a compiler with LLVM {} at most",
                LINKER_LLVMS.iter().max().copied().unwrap_or_default()
            ),
        }
    }
}

/// Why a compiler cannot build the kernel crate.
pub fn unusable(compiler: &Compiler) -> Option<String> {
    if compiler.version.release < OLDEST_RUSTC {
        return Some(format!("is older than {OLDEST_RUSTC}"));
    }
    if compiler.sources.is_none() {
        return Some("lacks the sources of the standard library".into());
    }
    None
}

/// Why a linker cannot link what a compiler with this LLVM emits.
pub fn misfit(linker: &Linker, compiler_llvm: u32) -> Option<String> {
    if linker.text.is_none() {
        let because = match &linker.llvm {
            LinkerLlvm::Gone(library) => format!(": its library {library} is gone"),
            LinkerLlvm::Version(_) | LinkerLlvm::Unknown => String::new(),
        };
        return Some(format!("{} does not run{because}", linker.path.display()));
    }
    match &linker.llvm {
        LinkerLlvm::Version(llvm) if *llvm < compiler_llvm => Some(format!(
            "{} is built on LLVM {llvm} and cannot read what a compiler with LLVM {compiler_llvm} \
             emits",
            linker.path.display()
        )),
        LinkerLlvm::Gone(library) => Some(format!(
            "{} lacks its library {library}",
            linker.path.display()
        )),
        LinkerLlvm::Version(_) | LinkerLlvm::Unknown => None,
    }
}

fn missing(facts: &Facts, usable: &[&Compiler]) -> Vec<String> {
    let mut missing = Vec::new();
    if usable.is_empty() {
        let found: Vec<String> = facts
            .compilers
            .iter()
            .filter_map(|c| {
                unusable(c)
                    .map(|why| format!("{} ({}) {why}", c.rustc.display(), c.version.release))
            })
            .collect();
        let found = if found.is_empty() {
            "none found".to_owned()
        } else {
            found.join("; ")
        };
        missing.push(format!("a Rust compiler for the kernel programs: {found}"));
    }
    match (&facts.linker, usable.first()) {
        (None, _) => missing.push("bpf-linker: not on PATH, not in cargo's bin directory".into()),
        (Some(linker), Some(compiler)) => {
            if let Some(why) = misfit(linker, compiler.version.llvm) {
                missing.push(format!(
                    "a fitting bpf-linker: {why} ({})",
                    compiler.rustc.display()
                ));
            }
        }
        (Some(linker), None) => {
            if let Some(why) = coming_llvm(facts).and_then(|llvm| misfit(linker, llvm)) {
                missing.push(format!("a fitting bpf-linker: {why}"));
            }
        }
    }
    missing
}

fn coming_llvm(facts: &Facts) -> Option<u32> {
    facts.apt.as_ref()?.compiler_llvm
}

fn steps(facts: &Facts, usable: &[&Compiler]) -> Result<Vec<Step>, Obstacle> {
    let apt = facts.apt.as_ref().ok_or(Obstacle::NoApt)?;
    let mut packages = Vec::new();
    // A compiler that is ahead of every linker that can be built is as good as none.
    let newest = LINKER_LLVMS.iter().max().copied().unwrap_or_default();
    let served = usable
        .iter()
        .find(|compiler| compiler.version.llvm <= newest);
    let llvm = match served {
        Some(compiler) => compiler.version.llvm,
        None => {
            packages.push(offered(apt, DEBIAN_COMPILER)?);
            packages.push(offered(apt, DEBIAN_SOURCES)?);
            // Wanted for linting, and no reason to fail.
            packages.extend(offered(apt, DEBIAN_CLIPPY));
            let version = apt
                .offered
                .get(DEBIAN_COMPILER)
                .map(String::as_str)
                .unwrap_or_default();
            if release(version).is_none_or(|offered| offered < OLDEST_RUSTC) {
                // Lists from before the newer compiler came are as good as none.
                return Err(if facts.refreshed {
                    Obstacle::CompilerTooOld(version.to_owned())
                } else {
                    Obstacle::UnknownPackage(DEBIAN_COMPILER.into())
                });
            }
            apt.compiler_llvm
                .ok_or_else(|| Obstacle::UnknownPackage(DEBIAN_COMPILER.into()))?
        }
    };
    let fits = facts
        .linker
        .as_ref()
        .is_some_and(|linker| misfit(linker, llvm).is_none());
    let mut linker = None;
    if !fits {
        let mut candidates = LINKER_LLVMS.into_iter().filter(|v| *v >= llvm).peekable();
        let nearest = *candidates.peek().ok_or(Obstacle::NoLinkerFor(llvm))?;
        let chosen = candidates
            .find(|v| offered(apt, &llvm_package(*v)).is_ok())
            .ok_or_else(|| Obstacle::UnknownPackage(llvm_package(nearest)))?;
        packages.push(llvm_package(chosen));
        packages.push(offered(apt, &polly_package(chosen))?);
        if !facts.cxx {
            packages.push("g++".into());
        }
        linker = Some(Step::Linker {
            llvm: chosen,
            replace: facts.linker.is_some(),
        });
    }
    packages.retain(|package| !apt.installed.contains(package));
    let mut steps = Vec::new();
    if !packages.is_empty() {
        if !facts.root {
            return Err(Obstacle::NotRoot);
        }
        steps.push(Step::Packages(packages));
    }
    steps.extend(linker);
    Ok(steps)
}

/// The package with the headers of an LLVM.
pub fn llvm_package(llvm: u32) -> String {
    format!("llvm-{llvm}-dev")
}

/// The package with the optimiser that an LLVM's link line names.
pub fn polly_package(llvm: u32) -> String {
    format!("libpolly-{llvm}-dev")
}

fn offered(apt: &Apt, package: &str) -> Result<String, Obstacle> {
    if apt.offered.contains_key(package) || apt.installed.contains(package) {
        Ok(package.to_owned())
    } else {
        Err(Obstacle::UnknownPackage(package.to_owned()))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
