//! Episodes: a run of violations without a minute's pause, told as one.

use std::{collections::HashMap, collections::HashSet, net::IpAddr, time::Duration};

use jiff::Timestamp;
use limiter_common::verdict::{Reason, Verdict};

use super::event::EventRecord;

/// A pause longer than this ends an episode (design.md, section 2).
pub const PAUSE: Duration = Duration::from_secs(60);

/// How many different destinations of an episode are told apart.
const MOST_DESTINATIONS: usize = 10_000;

/// A run of violations of one tenant, of one verdict and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The first of them; `repeated` counts them all.
    pub first: EventRecord,
    /// When the last of them came.
    pub until: Timestamp,
    /// How many records were joined.
    pub records: u64,
    /// How many different addresses were dialled; counted up to ten thousand.
    pub destinations: usize,
}

type Key = (Option<String>, Verdict, Reason);

/// Joins records into episodes, in the order in which the episodes began.
#[must_use]
pub fn join(records: impl IntoIterator<Item = EventRecord>) -> Vec<Episode> {
    let mut episodes: Vec<(Episode, HashSet<IpAddr>)> = Vec::new();
    let mut open: HashMap<Key, usize> = HashMap::new();
    for record in records {
        let key = (record.tenant.clone(), record.verdict, record.reason);
        let current = open.get(&key).and_then(|index| episodes.get_mut(*index));
        if let Some((episode, seen)) = current
            && episode.until.duration_until(record.time).unsigned_abs() <= PAUSE
        {
            episode.until = episode.until.max(record.time);
            episode.records += 1;
            episode.first.repeated = episode.first.repeated.saturating_add(record.repeated);
            if seen.len() < MOST_DESTINATIONS {
                seen.insert(record.destination.address);
            }
            continue;
        }
        open.insert(key, episodes.len());
        let seen = HashSet::from([record.destination.address]);
        let episode = Episode {
            until: record.time,
            first: record,
            records: 1,
            destinations: 1,
        };
        episodes.push((episode, seen));
    }
    episodes
        .into_iter()
        .map(|(episode, seen)| Episode {
            destinations: seen.len(),
            ..episode
        })
        .collect()
}
