//! How often accounts were logged in to: pure, with the clock outside.
//!
//! A login counts when it is let in, in the same step in which it is asked about, so that many at once are
//! counted one by one. That is right where Dovecot asks once a login, after the password turned out to be
//! right (`auth_policy_check_before_auth = no`): nobody can use up or lock somebody else's account by
//! guessing, and names that do not exist are never heard of.
//!
//! Where Dovecot asks before (its default), it asks twice for a login and also for those that fail. The
//! questions of one session are then one login, until it is reported how it ended; and with the first
//! report of a wrong password it is known: from then on what counts is reported logins, not asked ones. Many
//! at once may then be let in above the limit, which is said in the log.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use limiter_common::window::{Slot, width_of};
use serde::{Deserialize, Serialize};

use super::question::{Outcome, Question};
use crate::policy::model::LoginLimit;

/// So many accounts are remembered.
const MOST_ACCOUNTS: usize = 100_000;
/// So many logins are remembered whose end was not reported, and so long.
const MOST_ATTEMPTS: usize = 20_000;
const ATTEMPT_NS: u64 = 60_000_000_000;

/// What becomes of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go on.
    Allow,
    /// It was one too many: the account is locked from now on.
    Lock(Duration),
    /// The account is locked, so much longer.
    Locked(Duration),
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that anybody has to know.
    Fine,
    /// Dovecot asks before it looks at passwords.
    AsksBefore,
}

/// The accounts as they are kept on the disk. By ages, since clocks begin anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLogins {
    accounts: Vec<KeptAccount>,
}

/// The name; how long ago (ns, at least) how many logins were counted; how much longer it is locked (ns).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptAccount(String, Vec<(u64, u32)>, u64);

/// The accounts.
#[derive(Debug, Default)]
pub(super) struct Logins {
    accounts: HashMap<String, Account>,
    attempts: Attempts,
    /// Questions come before passwords were looked at: reports are what counts.
    asks_before: bool,
}

/// An account that somebody logged in to.
#[derive(Clone, Copy, Debug)]
struct Account {
    slot: Slot,
    locked_until_ns: u64,
}

impl Logins {
    /// Somebody wants to log in.
    pub(super) fn ask(&mut self, question: &Question, limit: &LoginLimit, now_ns: u64) -> Verdict {
        let width_ns = width(limit);
        let known = self.accounts.get_mut(&question.account);
        let Some(account) = known else {
            if !self.asks_before {
                self.admit(question, now_ns, width_ns);
            }
            return Verdict::Allow;
        };
        if let Some(left_ns) = account.locked_until_ns.checked_sub(now_ns)
            && left_ns > 0
        {
            return Verdict::Locked(Duration::from_nanos(left_ns));
        }
        if self.attempts.has(question, now_ns) {
            return Verdict::Allow;
        }
        account.slot.advance(now_ns, width_ns);
        if !account.slot.admits(1, limit.max) {
            account.locked_until_ns = now_ns.saturating_add(nanos(limit.lock));
            return Verdict::Lock(limit.lock);
        }
        if !self.asks_before {
            self.admit(question, now_ns, width_ns);
        }
        Verdict::Allow
    }

    /// It is said how a login ended.
    pub(super) fn report(&mut self, question: &Question, limit: &LoginLimit, now_ns: u64) -> Heard {
        let attempt = self.attempts.end(question, now_ns);
        match (question.outcome, attempt) {
            (Outcome::Success, None) if self.asks_before => {
                self.count(&question.account, now_ns, width(limit));
            }
            (Outcome::Failure, Some(at_ns)) => {
                if let Some(account) = self.accounts.get_mut(&question.account) {
                    account.slot.give_back(at_ns, width(limit), 1);
                    if account.is_idle(now_ns, width(limit)) {
                        self.accounts.remove(&question.account);
                    }
                }
                if !self.asks_before {
                    self.asks_before = true;
                    return Heard::AsksBefore;
                }
            }
            _ => {}
        }
        Heard::Fine
    }

    /// The limit changed. What was counted stays, as far as it fits; when Dovecot asks is found out anew.
    pub(super) fn reshape(&mut self, old: &LoginLimit, new: &LoginLimit, now_ns: u64) {
        for account in self.accounts.values_mut() {
            account.slot.reshape(now_ns, width(old), width(new));
            let latest = now_ns.saturating_add(nanos(new.lock));
            account.locked_until_ns = account.locked_until_ns.min(latest);
        }
        self.asks_before = false;
    }

    /// What is to be kept of it.
    pub(super) fn keep(&self, limit: &LoginLimit, now_ns: u64) -> KeptLogins {
        let width_ns = width(limit);
        let counting = self
            .accounts
            .iter()
            .filter(|(_, account)| !account.is_idle(now_ns, width_ns));
        let accounts = counting.map(|(name, account)| {
            let mut ages = account.slot.ages(now_ns, width_ns).to_vec();
            ages.retain(|(_, logins)| *logins > 0);
            let left_ns = account.locked_until_ns.saturating_sub(now_ns);
            KeptAccount(name.clone(), ages, left_ns)
        });
        KeptLogins {
            accounts: accounts.collect(),
        }
    }

