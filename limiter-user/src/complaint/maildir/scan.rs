//! A look through a Maildir.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::{Desk, Mail, MaildirError, Verdict, folder::Folder, prune::MARK};
use crate::complaint::{limits::Limits, read::read_open, refusal::Refusal};

/// The most mails of a look; the rest waits for the next one.
const MOST_MAILS: usize = 10_000;
/// Where what cannot be used goes, as Maildir++ names folders.
const REFUSED: &str = ".Refused";

/// A Maildir.
#[derive(Clone, Debug)]
pub struct Maildir {
    path: PathBuf,
    limits: Limits,
    /// How long what was dealt with is kept.
    keep: Duration,
}

/// Its directories, open.
struct Open {
    new: Folder,
    cur: Folder,
    refused: Folder,
    reasons: Folder,
}

impl Maildir {
    /// The Maildir at `path`, of which mails are read within `limits`, and kept for ever.
    #[must_use]
    pub const fn new(path: PathBuf, limits: Limits) -> Self {
        Self {
            path,
            limits,
            keep: Duration::MAX,
        }
    }

    /// The same; what was dealt with is kept for so long.
    #[must_use]
    pub fn keeping(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    pub(super) const fn keep(&self) -> Duration {
        self.keep
    }

    /// Where mails go that were dealt with: the used ones, the refused ones, and why those were.
    pub(super) fn dealt_with(&self) -> Result<(Folder, Folder, Folder), MaildirError> {
        let open = self.open()?;
        Ok((open.cur, open.refused, open.reasons))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn new_folder(&self) -> Result<Folder, MaildirError> {
        self.directory("open", "", Folder::open(&self.path))
            .and_then(|top| self.directory("open", "new", top.below("new")))
    }

    /// Hands every mail in `new/` to `desk`. Returns how many went there. What goes wrong with one
    /// does not keep the others; the first fault is told.
    ///
    /// # Errors
    /// A Maildir that cannot be used, mails that cannot be moved, a desk that takes nothing.
    pub fn look(&self, desk: &mut dyn Desk) -> Result<usize, MaildirError> {
        let open = self.open()?;
        let names = self.directory("read", "new", open.new.names(MOST_MAILS))?;
        let mut taken = 0;
        let mut fault = None;
        for (number, name) in names.iter().enumerate() {
            match self.one(&open, name, desk) {
                Ok(true) => taken += 1,
                Ok(false) => {}
                Err(Fault::Later(why)) => {
                    // Who cannot take this one cannot take the next.
                    return Err(MaildirError::Waiting {
                        count: names.len() - number,
                        path: self.path.clone(),
                        why,
                    });
                }
                Err(Fault::Mail(doing, source)) => {
                    fault.get_or_insert(MaildirError::Mail {
                        doing,
                        name: name.to_string_lossy().into_owned(),
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
        fault.map_or(Ok(taken), Err)
    }

    fn open(&self) -> Result<Open, MaildirError> {
        let top = self.directory("open", "", Folder::open(&self.path))?;
        let refused = self.directory("make", REFUSED, top.made_below(REFUSED))?;
        for name in ["new", "tmp"] {
            self.directory("make", REFUSED, refused.made_below(name))?;
        }
        Ok(Open {
            new: self.directory("open", "new", top.below("new"))?,
            cur: self.directory("make", "cur", top.made_below("cur"))?,
            reasons: self.directory("make", REFUSED, refused.made_below("reasons"))?,
            refused: self.directory("make", REFUSED, refused.made_below("cur"))?,
        })
    }

    fn directory<T>(
        &self,
        doing: &'static str,
        name: &str,
        result: io::Result<T>,
    ) -> Result<T, MaildirError> {
        result.map_err(|source| MaildirError::Directory {
            doing,
            path: self.path.join(name),
            source,
        })
    }

    /// Deals with one mail; whether there was one.
    fn one(&self, open: &Open, name: &OsStr, desk: &mut dyn Desk) -> Result<bool, Fault> {
        let stem = stem(name);
        let file = match open.new.file(name) {
            Ok(file) => file,
            // Somebody else took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return self.set_aside(open, name, &stem, NO_FILE, desk);
            }
            Err(error) if is_lasting(&error) => {
                let why = format!("It cannot be opened: {error}.");
                return self.set_aside(open, name, &stem, &why, desk);
            }
            Err(error) => return Err(Fault::Mail("open", error)),
        };
        let before = file
            .metadata()
            .map_err(|error| Fault::Mail("look at", error))?;
        if !before.is_file() {
            return self.set_aside(open, name, &stem, NO_FILE, desk);
        }
        let again = file
            .try_clone()
            .map_err(|error| Fault::Mail("open", error))?;
        let bytes = match read_open(file, &self.limits) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(refusal)) => {
                return self.set_aside(open, name, &stem, &explained(&refusal), desk);
            }
            Err(error) => {
                let why = format!("It cannot be read: {error}.");
                return self.set_aside(open, name, &stem, &why, desk);
            }
        };
        // Somebody who copies a file here instead of moving it may not be done yet.
        let after = again
            .metadata()
            .map_err(|error| Fault::Mail("look at", error))?;
        if (before.len(), before.mtime_nsec()) != (after.len(), after.mtime_nsec())
            || usize::try_from(after.len()).ok() != Some(bytes.len())
        {
            return Ok(false);
        }
        let mail = Mail {
            name: &stem,
            bytes: &bytes,
            delivered: before
                .modified()
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok()),
        };
        let moved = match desk.take(&mail).map_err(Fault::Later)? {
            Verdict::Filed => open
                .new
                .move_to(name, &open.cur, &stem, &format!("{MARK}:2,S")),
            Verdict::Refused(refusal) => {
                self.reason(open, &stem, &explained(&refusal))?;
                open.new
                    .move_to(name, &open.refused, &stem, &format!("{MARK}:2,"))
            }
        };
        match moved {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(Fault::Mail("move", error)),
        }
    }

    /// Moves what cannot be read to `.Refused`.
    fn set_aside(
        &self,
        open: &Open,
        name: &OsStr,
        stem: &str,
        why: &str,
        desk: &mut dyn Desk,
    ) -> Result<bool, Fault> {
        match open
            .new
            .move_to(name, &open.refused, stem, &format!("{MARK}:2,"))
        {
            Ok(stem) => {
                self.reason(open, &stem, why)?;
                desk.refused(&stem, why);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Fault::Mail("move", error)),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "belongs to the Maildir as the others do"
    )]
    fn reason(&self, open: &Open, stem: &str, why: &str) -> Result<(), Fault> {
        open.reasons
            .write(&format!("{stem}.txt"), &format!("{why}\n"))
            .map_err(|error| Fault::Mail("say why it refused", error))
    }
}

/// Why a mail could not be dealt with.
enum Fault {
    Later(super::Later),
    Mail(&'static str, io::Error),
}

const NO_FILE: &str =
    "It is no file but a link, a directory or the like: look at who put it there.";

/// Whether opening would fail again.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENXIO | libc::EACCES | libc::EPERM | libc::ENODEV | libc::ENAMETOOLONG)
    )
}

/// The reason and what to do, as a person reads it.
fn explained(refusal: &Refusal) -> String {
    format!(
        "Refused: {refusal}.\nWhat to do: {}.\n({})",
        refusal.advice(),
        refusal.word()
    )
}

/// A name without flags, in characters that no other program stumbles over.
fn stem(name: &OsStr) -> String {
    let name: OsString = name.to_owned();
    let name = name.to_string_lossy();
    let name = name.split(":2,").next().unwrap_or_default();
    let clean = |c: char| {
        if c.is_ascii_graphic() && !matches!(c, '/' | ':') {
            c
        } else {
            '_'
        }
    };
    name.chars().take(180).map(clean).collect()
}
