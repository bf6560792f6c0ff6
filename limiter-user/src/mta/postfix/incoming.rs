//! The queue file of a message that Postfix is just taking.
//!
//! cleanup(8) makes it in `incoming`; where that is spread over directories, by the first letters of the
//! id, or of its microseconds in the long form.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{Postfix, queue_file};
use crate::mta::Origin;

/// Longer ids are none.
const MOST_ID: usize = 64;
/// Directories are never deeper.
const DEEPEST: usize = 16;
/// Where a long id separates the time from the inode.
const LONG_SEPARATOR: u8 = b'z';
/// Letters of the time in a long id: seconds, microseconds.
const LONG_SECONDS: usize = 6;
const LONG_MICROSECONDS: usize = 4;

/// Where an instance of Postfix takes messages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mta) struct Incoming {
    directory: PathBuf,
}

impl Incoming {
    pub(in crate::mta) fn of(postfix: &Postfix) -> Self {
        Self {
            directory: postfix.queue.join("incoming"),
        }
    }

    /// Who brought the message `id` that is being taken; none if there is none of that name.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(in crate::mta) fn submitted(&self, id: &str) -> io::Result<Option<Origin>> {
        match self.open(id)? {
            Some(file) => queue_file::read_unfinished(file, id).map(Some),
            None => Ok(None),
        }
    }

    fn open(&self, id: &str) -> io::Result<Option<File>> {
        // A file's name is made of it.
        if !(1..=MOST_ID).contains(&id.len()) || !id.bytes().all(|it| it.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let mut path = self.directory.clone();
        let mut letters = hash(id).into_bytes().into_iter();
        for _ in 0..=DEEPEST {
            match open(&path.join(id)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map(Some),
            }
            // What is too short goes on with underscores.
            path.push(char::from(letters.next().unwrap_or(b'_')).to_string());
            if !path.is_dir() {
                break;
            }
        }
        Ok(None)
    }
}

/// Opens a file that is one.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// By which letters an id is put into directories.
fn hash(id: &str) -> String {
    let time = LONG_SECONDS + LONG_MICROSECONDS;
    let separator = id.bytes().rposition(|byte| byte == LONG_SEPARATOR);
    match separator.filter(|&at| at >= time) {
        None => id.to_owned(),
        Some(at) => {
            let digits = id.get(at - LONG_MICROSECONDS..at).unwrap_or_default();
            let micros = digits
                .bytes()
                .try_fold(0_u64, |sum, digit| Some(sum * 52 + value(digit)?));
            format!("{:05X}", micros.unwrap_or(0))
        }
    }
}

/// The value of a digit in Postfix's alphabet: digits and consonants.
fn value(digit: u8) -> Option<u64> {
    const ALPHABET: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    let at = ALPHABET.iter().position(|&it| it == digit)?;
    u64::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_found_however_they_are_spread() {
        let root = tempfile::tempdir().unwrap();
        let incoming = Incoming {
            directory: root.path().to_path_buf(),
        };
        // As postconf(5) and Postfix's own tests have them.
        for (id, place) in [
            ("A53F8AC21F2", "A53F8AC21F2"),
            ("B53F8AC21F2", "B/5/B53F8AC21F2"),
            ("3Zc8Bq6T0GzcWb", "3Zc8Bq6T0GzcWb"),
        ] {
            let path = root.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert!(incoming.open(id).unwrap().is_some(), "{id}");
        }
        assert!(incoming.open("C53F8AC21F2").unwrap().is_none());
        for bad in ["", "../x", "B", "B/5/B53F8AC21F2", ".", &"A".repeat(65)] {
            assert!(incoming.open(bad).unwrap().is_none(), "{bad}");
        }
        // An empty file is an error, not nobody's.
        assert!(incoming.submitted("A53F8AC21F2").is_err());
    }

    #[test]
    fn long_ids_are_spread_by_their_microseconds() {
        assert_eq!(hash("A53F8AC21F2"), "A53F8AC21F2");
        // 6, 25, 0 and 14 in base 52.
        assert_eq!(hash("3Zc8Bq6T0GzcWb"), "DE79E");
        // Too short to be one.
        assert_eq!(hash("12345z6"), "12345z6");
    }
}
