//! Which connection each message of Postfix's is under way on.
//!
//! A connection that asks about another message, or ends, ends the one before. But Postfix may end a
//! connection in the middle of a message and go on over another, and what the two say is heard in any
//! order: only the connection that asked last speaks for a message.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The messages under way, and the connections that asked about them last.
#[derive(Debug, Default)]
pub(super) struct Messages(Mutex<HashMap<String, u64>>);

impl Messages {
    /// `connection` asks about this message.
    pub(super) fn asked(&self, instance: &str, connection: u64) {
        let mut messages = self.lock();
        if let Some(last) = messages.get_mut(instance) {
            *last = connection;
        } else {
            messages.insert(instance.to_owned(), connection);
        }
    }

    /// `connection` does not ask about it any more; whether nobody does.
    pub(super) fn left(&self, instance: &str, connection: u64) -> bool {
        let mut messages = self.lock();
        let over = messages.get(instance) == Some(&connection);
        if over {
            messages.remove(instance);
        }
        over
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_last_speaks_for_a_message() {
        let messages = Messages::default();
        messages.asked("a", 1);
        messages.asked("a", 2);
        assert!(!messages.left("a", 1));
        assert!(messages.left("a", 2));
        assert!(!messages.left("a", 2));
        assert!(messages.lock().is_empty());
    }
}
