//! The system's journal, read by `journalctl`: what the mail server said to syslog, and who it was that said
//! it. The cursor of each entry is the position.
//!
//! The journal's files could be read without it, by libsystemd or by hand; but their format changes,
//! and the program comes with them.
//!
//! The kernel tells the journal which user made an entry (`_UID`), and so nobody speaks in the mail
//! server's name.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

use jiff::Timestamp;
use serde_json::Value;

/// Entries that wait to be taken; then the program waits.
const BACKLOG: usize = 4_096;
/// A longer entry is skipped, bytes.
const LONGEST: u64 = 256 << 10;
/// The facility `mail`.
const MATCH: &str = "SYSLOG_FACILITY=2";

/// What a mail server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the journal.
    pub cursor: String,
    /// When it was said.
    pub time: Timestamp,
    /// The user who said it.
    pub uid: Option<u32>,
    /// Which program it calls itself.
    pub tag: String,
    /// What.
    pub text: String,
}

/// The journal, followed by a program that ends when this is dropped.
#[derive(Debug)]
pub struct Journal {
    child: Child,
    entries: Receiver<Entry>,
}

impl Journal {
    /// Follows it from behind `cursor` on; without one, what comes from now on.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn follow(program: &Path, cursor: Option<&str>) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args([
            "--follow",
            "--quiet",
            "--all",
            "--output=json",
            "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_UID",
        ]);
        match cursor {
            Some(cursor) => {
                let mut after = OsString::from("--after-cursor=");
                after.push(cursor);
                command.arg(after).arg("--no-tail");
            }
            None => {
                command.arg("--lines=0");
            }
        }
        let mut child = command
            .arg(MATCH)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let Some(said) = child.stdout.take() else {
            return Err(io::Error::other("the program's output was not kept"));
        };
        let (send, entries) = sync_channel(BACKLOG);
        let thread = thread::Builder::new().name("journal".to_owned());
        thread.spawn(move || {
            let mut said = BufReader::new(said);
            let mut line = Vec::new();
            while let Ok(true) = next(&mut said, &mut line) {
                if let Some(entry) = read(&line)
                    && send.send(entry).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self { child, entries })
    }

    /// Hands up to `most` entries to `each`. Whether there may be more at once.
    ///
    /// # Errors
    /// The program ended.
    pub fn read(&mut self, most: usize, mut each: impl FnMut(Entry)) -> io::Result<bool> {
        for _ in 0..most {
            match self.entries.try_recv() {
                Ok(entry) => each(entry),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => {
                    let how = self.child.wait()?;
                    return Err(io::Error::other(format!("journalctl ended: {how}")));
                }
            }
        }
        Ok(true)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an entry is the mail server's: root starts it, and `users` are those it runs as.
#[must_use]
pub fn is_mail_server(entry: &Entry, users: &BTreeSet<u32>) -> bool {
    entry
        .uid
        .is_some_and(|uid| uid == 0 || users.contains(&uid))
}

/// Reads the next line into `line`, which is empty if it was too long; whether there was one.
fn next(said: &mut impl io::BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = said.by_ref().take(LONGEST).read_until(b'\n', line)?;
    if length == 0 {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') {
        line.clear();
        said.skip_until(b'\n')?;
    }
    Ok(true)
}

/// Reads an entry in journalctl's JSON; what is no text in UTF-8 stands there as numbers.
#[must_use]
pub fn read(line: &[u8]) -> Option<Entry> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| match entry.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes
                .iter()
                .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        _ => None,
    };
    let micros: i64 = text("__REALTIME_TIMESTAMP")?.parse().ok()?;
    Some(Entry {
        cursor: text("__CURSOR")?,
        time: Timestamp::from_microsecond(micros).ok()?,
        uid: text("_UID").and_then(|uid| uid.parse().ok()),
        tag: text("SYSLOG_IDENTIFIER")?,
        text: text("MESSAGE")?,
    })
}
