//! Over how many addresses each tenant's mail went out, for policies that call that an offence. Most
//! tenants have one or two: they are never heard of. Whoever comes near what a policy allows is heard
//! of with all its addresses, each with the moment when mail last left from it.
//!
//! What is noted here is lost with the agent; the next one reads it back from the kept attempts.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use log::warn;

use super::feed::network;
use crate::{
    court::{Court, Submission},
    kernel::clock,
    offence::{Book, Moment, Signal, Span},
    report::{attempt::AttemptRecord, store::Reader},
};

/// How often it is looked whether there is something to tell.
const EVERY: Duration = Duration::from_secs(2);
/// How many addresses of one tenant are told apart; more than any policy asks for.
const MOST_ADDRESSES: usize = 1_024;
/// How many addresses of all tenants are told apart.
const MOST_ALTOGETHER: usize = 1 << 20;
/// How many parts of the shortest window an address that is used on is heard of at most once in.
const PARTS: u64 = 16;
/// How many kept attempts are read back at once, while others wait.
const BATCH: usize = 1_024;

/// What the policies that bind a tenant say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    /// From how many addresses on it is heard, and in what time.
    near: Vec<(usize, Span)>,
    longest: Span,
    shortest: Span,
}

/// When mail left from an address, and up to when that was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    last: Moment,
    told: Option<Moment>,
}

/// The addresses that mail went out from, by tenant. Times are the wall clock's.
#[derive(Debug, Default)]
pub struct Spread {
    rules: HashMap<String, Rules>,
    seen: HashMap<String, BTreeMap<IpAddr, Seen>>,
    /// How many addresses there are altogether.
    total: usize,
    looked: Option<Instant>,
}

/// What reads the kernel's reports and the clerk have in common.
#[derive(Clone, Debug, Default)]
pub struct SharedSpread(Arc<Mutex<Spread>>);

impl SharedSpread {
    /// For one step: nobody keeps it while waiting.
    pub fn lock(&self) -> MutexGuard<'_, Spread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads back what an earlier agent kept, in a thread of its own: a day can be long.
    pub fn recall(&self, history: Reader) {
        let Some(longest) = self.lock().longest() else {
            return;
        };
        let longest = i64::try_from(longest.0).unwrap_or(i64::MAX);
        let span = SignedDuration::from_millis(longest);
        let since = clock::timestamp().checked_sub(span).ok();
        let spread = self.clone();
        let reading = thread::Builder::new()
            .name("spread".to_owned())
            .spawn(move || {
                let attempts = match history.attempts(since, None) {
                    Ok(attempts) => attempts,
                    Err(error) => return warn!("{error}"),
                };
                let mut attempts = attempts.map_while(Result::ok).peekable();
                while attempts.peek().is_some() {
                    let batch: Vec<AttemptRecord> = attempts.by_ref().take(BATCH).collect();
                    let mut spread = spread.lock();
                    batch.iter().for_each(|attempt| spread.note(attempt));
                }
            });
        if let Err(error) = reading {
            warn!("where mail went out from before is not read back: {error}");
        }
    }
}

impl Spread {
    /// Goes by these policies.
    pub fn set_book(&mut self, book: &Book) {
        let rules = book.tenants.keys().filter_map(|tenant| {
            let ladders = book.binding(tenant);
            let spreads: Vec<(u64, Span)> = ladders.iter().flat_map(|it| it.spreads()).collect();
            let windows = || spreads.iter().map(|(_, within)| *within);
            let near = |(at_least, within): &(u64, Span)| {
                let half = usize::try_from(at_least.div_ceil(2)).unwrap_or(usize::MAX);
                (half, *within)
            };
            let rules = Rules {
                longest: windows().max()?,
                shortest: windows().min()?,
                near: spreads.iter().map(near).collect(),
            };
            Some((tenant.clone(), rules))
        });
        self.rules = rules.collect();
        let rules = &self.rules;
        self.seen.retain(|tenant, _| rules.contains_key(tenant));
        self.count();
    }

