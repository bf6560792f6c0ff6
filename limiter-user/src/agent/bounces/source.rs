//! One log, with the messages that it told of.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::warn;
use thiserror::Error;

use crate::{
    ledger::{LogMark, LogRow},
    mta::bounce::{
        self, Message, Messages, Said,
        follow::{FollowError, Follower},
        journal::{self, Journal},
    },
    policy::bounces::Bounces as Config,
};

/// What the journal is called.
const JOURNAL: &str = "journal";
/// The program that reads it.
const JOURNALCTL: &str = "journalctl";
/// How much of a file is read before others have their turn, bytes.
const TURN: usize = 4 << 20;
/// How many entries of the journal.
const ENTRIES: usize = 20_000;
/// How long until the journal is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    /// A file.
    #[error(transparent)]
    File(#[from] FollowError),
    /// The journal.
    #[error("cannot read the journal: {0}")]
    Journal(#[source] io::Error),
}

/// What is read for the configuration.
pub(super) fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config
        .logs
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if config.journal {
        names.push(JOURNAL.to_owned());
    }
    names.sort();
    names.dedup();
    names
}

/// A log.
pub(super) struct Source {
    name: String,
    way: Way,
    /// The messages that it told of.
    pub(super) messages: Messages,
    /// What is on the disk.
    kept: Option<String>,
}

enum Way {
    File(Box<Follower>),
    Journal {
        program: PathBuf,
        cursor: Option<String>,
        open: Option<Journal>,
        tried: Option<Instant>,
    },
}

/// How a look went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// There may be more at once.
    pub(super) more: bool,
    /// Some was rotated away before it was read.
    pub(super) lost: bool,
}

impl Source {
    /// As it was left. What is not understood any more is as if it were new.
    pub(super) fn new(name: String, row: LogRow) -> Self {
        Self::with(name, row, Path::new(JOURNALCTL))
    }

    fn with(name: String, row: LogRow, program: &Path) -> Self {
        let LogRow { position, mail } = row;
        let messages = mail.into_iter().filter_map(|(id, body)| {
            let message: Result<Message, _> = serde_json::from_str(&body);
            let message = message.inspect_err(|error| warn!("{name}: message {id}: {error}"));
            Some((id, message.ok()?))
        });
        let messages = Messages::of(messages);
        let way = if name == JOURNAL {
            Way::Journal {
                program: program.to_owned(),
                cursor: position.clone(),
                open: None,
                tried: None,
            }
        } else {
            let from = position.as_deref().and_then(|position| {
                serde_json::from_str(position)
                    .inspect_err(|error| warn!("{name}: the position {position}: {error}"))
                    .ok()
            });
            Way::File(Box::new(Follower::new(Path::new(&name), from)))
        };
        Self {
            name,
            way,
            messages,
            kept: position,
        }
    }

    /// Its path, or `journal`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hands what is new to `each`, as much as is one turn. `users` are the mail server's.
    ///
    /// # Errors
    /// It cannot be read now; what was handed over stays read.
    pub(super) fn read(
        &mut self,
        users: &BTreeSet<u32>,
        mut each: impl FnMut(&mut Messages, Said),
    ) -> Result<Look, SourceError> {
        let messages = &mut self.messages;
        match &mut self.way {
            Way::File(follower) => {
                let now = Timestamp::now();
                let progress = follower.read(TURN, |line| {
                    if let Some(said) = bounce::read(line, now) {
                        each(messages, said);
                    }
                })?;
                Ok(Look {
                    more: progress.more,
                    lost: progress.lost,
                })
            }
            Way::Journal {
                program,
                cursor,
                open,
                tried,
            } => {
                if open.is_none() {
                    if tried.is_some_and(|at| at.elapsed() < AGAIN) {
                        return Ok(Look::default());
                    }
                    *tried = Some(Instant::now());
                    let journal = Journal::follow(program, cursor.as_deref());
                    *open = Some(journal.map_err(SourceError::Journal)?);
                }
                let Some(journal) = open else {
                    return Ok(Look::default());
                };
                let read = journal.read(ENTRIES, |entry| {
                    if journal::is_mail_server(&entry, users)
                        && let Some(said) = bounce::read_entry(&entry.tag, &entry.text, entry.time)
                    {
                        each(messages, said);
                    }
                    *cursor = Some(entry.cursor);
                });
                match read {
                    Ok(more) => Ok(Look { more, lost: false }),
                    Err(error) => {
                        *open = None;
                        Err(SourceError::Journal(error))
                    }
                }
            }
        }
    }

