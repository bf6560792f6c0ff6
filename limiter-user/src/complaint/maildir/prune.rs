//! Removes what was dealt with long ago. Only names with limiter's mark are looked at: what somebody else
//! put into `cur/`, or took out of `new/` before it was read, has none.

use std::{io, os::unix::ffi::OsStrExt as _, time::SystemTime};

use super::{MaildirError, folder::Folder, scan::Maildir};

/// What limiter adds to the names of mails that it dealt with, before their flags.
pub(super) const MARK: &str = ",limiter";
/// How many files are removed in one go; the rest waits for the next one.
const MOST: usize = 10_000;

impl Maildir {
    /// Removes what was dealt with before [`keep`](Maildir::keeping) ago: from `cur/`, from `.Refused`,
    /// and the reasons there. Mails that somebody flagged stay. Returns how many files went.
    ///
    /// # Errors
    /// A directory cannot be read, or a file not be removed; the others are looked at all the same.
    pub fn prune(&self, now: SystemTime) -> Result<usize, MaildirError> {
        let Some(before) = now.checked_sub(self.keep()) else {
            return Ok(0);
        };
        let (cur, refused, reasons) = self.dealt_with()?;
        let mut removed = 0;
        let mut fault = None;
        for (folder, name, is_dealt_with) in [
            (&cur, "cur", is_marked as fn(&[u8]) -> bool),
            (&refused, ".Refused/cur", is_marked),
            (&reasons, ".Refused/reasons", is_reason),
        ] {
            let left = MOST.saturating_sub(removed);
            match prune(folder, before, left, is_dealt_with) {
                Ok(count) => removed += count,
                Err(source) => {
                    fault.get_or_insert(MaildirError::Directory {
                        doing: "remove old mail from",
                        path: self.path().join(name),
                        source,
                    });
                }
            }
        }
        fault.map_or(Ok(removed), Err)
    }
}

fn prune(
    folder: &Folder,
    before: SystemTime,
    most: usize,
    is_dealt_with: fn(&[u8]) -> bool,
) -> io::Result<usize> {
    let mut removed = 0;
    folder.each(|name| {
        if removed >= most {
            return Ok(false);
        }
        if is_dealt_with(name.as_bytes()) && folder.remove_if_older(name, before)? {
            removed += 1;
        }
        Ok(true)
    })?;
    Ok(removed)
}

/// Whether limiter dealt with the mail of this name, and nobody flagged it.
fn is_marked(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let (base, flags) = name.rsplit_once(":2,").unwrap_or((&name, ""));
    base.ends_with(MARK) && !flags.contains('F')
}

fn is_reason(name: &[u8]) -> bool {
    name.ends_with(b".txt")
}
