//! The mail server's log: whose message was it?
//!
//! Which user or login handed a message in is known to the mail server alone, and its log is where it
//! says so. But a log is only as good as those who can write to it: what goes through syslog any local
//! user can write, in the name of any program (`logger -t postfix/pickup …`). Entries are a proof where
//! the mail server writes the file itself: Exim's main log, and Postfix with `maillog_file`.

pub(crate) mod exim;
pub(crate) mod postfix;
mod scan;
#[cfg(test)]
mod tests;
mod time;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
};

use jiff::Timestamp;
use thiserror::Error;

/// A log of a mail server. The file before the last rotation (`.1`, `.0`) is read too; compressed
/// ones are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether only the mail server writes to it. Exim's own format needs no such word: syslog
    /// cannot write it.
    pub direct: bool,
}

/// What is looked for: a message by any of its names, that was sent between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Its names in the queue.
    pub queue_ids: BTreeSet<String>,
    /// Its Message-ID, without brackets.
    pub message_id: Option<String>,
    /// Lines from then on count.
    pub from: Timestamp,
    /// Lines until then count.
    pub until: Timestamp,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFound {
    /// The messages.
    pub entries: Vec<LogEntry>,
    /// Whether more had to be read than is allowed: there may be others.
    pub partial: bool,
}

/// A message in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Its name in the queue.
    pub queue_id: String,
    /// Its Message-ID, without brackets.
    pub message_id: Option<String>,
    /// Who handed it in. More than one means that the log was tampered with, or the name was used
    /// twice.
    pub accounts: BTreeSet<Account>,
    /// When it went where.
    pub deliveries: Vec<Delivery>,
    /// Whether nobody but the mail server can have written any of this.
    pub direct: bool,
}

/// Who handed a message to the mail server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A local user, by uid.
    Uid(u32),
    /// A local user, by name.
    User(String),
    /// Who logged in.
    Login(String),
    /// Nobody who said who he is, from this address.
    Address(IpAddr),
}

/// A delivery to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub time: Timestamp,
    /// To which host.
    pub relay: Option<IpAddr>,
}

/// A log that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the mail log {path}: {source}", path = path.display())]
pub struct LogError {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Looks for a message in `files`. Files that do not exist hold nothing.
///
/// At most a quarter of a gigabyte is read of each, from the first line of the time asked for;
/// lines of more than 16 KiB are skipped.
///
/// # Errors
/// A file that cannot be read.
pub fn look_up(files: &[LogFile], query: &LogQuery) -> Result<LogFound, LogError> {
    let mut found = LogFound::default();
    if query.queue_ids.is_empty() && query.message_id.is_none() {
        return Ok(found);
    }
    for file in files {
        let mut entries: BTreeMap<String, LogEntry> = BTreeMap::new();
        // The newest first, as rotation names them; what is asked for may lie across.
        let mut names = query.queue_ids.clone();
        let paths = scan::with_rotated(&file.path);
        for path in &paths {
            found.partial |= scan::lines(path, query, |line| {
                if let Some(said) = read(line, query.until)
                    && said.is_message(query.message_id.as_deref())
                    && names.len() < MOST_NAMES
                {
                    names.insert(said.queue_id);
                }
            })?;
        }
        for path in &paths {
            found.partial |= scan::lines(path, query, |line| {
                // Most lines speak of others: looking for the name is cheaper than reading.
                if names.iter().any(|name| line.contains(name.as_str()))
                    && let Some(said) = read(line, query.until)
                    && names.contains(&said.queue_id)
                {
                    let direct = file.direct || said.own_format;
                    let entry = entries
                        .entry(said.queue_id.clone())
                        .or_insert_with(|| LogEntry {
                            queue_id: said.queue_id.clone(),
                            direct,
                            ..LogEntry::default()
                        });
                    entry.direct &= direct;
                    entry.add(said);
                }
            })?;
        }
        found.entries.extend(entries.into_values());
    }
    Ok(found)
}

/// How many messages of one Message-ID are followed.
const MOST_NAMES: usize = 64;
/// How many deliveries of a message are kept.
const MOST_DELIVERIES: usize = 1_000;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    queue_id: String,
    time: Timestamp,
    what: What,
    /// Whether the mail server wrote the line, not syslog.
    own_format: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    MessageId(String),
    Account(Account),
    Accepted {
        account: Option<Account>,
        message_id: Option<String>,
    },
    Delivered(Option<IpAddr>),
}

impl Said {
    fn is_message(&self, id: Option<&str>) -> bool {
        let said = match &self.what {
            What::MessageId(said) => Some(said),
            What::Accepted { message_id, .. } => message_id.as_ref(),
            What::Account(_) | What::Delivered(_) => None,
        };
        id.is_some() && said.map(String::as_str) == id
    }
}

impl LogEntry {
    fn add(&mut self, said: Said) {
        match said.what {
            What::MessageId(id) => self.message_id = Some(id),
            What::Account(account) => {
                self.accounts.insert(account);
            }
            What::Accepted {
                account,
                message_id,
            } => {
                self.accounts.extend(account);
                self.message_id = message_id.or(self.message_id.take());
            }
            What::Delivered(relay) => {
                if self.deliveries.len() < MOST_DELIVERIES {
                    self.deliveries.push(Delivery {
                        time: said.time,
                        relay,
                    });
                }
            }
        }
    }
}

/// Reads a line of either mail server. `near` is a moment of the same half year, for times without
/// a year.
fn read(line: &str, near: Timestamp) -> Option<Said> {
    exim::read(line).or_else(|| postfix::read(line, near))
}
