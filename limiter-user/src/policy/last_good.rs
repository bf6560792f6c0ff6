//! The last good policy: kept in the state directory, and gone by when the files are bad.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::model::Policy;
use crate::system::durable;

/// Its name in the state directory.
const NAME: &str = "last-good-policy.json";

/// Where it is kept.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

/// Keeps a policy as the last good one: whole, or not at all.
///
/// # Errors
///
/// The state directory cannot be written.
pub fn keep(policy: &Policy) -> io::Result<()> {
    let state_dir = &policy.places.state_dir;
    let path = path(state_dir);
    let text = serde_json::to_vec(policy)?;
    if fs::read(&path).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    durable::replace(&path, &text)
}

/// The policy that is kept, if there is one.
///
/// # Errors
///
/// It cannot be read, or is of another version.
pub fn load(state_dir: &Path) -> io::Result<Option<Policy>> {
    match fs::read(path(state_dir)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("limiter.yaml");
        fs::write(&config, "state_dir: state\nmode: enforce\n").unwrap();
        let policy = crate::policy::load(&config).policy.unwrap();
        assert!(load(&policy.places.state_dir).unwrap().is_none());
        keep(&policy).unwrap();
        keep(&policy).unwrap();
        assert_eq!(
            load(&policy.places.state_dir).unwrap(),
            Some(policy.clone())
        );
        fs::write(path(&policy.places.state_dir), "{").unwrap();
        assert!(load(&policy.places.state_dir).is_err());
    }
}
