//! Mail on its way into the node's own mail server: whose it is, and whether it may go.
//!
//! A mail server asks at several moments of one message, over one protocol or two
//! ([`crate::service`]); what it asks is brought here, before the [`Gate`]. The gate says whose the
//! mail is ([`who`]), has the kernel count it, remembers by its [`Key`] what was counted, and gives
//! back what does not go out after all.

use std::{net::SocketAddr, time::Duration};

pub mod directory;
pub mod distinct;
pub mod gate;
mod message;
pub mod payers;
pub mod reply;
pub mod till;
pub mod who;

/// Which message, as long as the mail server works on it: whatever that server tells messages apart
/// by. Never from what a sender can write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Postfix, over its policy protocol: the `instance` of one message.
    Instance(String),
    /// Postfix, by the id in its queue, over both protocols.
    Queued(String),
    /// Exim: what its configuration makes up for one message.
    Exim(String),
    /// A milter without a queue id: the number of its conversation, and of the message in it.
    Milter(u64, u64),
}

/// No user's: the number that systems never give. Mail that came from a process of this machine that
/// nobody knows any more is what no tenant claims.
pub const NO_USER: u32 = u32::MAX;

/// Everything a mail server says about a message that is more than its recipients.
///
/// `login`, `client`, `server` and `uid` come from the mail server itself, which vouches for them;
/// `sender` is what the sender wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The name under which the client logged in (SMTP AUTH).
    pub login: Option<String>,
    /// The client's address and port; port 0: not known.
    pub client: Option<SocketAddr>,
    /// The server's end of that connection; port 0: not known.
    pub server: Option<SocketAddr>,
    /// The user that ran `sendmail` on this machine, or whoever speaks for `client`: the server itself,
    /// unless a user made that client up.
    pub uid: Option<u32>,
    /// The envelope sender; empty for bounces, `None` where it is not known yet.
    pub sender: Option<String>,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing stands against it.
    Accept,
    /// Not now: a temporary error, the client tries again.
    Defer(Reply),
    /// Not at all: a permanent error.
    Refuse(Reply),
    /// Ask again after so long, and answer the mail server only then: it goes too fast. Never longer
    /// than a mail server waits.
    Wait(Duration),
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The enhanced status code (RFC 3463), such as `4.7.1`; its first digit says whether it is
    /// temporary.
    pub status: String,
    /// One line of printable ASCII, at most 400 characters, without a code in front.
    pub text: String,
}

impl Reply {
    /// The SMTP code that goes with the status: 450 for what is temporary, 550 for what is not.
    #[must_use]
    pub fn code(&self) -> u16 {
        if self.status.starts_with('5') {
            550
        } else {
            450
        }
    }
}

/// Whether mail may go in. All calls may block for some microseconds, rarely longer; any number of
/// threads may call at once.
pub trait Gate: Send + Sync {
    /// One more recipient of a message under way: counted if admitted.
    fn recipient(&self, key: &Key, envelope: &Envelope, recipient: &str) -> Answer;

    /// The message itself is there, or begins (DATA), to `recipients` in all as far as the mail server
    /// says: counted if admitted, and what was counted beyond that many is given back. `queued` is its id
    /// in the queue, where it is known: from here on it is the same message under that key.
    fn message(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: Option<u32>,
        queued: Option<&Key>,
    ) -> Answer;

    /// A whole message at once, to these recipients and nobody else: from `sendmail`, or at the end of a
    /// milter's message. What was counted of it under this key already is not counted again, and who is
    /// not among them is given back. `total`: how many they are, where the mail server says so; however
    /// they are written, no fewer are counted.
    fn whole(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[String],
        total: Option<u32>,
    ) -> Answer;

    /// Somebody will say of this message how it ended: what was counted is kept until then, and given
    /// back if its conversation ends without a word.
    fn watched(&self, key: &Key);

    /// The message was taken: it goes out, and what was counted stays.
    fn taken(&self, key: &Key);

    /// The message does not go out: what was counted is given back. Nothing happens where nothing
    /// was, or where it was taken.
    fn dropped(&self, key: &Key);
}
