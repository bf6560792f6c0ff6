//! Facts from the policy, the history of allowed attempts, and the mail server's logs.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    facts::{About, Facts, FactsError, Owner, Sighting},
    owners::Owners,
};
use crate::{
    complaint::log::{self, Account, LogFile, LogFound, LogQuery},
    report::{attempt::AttemptRecord, store::Reader},
};

/// The most records of one tenant, of the time in question, that a report is about: an attempt has two
/// at most. Whoever connects more often hides only connections of its own, and not that it sends.
const MOST_ABOUT: usize = 40_000;
/// The most others of one tenant.
const MOST_OTHERS: usize = 2_000;
/// The most of all.
const MOST: usize = 4_000_000;
/// Attempts are recorded nearly in the order of their times; so far behind it reading stops.
const DISORDER: SignedDuration = SignedDuration::from_mins(10);

/// What this node knows.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Whose things are.
    pub owners: Owners,
    /// The recorded attempts.
    pub history: Reader,
    /// The mail server's logs.
    pub logs: Vec<LogFile>,
}

impl Facts for NodeFacts {
    fn owner(&self, address: IpAddr) -> Owner {
        self.owners.owner(address)
    }

    fn tenant_of_domain(&self, domain: &str) -> Option<String> {
        self.owners.tenant_of_domain(domain)
    }

    fn tenant_of_account(&self, account: &Account) -> Option<String> {
        self.owners.tenant_of_account(account)
    }

    fn parent(&self, tenant: &str) -> Option<String> {
        self.owners.parent(tenant)
    }

    fn is_own_name(&self, host: &str) -> bool {
        self.owners.is_own_name(host)
    }

    fn sightings(
        &self,
        (from, until): (Timestamp, Timestamp),
        about: &About,
    ) -> Result<Vec<Sighting>, FactsError> {
        let mut counts: HashMap<Option<String>, [usize; 2]> = HashMap::new();
        let end = until.checked_add(DISORDER).unwrap_or(Timestamp::MAX);
        let mut attempts = Vec::new();
        for attempt in self.history.attempts(Some(from), None)? {
            let attempt = attempt?;
            if attempt.time > end {
                break;
            }
            if attempt.time > until {
                continue;
            }
            let port = attempt.source.and_then(|source| source.port);
            let is_about = (about.port.is_some() && port == about.port)
                || about.destination == Some(attempt.destination.address);
            let counted = match counts.get_mut(&attempt.tenant) {
                Some(counted) => counted,
                None => counts.entry(attempt.tenant.clone()).or_default(),
            };
            let (counted, most) = match (is_about, counted) {
                (true, [about, _]) => (about, MOST_ABOUT),
                (false, [_, others]) => (others, MOST_OTHERS),
            };
            if *counted >= most {
                continue;
            }
            *counted += 1;
            if attempts.len() >= MOST {
                return Err(FactsError::TooMany { most: MOST });
            }
            attempts.push(attempt);
        }
        Ok(sightings(attempts))
    }

    fn log(&self, query: &LogQuery) -> Result<LogFound, FactsError> {
        Ok(log::look_up(&self.logs, query)?)
    }
}

/// Attempts, each once: what says where one left from stands for it. Of what no uplink saw leave it is
/// not known from where the world saw it: at connect the port is not chosen yet, and a container's
/// own addresses are translated on the way.
fn sightings(attempts: Vec<AttemptRecord>) -> Vec<Sighting> {
    let key = |attempt: &AttemptRecord| {
        let tenant = attempt.tenant.clone();
        (attempt.moment, attempt.destination, tenant)
    };
    let departed: HashSet<_> = attempts
        .iter()
        .filter(|attempt| attempt.departure)
        .map(key)
        .collect();
    attempts
        .into_iter()
        .filter(|attempt| attempt.departure || !departed.contains(&key(attempt)))
        .map(|attempt| Sighting {
            time: attempt.time,
            source: attempt.seen_from(),
            tenant: attempt.tenant,
            destination: attempt.destination,
        })
        .collect()
}
