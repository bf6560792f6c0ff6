//! Mail that comes back: what Postfix and Exim write into their logs, read line by line.
//!
//! `postfix` and `exim` read lines, `failure` says which failures are bounces, `messages` knows whose a
//! message is and counts each recipient of it once, `sums` adds up by tenant; `follow` reads files through
//! rotations, and `journal` the system's journal. Whoever reads keeps what `messages` knows and up to
//! where a log was read in the same transaction in which the bounces are heard (`agent/bounces`).
//!
//! Logs are only as good as those who can write to them. Anybody on the node can write to syslog in
//! Postfix's name, so a file must be one that the mail server writes itself (`maillog_file`, Exim's main
//! log), and of the journal's entries only those count that the mail server's own users made.
//!
//! What counts: a bounce is counted once for a message and recipient, when it is final. A deferral is
//! none: greylisting puts off a good part of all mail. What is still deferred when the mail server gives up
//! is a bounce, not a hard one. A message with the null sender is itself one, and its bounces count
//! for nobody.

mod exim;
mod failure;
pub mod follow;
pub mod journal;
mod messages;
mod postfix;
mod sums;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use self::{
    failure::Failure,
    messages::{Counted, Message, Messages, Whose},
    sums::{Sum, Sums},
};
use crate::complaint::log::{self, Account};

/// What a line says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its name in the queue.
    pub id: String,
    /// When it was written.
    pub time: Timestamp,
    /// What.
    pub heard: Heard,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody brought it.
    Brought(Source),
    /// It is from this sender; empty for bounces.
    From(String),
    /// Both.
    Accepted {
        /// Who brought it.
        source: Source,
        /// The envelope sender.
        sender: String,
    },
    /// It reached a recipient.
    Delivered(String),
    /// It did not reach a recipient yet.
    Deferred(String),
    /// It will never reach a recipient. `None`: that is nobody's bounce.
    Failed {
        /// Whom.
        to: String,
        /// How bad it is.
        failure: Option<Failure>,
    },
    /// The mail server gave up on all who were deferred.
    Expired,
    /// It left the queue.
    Gone,
    /// Nothing that matters.
    Nothing,
}

/// Who brought a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody whom the mail server knows.
    By(Account),
    /// It was another message before: a filter handed it back.
    Message(String),
    /// Somebody on this node, or the mail server itself.
    Node,
}

/// Reads a line of a log file of either mail server. `near` is a moment of the same half year, for times
/// without a year.
#[must_use]
pub fn read(line: &str, near: Timestamp) -> Option<Said> {
    exim::read(line).or_else(|| postfix::read(line, near))
}

/// Reads an entry of the journal, that `tag` (`postfix/smtp`) made at `time`.
#[must_use]
pub fn read_entry(tag: &str, text: &str, time: Timestamp) -> Option<Said> {
    match log::postfix::program(tag) {
        Some(program) => postfix::said(program, text, time),
        None => exim::read(text),
    }
}

/// Where an address ends that `text` begins with: at the first `end` that is not in its quoted local
/// part.
fn end_of_address(text: &str, end: char) -> Option<usize> {
    let mut from = 0;
    if text.starts_with('"') {
        let mut escaped = false;
        let close = text.bytes().skip(1).position(|byte| {
            if std::mem::take(&mut escaped) {
                return false;
            }
            escaped = byte == b'\\';
            byte == b'"'
        })?;
        from = close + 2;
    }
    Some(from + text.get(from..)?.find(end)?)
}
