//! `cargo xtask test vm`: the product on other kernels, in virtual machines.
//!
//! Kernels are unpacked from Debian's packages and run by qemu without hardware acceleration, with
//! this machine's own programs around them. Nothing of them is installed, and no network reaches
//! out of a machine.

mod checks;
mod cpio;
mod image;
mod kernels;
mod machine;
mod mirror;
mod modules;
mod report;
mod summary;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::checks::Test;
use self::kernels::{KERNELS, Wanted};
use self::mirror::Mirror;
use self::report::Outcome;
use self::summary::{NotRun, Row};
use crate::run::{progress, say};
use crate::test;
use crate::workspace;

/// A kernel that was fetched.
struct Kernel {
    release: String,
    unpacked: PathBuf,
}

/// What to try, and where.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Kernels; if none is named, all that the product promises to run on.
    pub versions: Vec<String>,
    /// Only tests whose program and name contain this.
    pub only: String,
    /// How many machines run at once.
    pub at_once: usize,
    /// How long each may run.
    pub patience: Duration,
}

/// Runs the tests on the kernels and prints what came of each.
///
/// # Errors
/// When not root, when something needed cannot be had, when a kernel cannot be fetched, or when a
/// test fails on one.
pub fn run(selection: &Selection) -> Result<()> {
    let Selection {
        versions,
        only,
        at_once,
        patience,
    } = selection;
    let tests = checks::tests(only);
    if tests.is_empty() {
        bail!("no test that is run on every kernel is called anything like `{only}`");
    }
    test::needs_root("virtual machines are packed from files that are root's alone")?;
    let mut wanted: Vec<Wanted> = versions.iter().map(|version| Wanted(version)).collect();
    if wanted.is_empty() {
        wanted = KERNELS.to_vec();
    }
    if let Some(Wanted(odd)) = wanted.iter().find(|wanted| !wanted.makes_sense()) {
        bail!("`{odd}` is no version of a kernel: say something like 6.1, or newest");
    }
    tools::install()?;
    let place = workspace::virtual_machines();
    progress("fetching kernels");
    let kernels = fetch(&wanted, &place);
    let (agent, programs) = test::built()?;
    let common = place.join("common");
    progress("packing virtual machines");
    let built = image::Built {
        helpers: agent.with_file_name(""),
        agent,
        tests: programs,
    };
    image::gather(&built, &tests, &common)?;
    progress("running virtual machines");
    let rows = all(kernels, *at_once, |wanted, kernel| {
        let logs = place.join("logs").join(&wanted);
        let result = kernel
            .map_err(|error| NotRun::NotFetched(format!("{error:#}")))
            .and_then(|kernel| {
                let tried = try_on(&kernel, &tests, &common, &place, (&logs, *patience));
                tried.map_err(|error| NotRun::NotStarted(format!("{error:#}")))
            });
        Row {
            wanted,
            result,
            logs,
        }
    });
    print!("{}", summary::text(&rows));
    let bad = rows.iter().filter(|row| !row.good()).count();
    if bad > 0 {
        bail!("{bad} of {} kernels failed or were not tried", rows.len());
    }
    Ok(())
}

/// Fetches each kernel, or says why not.
fn fetch(wanted: &[Wanted], place: &Path) -> Vec<(String, Result<Kernel>)> {
    let mirror = Mirror::open(&place.join("apt"));
    let packages = match &mirror {
        Ok(mirror) => mirror.search(kernels::PATTERN),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    wanted
        .iter()
        .map(|wanted| {
            let kernel = match (&mirror, &packages) {
                (Ok(mirror), Ok(packages)) => unpack(*wanted, packages, mirror, place),
                (_, Err(error)) | (Err(error), _) => Err(anyhow::anyhow!("{error:#}")),
            };
            (wanted.0.to_owned(), kernel)
        })
        .collect()
}

/// Downloads a kernel and unpacks it, unless that was done before.
fn unpack(wanted: Wanted, packages: &[String], mirror: &Mirror, place: &Path) -> Result<Kernel> {
    let package = wanted
        .choose(packages)
        .with_context(|| format!("no package on the mirror is Linux {}", wanted.0))?;
    let release = kernels::release(package)
        .with_context(|| format!("{package} is not named as a kernel"))?
        .to_owned();
    let unpacked = place.join("kernels").join(&release);
    if unpacked.exists() {
        return Ok(Kernel { release, unpacked });
    }
    say(&format!("Fetching Linux {release}."));
    let mut all = vec![package.to_owned()];
    // Newer ones come in parts.
    all.extend(
        mirror
            .depends(package)
            .into_iter()
            .filter(|name| name.starts_with("linux-") && name.ends_with(&release))
            .filter(|name| !name.starts_with("linux-base")),
    );
    // With a suffix of its own, since a release has dots in it.
    let fresh = place.join("kernels").join(format!("{release}.new"));
    mirror.unpack(&all, &fresh)?;
    if !fresh.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", fresh.join("lib"))?;
    }
    fs::rename(&fresh, &unpacked)
        .with_context(|| format!("cannot move {} into place", fresh.display()))?;
    Ok(Kernel { release, unpacked })
}

/// Runs a machine with this kernel.
fn try_on(
    kernel: &Kernel,
    tests: &[Test],
    common: &Path,
    place: &Path,
    (logs, patience): (&Path, Duration),
) -> Result<Outcome> {
    let Kernel { release, unpacked } = kernel;
    let own = place.join("modules").join(release);
    modules::collect(unpacked, release, &own)?;
    let image = place.join(format!("image-{release}"));
    image::write(&[common, &own], &image)?;
    let kernel = [
        unpacked.join(format!("boot/vmlinuz-{release}")),
        unpacked.join(format!("lib/modules/{release}/vmlinuz")),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .with_context(|| format!("there is no kernel in the packages of Linux {release}"))?;
    let ran = machine::run(&kernel, &image, logs, patience);
    fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))?;
    let ran = ran?;
    say(&format!(
        "Linux {release} ran for {} s.",
        ran.took.as_secs()
    ));
    Ok(Outcome::read(&ran, tests))
}

/// Does `work` to each, so many at once; the results in the order of what there was to do.
fn all<T: Send, R: Send>(
    todo: Vec<(String, T)>,
    at_once: usize,
    work: impl Fn(String, T) -> R + Sync,
) -> Vec<R> {
    let todo = Mutex::new(todo.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, (name, thing))) = next else {
                        return;
                    };
                    let result = work(name, thing);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_and_stays_in_order() {
        let todo = (0..9).map(|n| (n.to_string(), n)).collect();
        let done = all(todo, 3, |name, n| format!("{name}{n}"));
        assert_eq!(done.join(" "), "00 11 22 33 44 55 66 77 88");
    }
}
