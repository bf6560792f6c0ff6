//! Files of the agent's own that say whether they are whole: a line that says what it is, of which
//! version, how long and with which checksum; then JSON.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::durable;

/// One kind of such files.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    /// Its name in the state directory.
    pub name: &'static str,
    /// What it is, and the version of its form.
    pub magic: &'static str,
}

/// Why such a file cannot be used.
#[derive(Debug, Error)]
pub enum SealedError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none, or not whole.
    #[error("{what}")]
    Broken {
        /// What is wrong with it.
        what: String,
    },
}

impl Sealed {
    /// A value as bytes.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn encode<T: Serialize>(&self, value: &T) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(value)?;
        let (sum, length) = (crc32fast::hash(&body), body.len());
        let mut bytes = format!("{} {length} {sum:08x}\n", self.magic).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// The value in these bytes.
    ///
    /// # Errors
    ///
    /// [`SealedError::Broken`]: another version, cut off, changed.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, SealedError> {
        let broken = |what: String| SealedError::Broken { what };
        let end = bytes.iter().take(80).position(|byte| *byte == b'\n');
        let Some(end) = end else {
            let magic = self.magic;
            return Err(broken(format!("it does not begin with {magic:?}")));
        };
        let (line, body) = (&bytes[..end], &bytes[end + 1..]);
        let sum = crc32fast::hash(body);
        let wanted = format!("{} {} {sum:08x}", self.magic, body.len());
        if line != wanted.as_bytes() {
            let found = String::from_utf8_lossy(line);
            return Err(broken(format!(
                "it is not whole, or of another version: it begins with {found:?}, what is there \
                 would need {wanted:?}"
            )));
        }
        serde_json::from_slice(body).map_err(|why| broken(format!("it makes no sense: {why}")))
    }

    /// Where it is kept.
    #[must_use]
    pub fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(self.name)
    }

    /// Keeps a value in the place of the last one. Gives its length, bytes.
    ///
    /// # Errors
    ///
    /// The state directory cannot be written: the last one is still there.
    pub fn keep<T: Serialize>(&self, state_dir: &Path, value: &T) -> io::Result<usize> {
        let bytes = self.encode(value)?;
        durable::replace(&self.path(state_dir), &bytes)?;
        Ok(bytes.len())
    }

    /// The value that is kept, if there is one.
    ///
    /// # Errors
    ///
    /// [`SealedError`].
    pub fn load<T: DeserializeOwned>(&self, state_dir: &Path) -> Result<Option<T>, SealedError> {
        let path = self.path(state_dir);
        match fs::read(&path) {
            Ok(bytes) => self.decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SealedError::Unreadable { path, source }),
        }
    }

    /// Moves what cannot be used out of the way of the next, for whoever wants to look at it.
    /// Gives where it is now.
    ///
    /// # Errors
    ///
    /// The state directory cannot be written.
    pub fn set_aside(&self, state_dir: &Path) -> io::Result<PathBuf> {
        let aside = self.path(state_dir).with_extension("broken");
        fs::rename(self.path(state_dir), &aside)?;
        Ok(aside)
    }
}
