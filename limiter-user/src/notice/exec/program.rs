//! Whether a program is safe to run, and as whom.

use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Uid, User};

/// The uid and gid of a user.
///
/// # Errors
/// When there is none, or the name service does not answer.
pub(in crate::notice) fn user(name: &str) -> Result<(u32, u32), String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(None) => Err(format!("notices.exec: there is no user {name}")),
        Err(error) => Err(format!(
            "notices.exec: cannot look the user {name} up: {error}"
        )),
    }
}

/// Checks that nobody but root (and whoever runs the agent) chooses what is run: the file and
/// every directory above it. `uid` is who will run it.
///
/// # Errors
/// What is wrong, and with which file.
pub(in crate::notice) fn check(program: &Path, uid: u32) -> Result<(), String> {
    let wrong = |path: &Path, what: &str| Err(format!("notices.exec: {} {what}", path.display()));
    if !program.is_absolute() {
        return wrong(program, "is not an absolute path");
    }
    // Where links lead is what counts; each directory on the way there is looked at too.
    let real = program
        .canonicalize()
        .map_err(|error| format!("notices.exec: {}: {error}", program.display()))?;
    let own = Uid::effective().as_raw();
    for path in ways(program).into_iter().chain(ways(&real)) {
        let meta = path
            .metadata()
            .map_err(|error| format!("notices.exec: {}: {error}", path.display()))?;
        // A user may be given a program of its own, unless it could run it as somebody else.
        let owners = [0, own, uid];
        if !owners.contains(&meta.uid()) {
            return wrong(&path, "belongs to somebody else");
        }
        let sticky = meta.is_dir() && meta.mode() & libc::S_ISVTX != 0;
        if meta.mode() & 0o022 != 0 && !sticky {
            return wrong(&path, "can be written by others; chmod go-w");
        }
    }
    let meta = real
        .metadata()
        .map_err(|error| format!("notices.exec: {}: {error}", real.display()))?;
    if !meta.is_file() {
        return wrong(&real, "is not a file");
    }
    if meta.mode() & 0o111 == 0 {
        return wrong(&real, "cannot be executed; chmod +x");
    }
    Ok(())
}

/// A path and everything above it.
fn ways(path: &Path) -> Vec<PathBuf> {
    let mut so_far = PathBuf::new();
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| {
            so_far.push(OsStr::new(part.as_os_str()));
            so_far.clone()
        })
        .collect()
}
