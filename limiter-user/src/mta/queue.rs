//! What every mail server's queue can do.

use super::{HeldMail, Mail, MailKey, MtaError};

/// What became of held mail that was to be released. What is in neither list is still held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Back in the queue.
    pub done: Vec<MailKey>,
    /// Not held any more: deleted, or released by somebody else.
    pub gone: Vec<MailKey>,
}

/// The queue of one mail server. Every call may take as long as a command of the mail server.
pub trait MailQueue: Send {
    /// Which: `postfix /etc/postfix`, `exim`. It is a part of every [`MailKey`] and must not change.
    fn name(&self) -> &str;

    /// Whether the queue may have changed since it was last listed. Cheap: a few times of directories.
    fn changed(&mut self) -> bool;

    /// All messages that wait and are not held.
    ///
    /// # Errors
    /// When the queue cannot be read. A single file that cannot is left out and tried again.
    fn list(&mut self) -> Result<Vec<Mail>, MtaError>;

    /// Holds these; those that are held now. Others went meanwhile, or are being delivered.
    ///
    /// # Errors
    /// When the mail server's command failed; some may be held.
    fn hold(&mut self, mails: &[&Mail]) -> Result<Vec<MailKey>, MtaError>;

    /// Releases these if they are still the same messages, and still held.
    ///
    /// # Errors
    /// When the mail server's command failed; some may be released. It can be repeated.
    fn release(&mut self, mails: &[HeldMail]) -> Result<Released, MtaError>;
}
