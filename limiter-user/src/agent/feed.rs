//! What the kernel refused becomes signals for the court, each refusal exactly once: the court
//! writes down up to which total of a tenant's counter it has heard, together with what it heard.
//! What an agent read and did not bring before the court when it was killed, the next one finds
//! between that total and the counter.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use limiter_common::verdict::Verdict;
use log::warn;

use super::heard::Heard;
use crate::{
    court::{Court, Now, Submission},
    ledger::{Evidence, Position},
    offence::{Book, Circumstances, Signal},
    report::event::EventRecord,
};

/// The counters' name in the record book.
const WHAT: &str = "refusals";
/// The reason of refusals of which no record says what they were.
const UNKNOWN: &str = "unknown";
/// How long a tenant's refusals are summed up before the court hears of them: the first at once,
/// an episode that goes on less and less often.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// How long it must have been quiet before the next refusal is heard at once again.
const QUIET: Duration = Duration::from_secs(300);
/// How many different kinds of refusals of one tenant are told apart until they are heard.
const MOST_KINDS: usize = 64;
/// How many tenants are heard at once.
const MOST_AT_ONCE: usize = 2_048;

/// What tells refusals of one tenant apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    reason: &'static str,
    refused: bool,
    source: Option<IpAddr>,
}

/// What was read of one tenant and is not heard yet.
struct Waiting {
    /// How often, by kind, and an example of each.
    kinds: BTreeMap<Kind, Kept>,
    /// Up to which total.
    total: u64,
    /// When it was last heard of, and how often in this episode.
    heard: Option<(Instant, usize)>,
}

/// What was read of one kind of refusals.
#[derive(Default)]
struct Kept {
    /// How often.
    count: u64,
    /// The first that was told.
    example: Option<EventRecord>,
    /// Who made them, and to which ports.
    around: Circumstances,
    /// When the last came.
    last: Option<Timestamp>,
}

/// What was read and is not heard yet.
pub struct Feed {
    heard: Heard,
    waiting: HashMap<String, Waiting>,
    /// Who has something that waits.
    pending: HashSet<String>,
    /// Whom any policy binds.
    bound: HashSet<String>,
}

impl Feed {
    /// Goes on where the record book ends; `epoch` tells the counters' life from others.
    #[must_use]
    pub fn new(epoch: String, positions: Vec<Position>) -> Self {
        Self {
            heard: Heard::new(WHAT, epoch, positions),
            waiting: HashMap::new(),
            pending: HashSet::new(),
            bound: HashSet::new(),
        }
    }

