//! Where operators' words are kept while the record book does not take them: a file whose room is taken
//! while there is some, and which is written in place. So a full disk does not keep whoever was
//! suspended by mistake from being free after the next reboot.
//!
//! Two halves are written in turn, each with a checksum and a number: what was on the disk last is there
//! whenever power fails.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::later::Owed;
use crate::system::sealed::{Sealed, SealedError};

/// Room for some hundred words, bytes.
const HALF: usize = 128 << 10;

/// The file, and its form.
const FILE: Sealed = Sealed {
    name: "words.owed",
    magic: "limiter-words 1",
};

/// One half.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Half {
    number: u64,
    words: Vec<Owed>,
}

/// The file.
#[derive(Debug)]
pub struct Slate {
    path: PathBuf,
    file: Option<File>,
    /// The number of the half that was written last.
    number: u64,
}

/// What is kept in `state_dir`, for whoever has no record book. What cannot be read is told when there is
/// one.
#[must_use]
pub fn owed(state_dir: &Path) -> Vec<Owed> {
    let slate = Slate {
        path: FILE.path(state_dir),
        file: None,
        number: 0,
    };
    slate.read().unwrap_or_default().words
}

impl Slate {
    /// Reads what was kept in `state_dir`, and takes the room.
    ///
    /// # Errors
    ///
    /// Beside the slate: what is there cannot be read. It is written over.
    pub fn open(state_dir: &Path) -> (Self, Vec<Owed>, Option<SealedError>) {
        let mut slate = Self {
            path: FILE.path(state_dir),
            file: None,
            number: 0,
        };
        let (last, broken) = match slate.read() {
            Ok(last) => (last, None),
            Err(why) => (Half::default(), Some(why)),
        };
        slate.number = last.number;
        // Without room now, it is tried again when there is something to write.
        let _ = slate.reserve();
        (slate, last.words, broken)
    }

    fn read(&self) -> Result<Half, SealedError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Half::default()),
            Err(source) => {
                return Err(SealedError::Unreadable {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let mut last: Option<Half> = None;
        let mut broken = None;
        for half in bytes.chunks(HALF) {
            let length = half
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            if length == 0 {
                continue;
            }
            match FILE.decode::<Half>(&half[..length]) {
                Ok(half) if last.as_ref().is_none_or(|it| it.number < half.number) => {
                    last = Some(half);
                }
                Ok(_) => {}
                Err(why) => broken = Some(why),
            }
        }
        match (last, broken) {
            // The other half was being written when power failed.
            (Some(last), _) => Ok(last),
            (None, Some(why)) => Err(why),
            (None, None) => Ok(Half::default()),
        }
    }

    /// Takes the room of both halves, if it is not taken.
    fn reserve(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&self.path)?;
                let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
                if length < 2 * HALF {
                    // Written, and not only promised: some file systems give room late.
                    let blank = vec![0; 2 * HALF - length];
                    let mut end = OpenOptions::new().append(true).open(&self.path)?;
                    end.write_all(&blank)?;
                    file.sync_all()?;
                    if let Some(directory) = self.path.parent() {
                        File::open(directory)?.sync_all()?;
                    }
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Keeps these words in the place of those before, on the disk when this returns.
    ///
    /// # Errors
    ///
    /// They cannot be written, or are too many: those before are still there.
    pub fn keep(&mut self, words: &[Owed]) -> io::Result<()> {
        let half = Half {
            number: self.number + 1,
            words: words.to_vec(),
        };
        let mut bytes = FILE.encode(&half)?;
        if bytes.len() > HALF {
            let many = format!("{} words do not fit into {HALF} bytes", words.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, many));
        }
        bytes.resize(HALF, 0);
        let at = if half.number.is_multiple_of(2) {
            0
        } else {
            HALF
        };
        let at = u64::try_from(at).unwrap_or_default();
        let file = self.reserve()?;
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        self.number = half.number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::court::spare::{Kept, WITHOUT_BOOK};
    use crate::offence::{Moment, Sanction, Signal, Word};

    fn word(number: u64) -> Owed {
        Owed {
            key: number.to_string(),
            signal: Signal::Word {
                tenant: "alice".to_owned(),
                word: Word::Lift(Sanction::BlockSmtp),
                by: "root".to_owned(),
            },
            by: Some(serde_json::json!({ "uid": 0 })),
            reason: Some("by mistake".to_owned()),
            said: Moment(number),
            wall: Moment(number),
        }
    }

    #[test]
    fn what_was_kept_is_there_whatever_is_torn() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Slate::open(directory.path());
        let (mut slate, words, broken) = open();
        assert!(words.is_empty() && broken.is_none());
        slate.keep(&[word(1)]).unwrap();
        slate.keep(&[word(1), word(2)]).unwrap();
        let length = std::fs::metadata(&slate.path).unwrap().len();
        assert_eq!(length, 2 * HALF as u64, "no more room than was taken");
        assert_eq!(open().1, [word(1), word(2)]);
        // Power fails in the middle of the next.
        slate.keep(&[word(3)]).unwrap();
        let file = slate.file.as_ref().unwrap();
        file.write_all_at(b"????", HALF as u64 + 30).unwrap();
        let (mut slate, words, broken) = open();
        assert_eq!(words, [word(1), word(2)]);
        assert!(broken.is_none());
        slate.keep(&[]).unwrap();
        let (mut slate, words, _) = open();
        assert!(words.is_empty());
        // Too many: those before stay.
        slate.keep(&[word(4)]).unwrap();
        let many: Vec<Owed> = (0..10_000).map(word).collect();
        assert!(slate.keep(&many).is_err());
        assert_eq!(open().1, [word(4)]);
    }

    #[test]
    fn without_a_book_it_is_carried_into_what_the_copy_says() {
        let kept = |tenant: &str, cases: &[&str], reason: &str| Kept {
            tenant: tenant.to_owned(),
            sanction: Sanction::BlockSmtp,
            until: None,
            ends: None,
            cases: cases.iter().map(|it| (*it).to_owned()).collect(),
            reason: reason.to_owned(),
        };
        let directory = tempfile::tempdir().unwrap();
        let (mut slate, ..) = Slate::open(directory.path());
        let suspended = Owed {
            signal: Signal::Suspend {
                tenant: "carol".to_owned(),
                sanction: Sanction::BlockSmtp,
                length: None,
                reason: "spam".to_owned(),
                by: "root".to_owned(),
            },
            ..word(2)
        };
        slate.keep(&[word(1), suspended]).unwrap();
        let mut all = vec![
            kept("alice", &["hostup/1"], "case"),
            kept("bob", &[], "other"),
        ];
        for word in owed(directory.path()) {
            word.carry_into(&mut all);
        }
        let names: Vec<&str> = all.iter().map(|it| it.tenant.as_str()).collect();
        assert_eq!(names, ["bob", "carol"]);
        // Said after it.
        let mut later = vec![kept("alice", &[], WITHOUT_BOOK)];
        word(1).carry_into(&mut later);
        assert_eq!(later.len(), 1);
    }

    #[test]
    fn nonsense_is_said() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(FILE.path(directory.path()), "nonsense").unwrap();
        let (mut slate, words, broken) = Slate::open(directory.path());
        assert!(words.is_empty() && broken.is_some());
        slate.keep(&[word(1)]).unwrap();
        assert_eq!(Slate::open(directory.path()).1, [word(1)]);
    }
}
