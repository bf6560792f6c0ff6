//! Who was charged for which message in the queue: remembered until whoever reads the mail server's log
//! has come as far as that.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long it is remembered.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How many messages are remembered.
const MOST: usize = 1 << 17;

/// Who was charged.
#[derive(Debug, Default)]
pub struct Payers(Mutex<HashMap<String, (String, Instant)>>);

impl Payers {
    /// `tenant` was charged for the message with this name in the queue.
    pub fn note(&self, queue_id: &str, tenant: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (_, at)| at.elapsed() < LONGEST);
        }
        if known.len() < MOST || known.contains_key(queue_id) {
            known.insert(queue_id.to_owned(), (tenant.to_owned(), Instant::now()));
        }
    }

    /// Who was charged for it.
    #[must_use]
    pub fn of(&self, queue_id: &str) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tenant, at) = known.get(queue_id)?;
        (at.elapsed() < LONGEST).then(|| tenant.clone())
    }

    /// Forgets what nobody will ask for any more.
    pub fn sweep(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, at)| at.elapsed() < LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_charged_last_is_known() {
        let payers = Payers::default();
        assert_eq!(payers.of("A"), None);
        payers.note("A", "alice");
        payers.note("A", "bob");
        payers.sweep();
        assert_eq!(payers.of("A").as_deref(), Some("bob"));
        for number in 0..MOST + 10 {
            payers.note(&number.to_string(), "alice");
        }
        payers.note("A", "carol");
        assert_eq!(payers.of("A").as_deref(), Some("carol"));
        assert_eq!(payers.0.lock().unwrap().len(), MOST);
    }
}
