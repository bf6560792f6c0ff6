//! How many different recipients a tenant wrote to: the tags of those of the last window, as many as the
//! limit asks for and no more.
//!
//! A sketch (HyperLogLog) would need as much memory for the stretches of a sliding window as the tags of
//! a few thousand recipients, and cannot tell a new recipient from a known one: whoever is at the limit
//! would go on for ever with recipients that it takes for known. Tags are exact but for one pair in
//! 2^64. A recipient counts until one stretch, a 30th of the window, after it could be forgotten.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use ring::hmac;
use serde::{Deserialize, Serialize};

/// In how many stretches a window is cut.
const STRETCHES: u32 = 30;
/// How many bytes the key has.
const KEY: usize = 32;

/// What was written to, by all tenants that have such a limit.
#[derive(Serialize, Deserialize)]
pub struct Distinct {
    /// Recipients are told apart by it: nobody can pick those that look the same, and what is kept on
    /// the disk names nobody.
    key: [u8; KEY],
    /// By tenant, and window in seconds.
    windows: HashMap<String, HashMap<u64, Window>>,
    /// Whether anything changed since it was kept.
    #[serde(skip)]
    changed: bool,
}

/// One window of one tenant.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Window {
    /// The stretch it was moved to.
    present: u64,
    /// Who was written to, and in which stretch last.
    last: HashMap<Recipient, u64>,
    /// To whom only messages under way go, and how many of them. After a restart they count as written
    /// to.
    #[serde(skip)]
    open: HashMap<Recipient, u32>,
}

/// A recipient, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipient(u64);

/// A limit of different recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinctLimit {
    /// Whose it is.
    pub owner: String,
    /// The most.
    pub max: u32,
    /// In what time.
    pub window: Duration,
    /// Whether refusals of its owner are carried out.
    pub enforced: bool,
}

impl Distinct {
    /// Nobody wrote to anybody. `key`: 32 random bytes.
    #[must_use]
    pub fn new(key: [u8; KEY]) -> Self {
        Self {
            key,
            windows: HashMap::new(),
            changed: true,
        }
    }

    /// What makes tags of addresses.
    #[must_use]
    pub fn tagger(&self) -> Tagger {
        Tagger(hmac::Key::new(hmac::HMAC_SHA256, &self.key))
    }

    /// Remembers that a message of the owner of `limit` goes to these now (since 1970): whether that is
    /// not too many, and whom that message holds: nobody wrote to them yet but in messages under way.
    /// Those are to be [`taken`](Self::taken) or [removed](Self::remove) with it. If it is too many,
    /// nothing is remembered, unless that is `only_told`: then up to twice the limit is.
    pub fn add(
        &mut self,
        limit: &DistinctLimit,
        now: Duration,
        recipients: &[Recipient],
        only_told: bool,
    ) -> (bool, Vec<Recipient>) {
        let windows = self.windows.entry(limit.owner.clone()).or_default();
        let window = windows.entry(limit.window.as_secs()).or_default();
        let number = window.advance(stretch(limit.window, now));
        let known = |it: &&Recipient| window.last.contains_key(*it);
        let more = recipients.len() - recipients.iter().filter(known).count();
        let fits = more == 0 || window.last.len() + more <= limit.max as usize;
        let mut held = Vec::new();
        if fits || only_told {
            self.changed = true;
            let most = limit.max as usize * 2;
            for recipient in recipients {
                let full = window.last.len() >= most;
                match window.last.entry(*recipient) {
                    Entry::Occupied(mut known) => {
                        known.insert(number);
                        if let Some(messages) = window.open.get_mut(recipient) {
                            *messages += 1;
                            held.push(*recipient);
                        }
                    }
                    Entry::Vacant(place) if !full => {
                        place.insert(number);
                        *window.open.entry(*recipient).or_default() += 1;
                        held.push(*recipient);
                    }
                    Entry::Vacant(_) => {}
                }
            }
        }
        (fits, held)
    }

