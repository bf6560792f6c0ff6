//! Reading what the kernel reports, and handing it on: to the history first, then to whoever
//! follows.

use std::{collections::HashMap, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use limiter_common::event::{Attempt, Event, flags};
use log::{info, warn};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::broadcast,
    time::{self, MissedTickBehavior},
};

use super::{
    budgets::Budgets, chambers::Door, names::NodeNames, spread::SharedSpread, state::Shared,
    tally::Tally,
};
use crate::{
    kernel::{
        clock,
        reports::{Reports, Wake},
    },
    report::{
        advice::{happened, next_step},
        attempt::AttemptRecord,
        event::{Clock, EventRecord, Process},
        store::{EventFilter, Store},
    },
};

/// How long an episode's lines in the log are at least apart.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// How often allowed attempts are looked for.
const GLANCE: Duration = Duration::from_millis(250);

/// How many reports of one kind are read before the other has its turn.
const AT_ONCE: usize = 1_024;

/// How far back an earlier life of the agent is looked for.
const RESUME_FROM: SignedDuration = SignedDuration::from_mins(10);

/// Where reports go.
pub struct Sink {
    /// The history; none if it could not be opened.
    pub store: Option<Arc<Store>>,
    /// Whoever follows.
    pub follow: broadcast::Sender<Arc<EventRecord>>,
    /// The node's name.
    pub node: String,
    /// The way to the court, to which refusals are brought once it is open.
    pub court: Arc<Door>,
    /// From where allowed attempts left.
    pub spread: SharedSpread,
}

/// Reads reports until the agent stops.
pub struct Reader {
    reports: Reports,
    sink: Sink,
    names: NodeNames,
    tally: Tally,
    budgets: Budgets,
    logged: HashMap<(Option<String>, &'static str), Timestamp>,
}

impl Reader {
    /// Reads `reports`, names what is in them by `names`, and hands them to `sink`.
    pub fn new(reports: Reports, sink: Sink, names: NodeNames) -> Self {
        Self {
            reports,
            sink,
            names,
            tally: Tally::default(),
            budgets: Budgets::default(),
            logged: Default::default(),
        }
    }

    /// Reads until the task is dropped.
    ///
    /// # Errors
    ///
    /// The ring buffers cannot be waited for.
    pub async fn run(mut self, shared: Shared) -> io::Result<()> {
        let events = watch(self.reports.events_fd())?;
        let attempts = watch(self.reports.attempts_fd())?;
        // Allowed ones wake nobody while they are few: that would cost each of them more than all the
        // rest.
        let mut glance = time::interval(GLANCE);
        glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut second = time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What came before the descriptors were watched.
        self.drain();
        self.resume(&shared);
        loop {
            let wake = tokio::select! {
                ready = events.readable() => { ready?.clear_ready(); Wake::Events }
                ready = attempts.readable() => { ready?.clear_ready(); Wake::Attempts }
                _ = glance.tick() => Wake::Attempts,
                _ = second.tick() => Wake::Second,
            };
            self.drain();
            if wake == Wake::Second {
                self.tell_rests(&shared);
            }
        }
    }

    fn drain(&mut self) {
        let clock = Clock::new(clock::timestamp(), clock::monotonic_ns());
        // In turns: a flood of the one must not keep the other waiting.
        loop {
            let mut idle = true;
            for _ in 0..AT_ONCE {
                let Some(event) = self.reports.next_event() else {
                    break;
                };
                self.tell(&event, clock);
                idle = false;
            }
            for _ in 0..AT_ONCE {
                let Some(attempt) = self.reports.next_attempt() else {
                    break;
                };
                self.keep(&attempt, clock);
                idle = false;
            }
            if idle {
                break;
            }
        }
    }

    fn tell(&mut self, event: &Event, clock: Clock) {
        let stands_for = self.tally.stands_for(event);
        let process = if event.flags & flags::HAS_TASK != 0 {
            Process::look(event.pid)
        } else {
            Process::default()
        };
        let mut record = EventRecord::new(event, &self.sink.node, clock, &self.names, process);
        record.repeated = stands_for;
        self.tally.told(event, &record);
        // What the counters said before the event arrived was told already.
        if stands_for > 0 {
            self.hand_on(record, event.total);
        }
    }

