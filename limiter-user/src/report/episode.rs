//! Episodes: a run of violations without a minute's pause, told as one.

use std::{
    collections::BTreeSet, collections::HashMap, collections::HashSet, net::IpAddr, time::Duration,
};

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
    /// To which ports, of what was seen; at most so many as anybody reads.
    pub ports: BTreeSet<u16>,
}

/// How many different ports of an episode are told.
const MOST_PORTS: usize = 8;

type Key = (Option<String>, Verdict, Reason);

/// Joins records into episodes as they are read, without keeping the records.
#[derive(Debug, Default)]
pub struct Joiner {
    episodes: Vec<Episode>,
    /// The latest episode of each kind, and the addresses dialled in it.
    open: HashMap<Key, (usize, HashSet<IpAddr>)>,
}

impl Joiner {
    /// Adds a record; records come oldest first.
    pub fn add(&mut self, record: EventRecord) {
        let key = (record.tenant.clone(), record.verdict, record.reason);
        if let Some((index, seen)) = self.open.get_mut(&key)
            && let Some(episode) = self.episodes.get_mut(*index)
            && episode.until.duration_until(record.time).unsigned_abs() <= PAUSE
        {
            if episode.ports.len() < MOST_PORTS {
                episode.ports.extend(record.destination.port);
            }
            episode.until = episode.until.max(record.time);
            episode.records += 1;
            episode.first.repeated = episode.first.repeated.saturating_add(record.repeated);
            if seen.len() < MOST_DESTINATIONS {
                seen.insert(record.destination.address);
            }
            episode.destinations = seen.len();
            return;
        }
        let seen = HashSet::from([record.destination.address]);
        self.open.insert(key, (self.episodes.len(), seen));
        self.episodes.push(Episode {
            until: record.time,
            ports: record.destination.port.into_iter().collect(),
            first: record,
            records: 1,
            destinations: 1,
        });
    }

    /// The episodes, in the order in which they began.
    #[must_use]
    pub fn finish(self) -> Vec<Episode> {
        self.episodes
    }
}