    /// A message that held these does not go to them: they are forgotten, but for those whom another
    /// message holds or was sent to.
    pub fn remove(&mut self, limit: &DistinctLimit, held: &[Recipient]) {
        let Some(window) = self.window_of(limit) else {
            return;
        };
        for recipient in held {
            if let Entry::Occupied(mut open) = window.open.entry(*recipient) {
                *open.get_mut() -= 1;
                if *open.get() == 0 {
                    open.remove();
                    window.last.remove(recipient);
                }
            }
        }
        self.changed |= !held.is_empty();
    }

    /// A message that held these went to them.
    pub fn taken(&mut self, limit: &DistinctLimit, held: &[Recipient]) {
        let Some(window) = self.window_of(limit) else {
            return;
        };
        let number = window.present;
        for recipient in held {
            window.open.remove(recipient);
            window.last.entry(*recipient).or_insert(number);
        }
        self.changed |= !held.is_empty();
    }

    fn window_of(&mut self, limit: &DistinctLimit) -> Option<&mut Window> {
        let windows = self.windows.get_mut(&limit.owner)?;
        windows.get_mut(&limit.window.as_secs())
    }

    /// Forgets whoever has no such limit any more.
    pub fn keep(&mut self, is_limited: impl Fn(&str, Duration) -> bool) {
        self.windows.retain(|tenant, windows| {
            windows.retain(|seconds, _| is_limited(tenant, Duration::from_secs(*seconds)));
            !windows.is_empty()
        });
    }

    /// The same key, and nobody yet: to be filled with [copies](Self::copy_of), tenant by tenant.
    #[must_use]
    pub fn like(&self) -> Self {
        Self::new(self.key)
    }

    /// The tenants of whom anything is remembered.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }

    /// Takes over what is remembered of a tenant elsewhere: soon done, as numbers are copied and nothing
    /// is written down.
    pub fn copy_of(&mut self, other: &Self, tenant: &str) {
        if let Some(windows) = other.windows.get(tenant) {
            self.windows.insert(tenant.to_owned(), windows.clone());
        }
    }

    /// Whether anything changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// Makes tags of addresses.
#[derive(Clone, Debug)]
pub struct Tagger(hmac::Key);

impl Tagger {
    /// The tag of an address: the same in capitals or not.
    #[must_use]
    pub fn tag(&self, address: &str) -> Recipient {
        let tag = hmac::sign(&self.0, address.trim().to_lowercase().as_bytes());
        let mut bytes = [0; 8];
        for (byte, of_tag) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *of_tag;
        }
        Recipient(u64::from_le_bytes(bytes))
    }
}

impl Window {
    /// Moves to the stretch `number`, unless the clock went back; forgets whoever is too old. The
    /// present stretch.
    fn advance(&mut self, number: u64) -> u64 {
        if number > self.present {
            self.present = number;
            let oldest = number.saturating_sub(u64::from(STRETCHES));
            self.last.retain(|_, last| *last >= oldest);
        }
        self.present
    }
}

