//! `cargo xtask doctor`: what is here to build and test with, in plain words.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::programs;
use crate::toolchain::plan::{Plan, misfit, plan, unusable};
use crate::toolchain::{Facts, LinkerLlvm, find};
use crate::workspace;

/// Prints everything found.
///
/// # Errors
/// When a build cannot work; the error says what is missing.
pub fn doctor() -> Result<()> {
    let facts = find::facts(false);
    let plan = plan(&facts);
    println!("To build");
    compilers(&facts, &plan);
    linker(&facts);
    println!("  {:<14}{}", "object", object());
    println!("To run and to test");
    kernel();
    println!(
        "  {:<14}{}",
        "root",
        if facts.root {
            "yes"
        } else {
            "no: needed to run and test"
        }
    );
    let missing = programs::missing();
    println!(
        "  {:<14}{}",
        "mail programs",
        if missing.is_empty() {
            "all there".to_owned()
        } else {
            format!(
                "missing: {} (`cargo xtask test` installs them)",
                missing.join(", ")
            )
        }
    );
    match plan {
        Plan::Ready(toolchain) => {
            println!(
                "A build can work, with {} and {}.",
                toolchain.compiler.rustc.display(),
                toolchain.linker.path.display()
            );
            Ok(())
        }
        Plan::Install { missing, .. } => bail!(
            "a build cannot work yet; missing: {}. `cargo xtask setup` installs it.",
            missing.join("; ")
        ),
        Plan::Refresh => bail!(
            "a build cannot work yet: the tool chain is incomplete and apt's lists do not name \
             what is missing. `cargo xtask setup` fetches them."
        ),
        Plan::Impossible { missing, why } => {
            bail!(
                "a build cannot work; missing: {}; {why}",
                missing.join("; ")
            )
        }
    }
}

fn compilers(facts: &Facts, plan: &Plan) {
    for compiler in &facts.compilers {
        let chosen = matches!(plan, Plan::Ready(chain) if chain.compiler == *compiler);
        println!(
            "  {:<14}{} ({}), LLVM {}, {}{}",
            "compiler",
            compiler.version.text,
            compiler.rustc.display(),
            compiler.version.llvm,
            compiler.origin,
            match unusable(compiler) {
                Some(why) => format!(": not for the kernel crate, {why}"),
                None if chosen => ": builds the kernel crate".to_owned(),
                None => ": could build the kernel crate".to_owned(),
            }
        );
    }
    if facts.compilers.is_empty() {
        println!("  {:<14}none", "compiler");
    }
}

fn linker(facts: &Facts) {
    let Some(linker) = &facts.linker else {
        println!(
            "  {:<14}none: neither on PATH nor in cargo's bin directory",
            "bpf-linker"
        );
        return;
    };
    let llvm = match &linker.llvm {
        LinkerLlvm::Version(llvm) => format!("LLVM {llvm}"),
        LinkerLlvm::Gone(library) => format!("its library {library} is gone"),
        LinkerLlvm::Unknown => "LLVM unknown".to_owned(),
    };
    println!(
        "  {:<14}{} ({}), {llvm}",
        "bpf-linker",
        linker.text.as_deref().unwrap_or("does not run"),
        linker.path.display()
    );
    for compiler in facts
        .compilers
        .iter()
        .filter(|compiler| unusable(compiler).is_none())
    {
        if let Some(why) = misfit(linker, compiler.version.llvm) {
            println!("  {:<14}{why} ({})", "", compiler.rustc.display());
        }
    }
}

fn object() -> String {
    let object = workspace::object();
    match fs::metadata(&object).map(|file| file.len()) {
        Ok(0) | Err(_) => "not built yet: `cargo xtask build`".to_owned(),
        Ok(bytes) => format!("{} ({bytes} bytes)", object.display()),
    }
}

fn kernel() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("  {:<14}{}", "kernel", release.trim());
    let btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    println!(
        "  {:<14}{}",
        "BTF",
        if btf {
            "yes"
        } else {
            "no: this kernel was built without CONFIG_DEBUG_INFO_BTF"
        }
    );
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for (label, kind, help) in [
        (
            "cgroup v2",
            "cgroup2",
            "not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
        ("bpffs", "bpf", "not mounted: mount -t bpf bpf /sys/fs/bpf"),
    ] {
        let found = mounted(&mounts, kind);
        println!(
            "  {label:<14}{}",
            if found.is_empty() {
                help.to_owned()
            } else {
                found.join(", ")
            }
        );
    }
}

/// Where a kind of file system is mounted, by what `/proc/mounts` says.
fn mounted(mounts: &str, kind: &str) -> Vec<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let place = words.nth(1)?;
            (words.next()? == kind).then(|| place.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_mounts_by_kind_and_not_by_name() {
        let mounts = "bpf /srv/bpf tmpfs rw 0 0\n\
                      none /sys/fs/bpf bpf rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mounted(mounts, "bpf"), ["/sys/fs/bpf"]);
        assert_eq!(mounted(mounts, "cgroup2"), ["/sys/fs/cgroup/unified"]);
        assert!(mounted("", "bpf").is_empty());
    }
}