    /// Goes on from what was kept so long ago at least. Accounts that are known already stay as they are.
    pub(super) fn restore(
        &mut self,
        kept: KeptLogins,
        elapsed: Duration,
        limit: &LoginLimit,
        now_ns: u64,
    ) {
        let (width_ns, elapsed_ns) = (width(limit), nanos(elapsed));
        for KeptAccount(name, mut ages, left_ns) in kept.accounts.into_iter().take(MOST_ACCOUNTS) {
            for (age, _) in &mut ages {
                *age = age.saturating_add(elapsed_ns);
            }
            let left_ns = left_ns.saturating_sub(elapsed_ns).min(nanos(limit.lock));
            let account = Account {
                slot: Slot::from_ages(&ages, now_ns, width_ns),
                locked_until_ns: if left_ns > 0 {
                    now_ns.saturating_add(left_ns)
                } else {
                    0
                },
            };
            if !account.is_idle(now_ns, width_ns) {
                self.accounts.entry(name).or_insert(account);
            }
        }
    }

    /// Ends the lock of an account and forgets its logins; whether it was locked.
    pub(super) fn release(&mut self, account: &str, now_ns: u64) -> bool {
        let found = self.accounts.remove(account);
        found.is_some_and(|account| account.locked_until_ns > now_ns)
    }

    /// The accounts that are locked, each with how much longer.
    pub(super) fn locked(&self, now_ns: u64) -> Vec<(String, Duration)> {
        let mut found: Vec<(String, Duration)> = self
            .accounts
            .iter()
            .filter(|(_, account)| account.locked_until_ns > now_ns)
            .map(|(name, account)| {
                let left = account.locked_until_ns - now_ns;
                (name.clone(), Duration::from_nanos(left))
            })
            .collect();
        found.sort();
        found
    }

    fn admit(&mut self, question: &Question, now_ns: u64, width_ns: u64) {
        self.count(&question.account, now_ns, width_ns);
        self.attempts.begin(question, now_ns);
    }

    fn count(&mut self, name: &str, now_ns: u64, width_ns: u64) {
        if !self.accounts.contains_key(name) {
            self.make_room(now_ns, width_ns);
        }
        let account = self.accounts.entry(name.to_owned()).or_insert(Account {
            slot: Slot::EMPTY,
            locked_until_ns: 0,
        });
        account.slot.advance(now_ns, width_ns);
        account.slot.count(1);
    }

    /// Forgets accounts when there are too many: first those for which nothing counts, then an eighth of
    /// all that are not locked, those first that were not logged in to for the longest time.
    fn make_room(&mut self, now_ns: u64, width_ns: u64) {
        if self.accounts.len() < MOST_ACCOUNTS {
            return;
        }
        self.accounts
            .retain(|_, account| !account.is_idle(now_ns, width_ns));
        let eighth = MOST_ACCOUNTS / 8;
        if self.accounts.len() <= MOST_ACCOUNTS - eighth {
            return;
        }
        let mut oldest: Vec<(bool, u64, String)> = self
            .accounts
            .iter()
            .map(|(name, account)| {
                let locked = account.locked_until_ns > now_ns;
                (locked, account.slot.epoch, name.clone())
            })
            .collect();
        oldest.sort_unstable();
        for (.., name) in oldest.into_iter().take(eighth) {
            self.accounts.remove(&name);
        }
    }
}

impl Account {
    /// Whether nothing is lost when it is forgotten.
    fn is_idle(&self, now_ns: u64, width_ns: u64) -> bool {
        self.locked_until_ns <= now_ns && self.slot.used(now_ns, width_ns) == 0
    }
}

/// Logins that were let in, and whose end was not reported yet: by account and session.
#[derive(Debug, Default)]
struct Attempts {
    begun: HashMap<(String, String), u64>,
    order: VecDeque<((String, String), u64)>,
}

impl Attempts {
    fn begin(&mut self, question: &Question, now_ns: u64) {
        let Some(key) = key(question) else {
            return;
        };
        self.forget(now_ns);
        self.order.push_back((key.clone(), now_ns));
        self.begun.insert(key, now_ns);
    }

    fn has(&self, question: &Question, now_ns: u64) -> bool {
        let began = key(question).and_then(|key| self.begun.get(&key));
        began.is_some_and(|at_ns| now_ns.saturating_sub(*at_ns) <= ATTEMPT_NS)
    }

    /// When it began, if it is remembered.
    fn end(&mut self, question: &Question, now_ns: u64) -> Option<u64> {
        self.forget(now_ns);
        self.begun.remove(&key(question)?)
    }

    /// Forgets what is too old, and one if there are too many.
    fn forget(&mut self, now_ns: u64) {
        while let Some((key, at_ns)) = self.order.front() {
            let old = now_ns.saturating_sub(*at_ns) > ATTEMPT_NS;
            if !old && self.order.len() < MOST_ATTEMPTS {
                return;
            }
            // It may have ended, and begun again.
            if self.begun.get(key) == Some(at_ns) {
                self.begun.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn key(question: &Question) -> Option<(String, String)> {
    let session = question.session.clone()?;
    Some((question.account.clone(), session))
}

fn width(limit: &LoginLimit) -> u64 {
    width_of(nanos(limit.window))
}

/// No span of a policy is longer than fits.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
