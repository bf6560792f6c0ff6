//! A glob of files → the files, sorted.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::glob::{Glob, GlobError};

/// Why a glob cannot be expanded.
#[derive(Debug, Error)]
pub enum ExpandError {
    /// A part of it is not a glob.
    #[error("{0}")]
    Glob(#[from] GlobError),
    /// A directory cannot be listed.
    #[error("{directory} cannot be listed: {error}")]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A name that matches is not UTF-8.
    #[error("{0:?} matches, and its name is not UTF-8")]
    Name(PathBuf),
}

/// The files that the absolute glob `pattern` matches, sorted. Hidden ones only where the glob
/// itself names the dot; a directory that does not exist matches nothing, nor does an empty glob.
///
/// # Errors
///
/// Returns the first directory that cannot be listed, or what is wrong with the glob.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>, ExpandError> {
    if pattern.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let glob = Glob::new(part)?;
        let mut next = Vec::new();
        for path in found {
            match (part, glob.literal()) {
                (".", _) => next.push(path),
                (_, Some(name)) => next.push(path.join(name)),
                (_, None) => list(&path, &glob, &mut next)?,
            }
        }
        found = next;
    }
    // A literal last part need not exist; what was listed was there.
    let last = pattern.rsplit('/').find(|part| !part.is_empty());
    if last.is_some_and(|part| Glob::new(part).is_ok_and(|glob| glob.literal().is_some())) {
        found.retain(|path| path.symlink_metadata().is_ok());
    }
    Ok(found)
}

fn list(directory: &Path, glob: &Glob, found: &mut Vec<PathBuf>) -> Result<(), ExpandError> {
    let failed = |error| ExpandError::Io {
        directory: directory.to_owned(),
        error,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name());
    }
    // Directories come sorted, and so do all files then.
    names.sort_unstable();
    for name in names {
        let lossy = name.to_string_lossy();
        let hidden = lossy.starts_with('.') && !glob.names_hidden();
        if hidden || !glob.matches(&lossy) {
            continue;
        }
        let path = directory.join(&name);
        if name.to_str().is_none() {
            return Err(ExpandError::Name(path));
        }
        found.push(path);
    }
    Ok(())
}