    /// Up to where it was read, as it is kept.
    fn position(&self) -> Option<String> {
        match &self.way {
            Way::File(follower) => serde_json::to_string(&follower.position()?).ok(),
            Way::Journal { cursor, .. } => cursor.clone(),
        }
    }

    /// Whether nothing of it is on the disk, and something could be.
    pub(super) fn is_unkept(&self) -> bool {
        self.kept.is_none() && self.position().is_some()
    }

    /// What is to be written down.
    pub(super) fn mark(&self) -> Option<LogMark> {
        let position = self.position()?;
        let changes = self.messages.changes();
        let mail = changes.into_iter().map(|(id, message)| {
            let body = message.and_then(|message| serde_json::to_string(&message).ok());
            (id, body)
        });
        Some(LogMark {
            log: self.name.clone(),
            position,
            mail: mail.collect(),
        })
    }

    /// It is on the disk.
    pub(super) fn was_kept(&mut self, mark: &LogMark) {
        self.messages.were_kept();
        self.kept = Some(mark.position.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, thread};

    use super::*;
    use crate::mta::bounce::Heard;

    /// Stands in for journalctl: says what it was asked, then five entries, and waits or ends.
    const PROGRAM: &str = r#"#!/bin/sh
echo "$@" >> "$0.asked"
case "$*" in *after-cursor=c3*) from=4;; *) from=1;; esac
for n in 1 2 3 4 5; do
  uid=109; [ $n = 2 ] && uid=2001
  [ $n -ge $from ] && echo "{\"__CURSOR\":\"c$n\",\"__REALTIME_TIMESTAMP\":\"1795341600000000\",\"_UID\":\"$uid\",\"SYSLOG_IDENTIFIER\":\"postfix/qmgr\",\"MESSAGE\":\"AAAAA$n: removed\"}"
done
exec sleep 30
"#;

    fn read(source: &mut Source, most: usize) -> Vec<String> {
        let users = [109].into();
        let mut seen = Vec::new();
        for _ in 0..200 {
            let look = source.read(&users, |_, said| {
                assert_eq!(said.heard, Heard::Gone);
                seen.push(said.id);
            });
            look.unwrap();
            if seen.len() >= most {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        seen
    }

    #[test]
    fn the_journal_goes_on_behind_its_cursor_and_believes_the_mail_server_alone() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("journalctl");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut source = Source::with(JOURNAL.into(), LogRow::default(), &program);
        assert!(!source.is_unkept());
        assert_eq!(
            read(&mut source, 4),
            ["AAAAA1", "AAAAA3", "AAAAA4", "AAAAA5"]
        );
        assert_eq!(source.mark().unwrap().position, "c5");
        let row = LogRow {
            position: Some("c3".into()),
            mail: Vec::new(),
        };
        drop(source);
        let mut source = Source::with(JOURNAL.into(), row, &program);
        assert_eq!(read(&mut source, 2), ["AAAAA4", "AAAAA5"]);
        drop(source);
        let asked = fs::read_to_string(directory.path().join("journalctl.asked")).unwrap();
        let asked: Vec<&str> = asked.lines().collect();
        assert!(asked[0].contains("--lines=0") && asked[0].ends_with("SYSLOG_FACILITY=2"));
        assert!(
            asked[1].contains("--after-cursor=c3 --no-tail"),
            "{asked:?}"
        );
    }

    #[test]
    fn a_journal_that_ends_is_said_and_tried_again() {
        let row = LogRow {
            position: Some("c1".into()),
            mail: Vec::new(),
        };
        let mut source = Source::with(JOURNAL.into(), row, Path::new("/bin/false"));
        let users = BTreeSet::new();
        let failed = (0..500).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            source.read(&users, |_, _| {}).err()
        });
        assert!(failed.unwrap().to_string().contains("journalctl ended"));
        assert!(source.read(&users, |_, _| {}).is_ok(), "it waits");
        assert_eq!(source.mark().unwrap().position, "c1");
    }
}