    fn keep(&mut self, attempt: &Attempt, clock: Clock) {
        // Nobody may fill the disk, and the day's file that others' attempts stand in, for nothing.
        if !self.budgets.take(attempt.tenant, attempt.time_ns) {
            return;
        }
        let record = AttemptRecord::new(attempt, clock, &self.names);
        self.sink.spread.lock().note(&record);
        if let Some(store) = &self.sink.store {
            store.record_attempt(record);
        }
    }

    /// Finds what an earlier life of the agent left untold: refusals that were summed up when it
    /// was killed. The history has the event that they follow.
    fn resume(&mut self, shared: &Shared) {
        let Some(store) = self.sink.store.clone() else {
            return;
        };
        let untold = shared.lock().untold();
        if untold.is_empty() {
            return;
        }
        let since = Timestamp::now().checked_sub(RESUME_FROM).ok();
        let history = match store.history(&EventFilter {
            since,
            tenant: None,
        }) {
            Ok(history) => history,
            Err(error) => {
                warn!("{error}");
                return;
            }
        };
        let last: HashMap<String, EventRecord> = history
            .filter_map(Result::ok)
            .filter_map(|record| Some((record.tenant.clone()?, record)))
            .collect();
        for (tenant, name, told) in untold {
            if let Some(last) = last.get(&name) {
                self.tally.resume(tenant, told, last.clone());
            }
        }
    }

    /// Tells what the counters say beyond what events told of.
    fn tell_rests(&mut self, shared: &Shared) {
        let now_ns = clock::monotonic_ns();
        let due = self.tally.due(now_ns);
        if due.is_empty() {
            return;
        }
        let mut totals = Vec::new();
        {
            let state = shared.lock();
            for tenant in due {
                match state.kernel.maps.counters(tenant) {
                    Ok(stats) => totals.push((tenant, stats.notable())),
                    Err(error) => warn!("{error}"),
                }
            }
        }
        // What was counted by then and told by an event of its own is not a rest.
        self.drain();
        let mut rests = Vec::new();
        {
            let mut state = shared.lock();
            for (tenant, total) in totals {
                let Some(rest) = self.tally.rest(tenant, total, now_ns) else {
                    continue;
                };
                rests.push((rest, total));
                if let Err(error) = state.kernel.set_told(tenant, total) {
                    warn!("{error}");
                }
            }
        }
        for (rest, total) in rests {
            let rest = EventRecord {
                time: clock::timestamp(),
                ..rest
            };
            self.hand_on(rest, total);
        }
    }

    /// Hands a record on; `total` is the tenant's counter with what it stands for.
    fn hand_on(&mut self, record: EventRecord, total: u64) {
        self.log(&record);
        let record = Arc::new(record);
        if let Some(court) = self.sink.court.errands() {
            court.note(&record, total);
        }
        if let Some(store) = &self.sink.store {
            store.record(Arc::clone(&record));
        }
        // Nobody may be following.
        let _ = self.sink.follow.send(record);
    }

    /// One line an episode: the first refusal for a reason, and then one a minute at most.
    fn log(&mut self, record: &EventRecord) {
        let key = (record.tenant.clone(), record.reason.as_str());
        let last = self.logged.get(&key);
        if last.is_some_and(|last| last.duration_until(record.time).unsigned_abs() < LOG_PAUSE) {
            return;
        }
        if self.logged.len() >= 100_000 {
            self.logged.clear();
        }
        self.logged.insert(key, record.time);
        let tenant = record.tenant.as_deref().unwrap_or("?");
        let (verdict, reason) = (record.verdict.as_str(), record.reason.as_str());
        let mut who = String::new();
        if let Some(uid) = record.uid {
            who.push_str(&format!(" uid={uid}"));
        }
        if let Some(pid) = record.pid {
            let comm = record.comm.as_deref().unwrap_or("?");
            who.push_str(&format!(" pid={pid} comm={comm:?}"));
        }
        if let Some(interface) = &record.interface {
            who.push_str(&format!(" interface={interface:?}"));
        }
        if let (None, Some(source)) = (record.pid, &record.source) {
            who.push_str(&format!(" from={source}"));
        }
        info!(
            "{verdict}: tenant={tenant:?} reason={reason} layer={}{who} to={}: {}; {}",
            record.layer.as_str(),
            record.destination,
            happened(record.reason),
            next_step(record.reason),
        );
    }
}

fn watch(ring: io::Result<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and so open, as long as it is registered.
    unsafe { AsyncFd::register_with_interest(ring?, Interest::READABLE) }.map_err(io::Error::from)
}
