//! A message in a queue: which it is, and who brought it.

use std::net::SocketAddr;

/// Which message: by more than its queue id, because queue ids are used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailKey {
    /// The queue, as [`super::MailQueue::name`] says it.
    pub queue: String,
    /// The mail server's id for it.
    pub id: String,
    /// The inode of its file; 0 for Exim, whose ids never come again and whose files are replaced.
    pub inode: u64,
    /// When it arrived, by the mail server's record in the file, microseconds since 1970.
    pub arrived_us: i64,
}

/// What the mail server itself wrote down about who brought a message. Nothing in it comes from
/// what the sender could write: no header of his, no envelope address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The user whose process submitted it on this machine (`sendmail`, `exim`).
    pub uid: Option<u32>,
    /// The name that a client logged in with (SMTP AUTH).
    pub login: Option<String>,
    /// The address and port (0: not known) of the client that brought it by SMTP. A loopback
    /// address says nothing by itself; with the port and the time, whoever saw that connection knows.
    pub client: Option<SocketAddr>,
}

impl Origin {
    /// Whether nothing at all is known: a bounce, or a message that was made by the server.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A message that is waiting, and not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Which.
    pub key: MailKey,
    /// Where it is taken from, where a server has several queues: Exim's name of its queue, empty for
    /// the usual one. Postfix: empty.
    pub place: String,
    /// Who brought it.
    pub origin: Origin,
}

/// Who is who. Whoever answers knows the policy; it is asked once for each message in each look, so
/// it must not block.
pub trait Tenants: Send {
    /// The tenant that this message is from, if it is certain. The login counts more than the
    /// uid, and that more than the address: where there is a login, a proxy brought it.
    fn tenant_of(&self, mail: &Mail) -> Option<String>;
}
