//! Whether mail programs really ask: a question with a sign in it that was agreed on shortly before is noted,
//! let through, and neither counted nor remembered.
//!
//! Signs are made here, of random letters, or are the name of an account that an administrator wants to log in
//! with. They last half a minute, so that nobody finds one in a log that still does anything.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use super::listen::Caller;

/// How long a sign lasts.
const LASTS: Duration = Duration::from_secs(30);
/// How many there may be at once.
const MOST: usize = 8;
/// How much is remembered of one.
const MOST_SEEN: usize = 16;

/// That somebody asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which service: `policy`, `milter` or `dovecot`.
    pub service: String,
    /// Which mail program, by its protocol.
    pub by: String,
    /// At which address.
    pub door: String,
    /// The user that asked.
    pub uid: u32,
}

/// Signs, and who asked with one.
#[derive(Debug, Default)]
pub struct Watch {
    /// How many signs there are, so that looking costs nothing while there are none.
    armed: AtomicUsize,
    signs: Mutex<Vec<Sign>>,
}

#[derive(Debug)]
struct Sign {
    sign: String,
    until: Instant,
    seen: Vec<Asked>,
}

impl Watch {
    /// Looks out from now on: for `account`, or a sign that is made now. Gives the sign; none where there
    /// are too many already, or no random numbers.
    pub fn arm(&self, account: Option<&str>) -> Option<String> {
        let sign = match account {
            Some(account) => account.to_lowercase(),
            None => {
                let mut bytes = [0_u8; 12];
                SystemRandom::new().fill(&mut bytes).ok()?;
                let letters: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("limiter-check-{letters}")
            }
        };
        let mut signs = self.lock();
        self.forget(&mut signs);
        signs.retain(|known| known.sign != sign);
        if signs.len() >= MOST {
            return None;
        }
        signs.push(Sign {
            sign: sign.clone(),
            until: Instant::now() + LASTS,
            seen: Vec::new(),
        });
        self.armed.store(signs.len(), Ordering::Release);
        Some(sign)
    }

    /// Who asked with this sign so far.
    #[must_use]
    pub fn seen(&self, sign: &str) -> Vec<Asked> {
        let mut signs = self.lock();
        self.forget(&mut signs);
        let found = signs.iter().find(|known| known.sign == sign);
        found.map(|found| found.seen.clone()).unwrap_or_default()
    }

    /// Looks out for a sign no more. Gives who asked with it.
    pub fn disarm(&self, sign: &str) -> Vec<Asked> {
        let seen = self.seen(sign);
        let mut signs = self.lock();
        signs.retain(|known| known.sign != sign);
        self.armed.store(signs.len(), Ordering::Release);
        seen
    }

    /// Whether this address, or account, is a sign: then it is noted who asked, and the question is to
    /// be let through uncounted.
    pub fn is_sign(&self, name: &str, service: &str, by: &str, caller: &Caller) -> bool {
        if self.armed.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut signs = self.lock();
        self.forget(&mut signs);
        let local = name.split('@').next().unwrap_or(name);
        let Some(sign) = signs
            .iter_mut()
            .find(|known| known.sign == name || known.sign == local)
        else {
            return false;
        };
        let asked = Asked {
            service: service.to_owned(),
            by: by.to_owned(),
            door: caller.door.to_string(),
            uid: caller.uid,
        };
        if sign.seen.len() < MOST_SEEN && !sign.seen.contains(&asked) {
            sign.seen.push(asked);
        }
        true
    }

    fn forget(&self, signs: &mut Vec<Sign>) {
        let now = Instant::now();
        signs.retain(|sign| sign.until > now);
        self.armed.store(signs.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sign>> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_sign_is_noted() {
        let watch = Watch::default();
        let caller = Caller::new(7, 1, "unix:/run/x");
        assert!(!watch.is_sign("limiter-check-", "policy", "Postfix", &caller));
        let sign = watch.arm(None).unwrap();
        for other in ["", "@x", "limiter-check-", &sign[1..]] {
            assert!(!watch.is_sign(other, "policy", "Postfix", &caller));
        }
        for known in [sign.clone(), format!("{sign}@host.example"), sign.clone()] {
            assert!(watch.is_sign(&known, "policy", "Postfix", &caller));
        }
        assert!(watch.is_sign(&sign, "milter", "Postfix", &caller));
        let seen = watch.seen(&sign);
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].uid, seen[0].door.as_str()), (7, "unix:/run/x"));
        assert!(watch.seen("other").is_empty());
        assert_eq!(watch.disarm(&sign), seen);
        assert!(!watch.is_sign(&sign, "policy", "Postfix", &caller));
    }

    #[test]
    fn there_are_never_many_signs() {
        let watch = Watch::default();
        for number in 0..MOST {
            assert!(watch.arm(Some(&format!("{number}@x"))).is_some());
        }
        assert_eq!(watch.arm(None), None);
        // The same again is no other.
        assert_eq!(watch.arm(Some("1@X")), Some("1@x".to_owned()));
    }
}
