//! How many different recipients a tenant wrote to, in constant memory: sketches (HyperLogLog) of the
//! last stretches of the window, none of which tells whom it holds.
//!
//! With 2^12 registers the standard error is 1.6 %: whoever is refused wrote to more than the limit,
//! less three such errors, in all but one of a thousand cases. A recipient counts until one stretch, a
//! 30th of the window, after it could be forgotten.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use cardinality_estimator::CardinalityEstimator;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// A sketch: of few recipients some bytes, of many 3.3 KiB.
type Sketch = CardinalityEstimator<u64>;

/// In how many stretches a window is cut.
const STRETCHES: u32 = 30;
/// How many bytes the key has.
const KEY: usize = 32;

/// What was written to, by all tenants that have such a limit.
#[derive(Serialize, Deserialize)]
pub struct Distinct {
    /// Recipients are told apart by it, so that nobody can pick those that look the same.
    key: [u8; KEY],
    /// By tenant, and window in seconds.
    windows: HashMap<String, HashMap<u64, Window>>,
}

/// One window of one tenant.
#[derive(Default, Serialize, Deserialize)]
struct Window {
    /// The number of the stretch, and who was written to in it, the oldest first.
    stretches: VecDeque<(u64, Sketch)>,
    /// All of them together.
    union: Sketch,
}

/// A recipient, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recipient(u64);

impl Distinct {
    /// Nobody wrote to anybody. `key`: 32 random bytes.
    #[must_use]
    pub fn new(key: [u8; KEY]) -> Self {
        Self {
            key,
            windows: HashMap::new(),
        }
    }

    /// A recipient as it is remembered: the same for the same address, in capitals or not.
    #[must_use]
    pub fn recipient(&self, address: &str) -> Recipient {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let tag = hmac::sign(&key, address.trim().to_lowercase().as_bytes());
        let mut bytes = [0; 8];
        for (byte, of_tag) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *of_tag;
        }
        Recipient(u64::from_le_bytes(bytes))
    }

    /// How many different recipients `tenant` wrote to in the last `window` before `now` (since 1970),
    /// about, and how many it would be with these.
    #[must_use]
    pub fn with(
        &mut self,
        tenant: &str,
        window: Duration,
        now: Duration,
        recipients: &[Recipient],
    ) -> (usize, usize) {
        let Some(place) = self
            .windows
            .get_mut(tenant)
            .and_then(|windows| windows.get_mut(&window.as_secs()))
        else {
            return (0, recipients.len());
        };
        place.advance(stretch(window, now));
        let mut union = place.union.clone();
        for recipient in recipients {
            union.insert_hash(recipient.0);
        }
        (place.union.estimate(), union.estimate())
    }

    /// Remembers that `tenant` wrote to `recipient`.
    pub fn add(&mut self, tenant: &str, window: Duration, now: Duration, recipient: Recipient) {
        let windows = match self.windows.get_mut(tenant) {
            Some(windows) => windows,
            None => self.windows.entry(tenant.to_owned()).or_default(),
        };
        let place = windows.entry(window.as_secs()).or_default();
        let number = stretch(window, now);
        place.advance(number);
        place.union.insert_hash(recipient.0);
        match place.stretches.back_mut() {
            // A clock that went back writes on where it was.
            Some((last, sketch)) if *last >= number => sketch.insert_hash(recipient.0),
            _ => {
                let mut sketch = Sketch::new();
                sketch.insert_hash(recipient.0);
                place.stretches.push_back((number, sketch));
            }
        }
    }

    /// Forgets whoever has no such limit any more.
    pub fn keep(&mut self, is_limited: impl Fn(&str, Duration) -> bool) {
        self.windows.retain(|tenant, windows| {
            windows.retain(|seconds, _| is_limited(tenant, Duration::from_secs(*seconds)));
            !windows.is_empty()
        });
    }
}

impl Window {
    /// Forgets the stretches that are over when `number` is the present one.
    fn advance(&mut self, number: u64) {
        let oldest = number.saturating_sub(u64::from(STRETCHES));
        let before = self.stretches.len();
        while self.stretches.front().is_some_and(|(at, _)| *at < oldest) {
            self.stretches.pop_front();
        }
        if self.stretches.len() != before {
            self.union = Sketch::new();
            for (_, sketch) in &self.stretches {
                self.union.merge(sketch);
            }
        }
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

    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    const NOW: Duration = Duration::from_secs(20_000 * 86_400);

    fn estimate(distinct: &mut Distinct, now: Duration) -> usize {
        let nobody = distinct.recipient("nobody@x.example");
        distinct.with("alice", MONTH, now, &[nobody]).0
    }

    #[test]
    fn four_thousand_are_told_from_three_and_five() {
        for seed in 0..20_u8 {
            let mut distinct = Distinct::new([seed; 32]);
            let mut past = None;
            for number in 0..5_000 {
                let to = distinct.recipient(&format!("contact{number}@list{seed}.example"));
                let (_, with) = distinct.with("alice", MONTH, NOW, &[to]);
                if with > 4_000 && past.is_none() {
                    past = Some(number);
                }
                distinct.add("alice", MONTH, NOW, to);
            }
            let past = past.unwrap_or(5_000);
            assert!((3_800..=4_200).contains(&past), "{past} with key {seed}");
        }
    }

    #[test]
    fn the_same_list_again_or_split_is_no_more() {
        let mut distinct = Distinct::new([7; 32]);
        for round in 0_u32..5 {
            for number in 0..1_000 {
                // Lists of lists, in capitals or not, day by day.
                let name = format!("Contact{}@List.example", (number * 7) % 1_000);
                let name = if round % 2 == 0 {
                    name
                } else {
                    name.to_uppercase()
                };
                let to = distinct.recipient(&name);
                distinct.add(
                    "alice",
                    MONTH,
                    NOW + Duration::from_secs(86_400) * round,
                    to,
                );
            }
        }
        let now = NOW + Duration::from_secs(5 * 86_400);
        let all = estimate(&mut distinct, now);
        assert!((950..=1_050).contains(&all), "{all}");
        let known = distinct.recipient("contact1@list.example");
        let (before, with) = distinct.with("alice", MONTH, now, &[known]);
        assert_eq!(before, with);
        let bob = distinct.recipient("x@y");
        assert_eq!(distinct.with("bob", MONTH, now, &[bob]), (0, 1));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_not_before() {
        let mut distinct = Distinct::new([7; 32]);
        let day = Duration::from_secs(86_400);
        for number in 0_u32..60 {
            let to = distinct.recipient(&format!("day{number}@x.example"));
            distinct.add("alice", MONTH, NOW + day * number, to);
        }
        let last = NOW + day * 59;
        let all = estimate(&mut distinct, last);
        assert!((30..=31).contains(&all), "{all}");
        assert_eq!(estimate(&mut distinct, last + day * 40), 0);
    }

    #[test]
    fn it_survives_being_written_down() {
        let mut distinct = Distinct::new([9; 32]);
        for number in 0..2_000 {
            let to = distinct.recipient(&format!("c{number}@x.example"));
            distinct.add("alice", MONTH, NOW, to);
        }
        let text = serde_json::to_vec(&distinct).unwrap();
        let mut again: Distinct = serde_json::from_slice(&text).unwrap();
        assert_eq!(estimate(&mut again, NOW), estimate(&mut distinct, NOW));
        let to = again.recipient("C5@X.example");
        let (before, with) = again.with("alice", MONTH, NOW, &[to]);
        assert_eq!(before, with, "known again");
        again.keep(|tenant, _| tenant != "alice");
        assert_eq!(estimate(&mut again, NOW), 0);
    }
}
