//! What limiter held, written down, so that it never releases what somebody else holds.

use std::collections::BTreeMap;

use super::MailKey;

/// A message that limiter put on hold, or was about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMail {
    /// Which.
    pub key: MailKey,
    /// Whose.
    pub tenant: String,
    /// Where it came from ([`super::Mail::place`]) and is to return to.
    pub place: String,
}

/// What an implementation of [`HoldBook`] fails with.
pub type BookError = Box<dyn std::error::Error + Send + Sync>;

/// Where it is written down. All of it can be repeated without harm.
pub trait HoldBook: Send {
    /// Adds these; what is there already stays. It is called before a message is held, and must be
    /// durable when it returns: a record too many does no harm, a record too few is mail that nobody
    /// releases.
    ///
    /// # Errors
    /// When it could not be written. The mail is held nevertheless, and this asked again.
    fn note(&mut self, mails: &[HeldMail]) -> Result<(), BookError>;

    /// Removes these: they were released, or are gone.
    ///
    /// # Errors
    /// When it could not be written. It is asked again at the next release.
    fn forget(&mut self, keys: &[MailKey]) -> Result<(), BookError>;

    /// Everything that is written down.
    ///
    /// # Errors
    /// When it could not be read. Nothing is released then.
    fn held(&mut self) -> Result<Vec<HeldMail>, BookError>;
}

/// A book that dies with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryBook {
    mails: BTreeMap<MailKey, HeldMail>,
}

impl HoldBook for MemoryBook {
    fn note(&mut self, mails: &[HeldMail]) -> Result<(), BookError> {
        for mail in mails {
            self.mails
                .entry(mail.key.clone())
                .or_insert_with(|| mail.clone());
        }
        Ok(())
    }

    fn forget(&mut self, keys: &[MailKey]) -> Result<(), BookError> {
        for key in keys {
            self.mails.remove(key);
        }
        Ok(())
    }

    fn held(&mut self) -> Result<Vec<HeldMail>, BookError> {
        Ok(self.mails.values().cloned().collect())
    }
}