    /// The counters' name in the record book.
    #[must_use]
    pub const fn what() -> &'static str {
        WHAT
    }

    /// Whether anything was heard in this life of the counters.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.heard.is_empty()
    }

    /// Goes by these policies.
    pub fn set_book(&mut self, book: &Book) {
        self.bound = book
            .tenants
            .keys()
            .filter(|tenant| !book.binding(tenant).is_empty())
            .cloned()
            .collect();
    }

    /// Begins to listen in this life of the counters: whatever was refused up to these totals is
    /// not heard of.
    pub fn begin(&mut self, court: &Court, totals: impl IntoIterator<Item = (String, u64)>) {
        self.skip(totals.into_iter().filter(|(_, total)| *total > 0));
        // Says that somebody listens, also where nothing was refused yet.
        self.heard.extend([(String::new(), 0)]);
        if let Err(error) = court.hear(Vec::new(), &self.heard.positions()) {
            warn!("where the kernel's counters stand cannot be written down: {error}");
        }
    }

    /// Whatever was refused up to these totals is not heard of: nobody listened then.
    pub fn skip(&mut self, totals: impl IntoIterator<Item = (String, u64)>) {
        self.heard.extend(totals);
    }

    /// Whether a record of `tenant` with this total comes late, or its counter began anew.
    #[must_use]
    pub fn is_behind(&self, tenant: &str, total: u64) -> bool {
        self.heard.of(tenant).is_some_and(|heard| total < heard)
    }

    /// The counter of `tenant` began anew: nothing of this life of it was heard.
    pub fn begin_anew(&mut self, tenant: &str) {
        self.heard.extend([(tenant.to_owned(), 0)]);
        if let Some(waiting) = self.waiting.get_mut(tenant) {
            waiting.total = 0;
        }
    }

    /// Takes down refusals up to `total` of which no record says what they were.
    pub fn note_unknown(&mut self, tenant: &str, total: u64) {
        let kind = Kind {
            reason: UNKNOWN,
            refused: true,
            source: None,
        };
        self.add(tenant, total, kind, None);
    }

    /// Takes down what one record stands for; `total` is the tenant's counter with it.
    pub fn note(&mut self, record: &EventRecord, total: u64) {
        let Some(tenant) = &record.tenant else {
            return;
        };
        let kind = Kind {
            reason: record.reason.as_str(),
            refused: record.verdict != Verdict::WouldDeny,
            source: record.source.map(|source| network(source.address)),
        };
        self.add(tenant, total, kind, Some(record));
    }

    fn add(&mut self, tenant: &str, total: u64, mut kind: Kind, example: Option<&EventRecord>) {
        let heard = self.heard.of(tenant).unwrap_or_default();
        let waiting = self
            .waiting
            .entry(tenant.to_owned())
            .or_insert_with(|| Waiting {
                kinds: BTreeMap::new(),
                total: heard,
                heard: None,
            });
        // What comes late was counted with what came before it.
        let count = total.saturating_sub(waiting.total);
        if count == 0 {
            return;
        }
        waiting.total = total;
        if waiting.kinds.len() >= MOST_KINDS {
            kind.source = None;
        }
        let kept = waiting.kinds.entry(kind).or_default();
        kept.count = kept.count.saturating_add(count);
        if let Some(record) = example {
            kept.last = kept.last.max(Some(record.time));
            kept.around.add_from(&maker(record));
            if let Some(port) = record.destination.port {
                kept.around.add_port(port);
            }
            kept.example.get_or_insert_with(|| record.clone());
        }
        self.pending.insert(tenant.to_owned());
    }

    /// The tenants of whom more was refused than was read, by their counters: of a life of the
    /// agent that was killed.
    pub fn unread<'t>(
        &self,
        totals: impl IntoIterator<Item = (&'t str, u64)>,
    ) -> Vec<(String, u64)> {
        let known = |tenant: &str| {
            let waiting = self.waiting.get(tenant).map(|waiting| waiting.total);
            waiting.or_else(|| self.heard.of(tenant))
        };
        totals
            .into_iter()
            .filter(|(tenant, total)| *total > known(tenant).unwrap_or_default())
            .map(|(tenant, total)| (tenant.to_owned(), total))
            .collect()
    }

    /// Brings before the court what is due; all of it, if asked for. What cannot be recorded waits.
    pub fn bring(&mut self, court: &Court, now: Instant, all: bool) {
        let due: Vec<String> = self
            .pending
            .iter()
            .filter(|tenant| {
                let waiting = self.waiting.get(*tenant);
                all || waiting.is_some_and(|waiting| waiting.is_due(now))
            })
            .take(if all { usize::MAX } else { MOST_AT_ONCE })
            .cloned()
            .collect();
        if due.is_empty() {
            return;
        }
        let clock = court.clock();
        let mut submissions = Vec::new();
        let mut positions = Vec::new();
        for tenant in &due {
            let Some(waiting) = self.waiting.get(tenant) else {
                continue;
            };
            positions.push(self.heard.position(tenant, waiting.total));
            // Whom no policy binds nobody judges.
            if self.bound.contains(tenant) {
                submissions.extend(waiting.submissions(tenant, clock));
            }
        }
        if let Err(error) = court.hear(submissions, &positions) {
            warn!(
                "refusals of {} tenants wait to be heard: {error}",
                due.len()
            );
            return;
        }
        for position in positions {
            self.pending.remove(&position.tenant);
            if let Some(waiting) = self.waiting.get_mut(&position.tenant) {
                waiting.was_heard(now);
            }
            self.heard.extend([(position.tenant, position.total)]);
        }
        self.waiting.retain(|tenant, waiting| {
            self.pending.contains(tenant)
                || waiting
                    .heard
                    .is_some_and(|(at, _)| now.duration_since(at) < QUIET)
        });
    }
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.heard.is_none_or(|(at, times)| {
            let pause = PAUSES[times.min(PAUSES.len() - 1)];
            now.duration_since(at) >= pause
        })
    }

    fn was_heard(&mut self, now: Instant) {
        let times = match self.heard {
            Some((at, times)) if now.duration_since(at) < QUIET => times + 1,
            _ => 1,
        };
        self.heard = Some((now, times));
        self.kinds.clear();
    }

    fn submissions(&self, tenant: &str, clock: Now) -> impl Iterator<Item = Submission> {
        self.kinds.iter().map(move |(kind, kept)| {
            let example = kept.example.as_ref();
            let mut around = kept.around.clone();
            around.last = kept.last.map(|last| clock.engine(last.into()));
            let signal = Signal::Violations {
                tenant: tenant.to_owned(),
                reason: kind.reason.to_owned(),
                count: kept.count,
                refused: kind.refused,
                source: kind.source,
                happened: example.map_or(clock.engine, |example| clock.engine(example.time.into())),
                around,
            };
            let evidence = example.into_iter().map(|example| Evidence {
                kind: "event",
                body: serde_json::to_value(example).unwrap_or_default(),
            });
            Submission {
                evidence: evidence.collect(),
                ..Submission::of(signal)
            }
        })
    }
}

/// Who made an attempt, in short: the user and the program where they are known, else the address or
/// the interface that it came from.
fn maker(record: &EventRecord) -> String {
    match (record.uid, &record.comm, &record.source) {
        (Some(uid), Some(comm), _) => format!("uid {uid} ({comm})"),
        (Some(uid), None, _) => format!("uid {uid}"),
        (None, _, Some(source)) => source.address.to_string(),
        (None, _, None) => match &record.interface {
            Some(interface) => format!("interface {interface}"),
            None => "unknown".to_owned(),
        },
    }
}

/// What counts as one address: of IPv6 the network, in which everybody takes as many as they like.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(total: u64) -> Position {
        Position {
            tenant: "alice".to_owned(),
            what: WHAT,
            epoch: "1".to_owned(),
            total,
        }
    }

    fn waiting(feed: &Feed) -> u64 {
        let waiting = feed.waiting.get("alice");
        waiting.map_or(0, |it| it.kinds.values().map(|kept| kept.count).sum())
    }

    #[test]
    fn what_comes_late_is_not_heard_twice() {
        // The kernel's buffer held an event that an agent before had found in the counter already.
        let mut feed = Feed::new("1".to_owned(), vec![position(100)]);
        assert!(feed.is_behind("alice", 90));
        feed.note_unknown("alice", 90);
        assert_eq!(waiting(&feed), 0);
        feed.note_unknown("alice", 103);
        feed.note_unknown("alice", 102);
        assert_eq!(waiting(&feed), 3);
        // Only where the counter itself began anew, all of it is heard.
        feed.begin_anew("alice");
        feed.note_unknown("alice", 2);
        assert_eq!(waiting(&feed), 5);
    }
}