    /// How long it matters at most that mail went out, if it ever does.
    fn longest(&self) -> Option<Span> {
        self.rules.values().map(|rules| rules.longest).max()
    }

    fn count(&mut self) {
        self.total = self.seen.values().map(BTreeMap::len).sum();
    }

    /// Takes down where an attempt left from, if the record says that.
    pub fn note(&mut self, attempt: &AttemptRecord) {
        let (Some(tenant), Some(source)) = (&attempt.tenant, attempt.seen_from()) else {
            return;
        };
        if !self.rules.contains_key(tenant) {
            return;
        }
        if !self.seen.contains_key(tenant) {
            self.seen.insert(tenant.clone(), BTreeMap::new());
        }
        let Some(addresses) = self.seen.get_mut(tenant) else {
            return;
        };
        let source = network(source.address);
        let moment = Moment::from(attempt.time);
        if let Some(seen) = addresses.get_mut(&source) {
            seen.last = seen.last.max(moment);
            return;
        }
        if addresses.len() >= MOST_ADDRESSES || self.total >= MOST_ALTOGETHER {
            return;
        }
        let seen = Seen {
            last: moment,
            told: None,
        };
        addresses.insert(source, seen);
        self.total += 1;
    }

    /// Who is to be heard of at this moment of the wall clock, and where their mail went out from.
    /// What is too old to matter is forgotten.
    fn due(&mut self, now: Moment) -> Vec<(String, BTreeMap<IpAddr, Moment>)> {
        let mut due = Vec::new();
        for (tenant, addresses) in &mut self.seen {
            let Some(rules) = self.rules.get(tenant) else {
                continue;
            };
            let oldest = now.minus(rules.longest);
            addresses.retain(|_, seen| seen.last >= oldest);
            let is_near = |(half, within): &(usize, Span)| {
                let oldest = now.minus(*within);
                addresses.values().filter(|it| it.last >= oldest).count() >= *half
            };
            if !rules.near.iter().any(is_near) {
                continue;
            }
            let pause = Span(rules.shortest.0 / PARTS);
            let news: BTreeMap<IpAddr, Moment> = addresses
                .iter()
                .filter(|(_, seen)| {
                    seen.told
                        .is_none_or(|told| seen.last > told && seen.last.since(told) >= pause)
                })
                .map(|(address, seen)| (*address, seen.last))
                .collect();
            if !news.is_empty() {
                due.push((tenant.clone(), news));
            }
        }
        self.seen.retain(|_, addresses| !addresses.is_empty());
        self.count();
        due
    }

    fn told(&mut self, tenant: &str, told: &BTreeMap<IpAddr, Moment>) {
        let Some(addresses) = self.seen.get_mut(tenant) else {
            return;
        };
        for (address, moment) in told {
            if let Some(seen) = addresses.get_mut(address) {
                seen.told = Some(*moment);
            }
        }
    }
}

impl SharedSpread {
    /// Brings before the court who came near what a policy allows. What cannot be recorded waits.
    pub fn bring(&self, court: &Court, now: Instant) {
        let mut spread = self.lock();
        let looked = spread.looked.map(|at| now.duration_since(at));
        if spread.rules.is_empty() || looked.is_some_and(|ago| ago < EVERY) {
            return;
        }
        spread.looked = Some(now);
        let due = spread.due(Moment::from(clock::timestamp()));
        drop(spread);
        if due.is_empty() {
            return;
        }
        let clock = court.clock();
        let submissions = due.iter().map(|(tenant, sources)| {
            let engine = |(source, wall): (&IpAddr, &Moment)| (*source, clock.engine(*wall));
            Submission::of(Signal::Sources {
                tenant: tenant.clone(),
                sources: sources.iter().map(engine).collect(),
            })
        });
        if let Err(error) = court.hear(submissions.collect(), &[]) {
            warn!("where mail went out from waits to be heard of: {error}");
            return;
        }
        let mut spread = self.lock();
        for (tenant, sources) in &due {
            spread.told(tenant, sources);
        }
    }
}

#[cfg(test)]
mod tests;