/// The number of the stretch at a moment.
fn stretch(window: Duration, now: Duration) -> u64 {
    let width = (window / STRETCHES).as_secs().max(1);
    now.as_secs() / width
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Duration = Duration::from_secs(20_000 * 86_400);

    fn limit(max: u32) -> DistinctLimit {
        DistinctLimit {
            owner: "alice".to_owned(),
            max,
            window: DAY * 30,
            enforced: true,
        }
    }

    #[test]
    fn exactly_so_many_and_never_one_more() {
        for max in [1, 300, 4_000] {
            let mut distinct = Distinct::new([7; 32]);
            let tagger = distinct.tagger();
            let through = (0..max * 5)
                .filter(|it| {
                    let to = tagger.tag(&format!("contact{it}@list.example"));
                    distinct.add(&limit(max), NOW, &[to], false).0
                })
                .count();
            assert_eq!(through, max as usize);
            // Those who were written to may be written to again, in capitals and in lists.
            let again: Vec<Recipient> = (0..max)
                .map(|it| tagger.tag(&format!("CONTACT{it}@list.example ")))
                .collect();
            assert!(distinct.add(&limit(max), NOW + DAY, &again, false).0);
        }
    }

    #[test]
    fn what_was_not_sent_is_taken_back_and_no_more() {
        let mut distinct = Distinct::new([7; 32]);
        let tagger = distinct.tagger();
        let [a, b, c] = ["a@x", "b@x", "c@x"].map(|it| tagger.tag(it));
        assert_eq!(distinct.add(&limit(2), NOW, &[a], false), (true, vec![a]));
        let (fits, new) = distinct.add(&limit(2), NOW, &[a, b], false);
        assert_eq!((fits, &new), (true, &vec![a, b]));
        assert_eq!(distinct.add(&limit(2), NOW, &[c], false), (false, vec![]));
        distinct.taken(&limit(2), &[a]);
        distinct.remove(&limit(2), &new[1..]);
        assert!(distinct.add(&limit(2), NOW, &[c], false).0);
        assert!(!distinct.add(&limit(2), NOW, &[b], false).0);
        // Who is only told of goes on, and is remembered within bounds.
        for it in 0..100 {
            let to = tagger.tag(&format!("{it}@y"));
            assert!(!distinct.add(&limit(2), NOW, &[to], true).0);
        }
        assert_eq!(distinct.windows["alice"][&(30 * 86_400)].last.len(), 4);
    }

    #[test]
    fn whom_another_message_goes_to_stays() {
        let mut distinct = Distinct::new([7; 32]);
        let tagger = distinct.tagger();
        let [a, b, c] = ["a@x", "b@x", "c@x"].map(|it| tagger.tag(it));
        // Two messages to the same: one goes, the other does not, whichever was first.
        for to in [a, b] {
            let first = distinct.add(&limit(2), NOW, &[to], false).1;
            let second = distinct.add(&limit(2), NOW, &[to], false).1;
            assert_eq!((&first, &second), (&vec![to], &vec![to]));
            distinct.taken(&limit(2), &second);
            distinct.remove(&limit(2), &first);
            assert_eq!(distinct.add(&limit(2), NOW, &[to], false), (true, vec![]));
        }
        assert!(!distinct.add(&limit(2), NOW, &[c], false).0);
        // Neither goes: it is forgotten with the second, and not before.
        let limit = limit(3);
        let first = distinct.add(&limit, NOW, &[c], false).1;
        let second = distinct.add(&limit, NOW, &[c], false).1;
        let d = tagger.tag("d@x");
        distinct.remove(&limit, &first);
        assert!(!distinct.add(&limit, NOW, &[d], false).0);
        distinct.remove(&limit, &second);
        assert!(distinct.add(&limit, NOW, &[d], false).0);
        // A message that ends long after counts from then on.
        let month = NOW + DAY * 40;
        distinct.add(&limit, month, &[a], false);
        distinct.taken(&limit, &[d]);
        let known = &distinct.windows["alice"][&(30 * 86_400)];
        assert!(known.last.contains_key(&d) && !known.open.contains_key(&d));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_not_before() {
        let mut distinct = Distinct::new([7; 32]);
        let tagger = distinct.tagger();
        let one = [tagger.tag("one@x.example")];
        let two = [tagger.tag("two@x.example")];
        assert!(distinct.add(&limit(1), NOW, &one, false).0);
        assert!(!distinct.add(&limit(1), NOW + DAY * 30, &two, false).0);
        assert!(distinct.add(&limit(1), NOW + DAY * 31, &two, false).0);
        // A clock that goes back brings nobody back.
        assert!(!distinct.add(&limit(1), NOW, &one, false).0);
    }

    #[test]
    fn it_survives_being_written_down() {
        let mut distinct = Distinct::new([9; 32]);
        let one = [distinct.tagger().tag("c@x.example")];
        assert!(distinct.add(&limit(1), NOW, &one, false).0);
        let mut copy = distinct.like();
        for tenant in distinct.tenants() {
            copy.copy_of(&distinct, &tenant);
        }
        let text = serde_json::to_vec(&copy).unwrap();
        assert_eq!(text.len(), serde_json::to_vec(&distinct).unwrap().len());
        let mut again: Distinct = serde_json::from_slice(&text).unwrap();
        let tagger = again.tagger();
        let two = [tagger.tag("d@x.example")];
        assert!(
            again
                .add(&limit(1), NOW, &[tagger.tag("C@X.example")], false)
                .0
        );
        assert!(!again.add(&limit(1), NOW, &two, false).0);
        again.keep(|tenant, _| tenant != "alice");
        assert!(again.add(&limit(1), NOW, &two, false).0);
    }
}
