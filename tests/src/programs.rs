//! The programs that the tests need, and where they are.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The product: `LIMITER_BIN`, or what cargo last built beside this program.
#[must_use]
pub fn limiter() -> PathBuf {
    if let Some(path) = env::var_os("LIMITER_BIN") {
        return PathBuf::from(path);
    }
    beside("limiter").unwrap_or_else(|| {
        panic!("the product is not built: run `cargo xtask build`, or set LIMITER_BIN")
    })
}

/// Copies a sending program to where every user can execute it.
pub fn copy_sender(name: &str, to: &Path) {
    let from =
        beside(name).unwrap_or_else(|| panic!("{name} is not built: cargo build -p limiter-tests"));
    copy(&from, to, 0o755);
}

/// Copies a program, with this mode.
///
/// By a process of its own: a file that is open for writing here may be inherited by a process
/// that another test starts at the same moment, and a program open for writing cannot be executed.
pub fn copy(from: &Path, to: &Path, mode: u32) {
    let mut command = Command::new("cp");
    let copied = command.arg(from).arg(to).status().expect("cp is installed");
    assert!(copied.success(), "{from:?} cannot be copied to {to:?}");
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// The unpacked Exim packages: Exim and Postfix cannot be installed together.
///
/// `LIMITER_TEST_PROGRAMS/exim`, or `target/test-programs/exim`.
#[must_use]
pub fn exim() -> PathBuf {
    let programs = env::var_os("LIMITER_TEST_PROGRAMS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs"),
        PathBuf::from,
    );
    let exim = programs.join("exim/usr/sbin/exim4");
    assert!(
        exim.exists(),
        "there is no Exim at {exim:?}: run `cargo xtask setup`"
    );
    exim
}

/// A program that cargo built into the directory of this one, or the one above.
fn beside(name: &str) -> Option<PathBuf> {
    let this = env::current_exe().expect("a program knows its own path");
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
