//! The court's clerk: a thread that lets time pass before the court, and brings what the kernel
//! refused before it. Whoever reads the kernel's reports never waits for the disk.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use limiter_common::stats::Stats;
use log::{error, warn};

use super::{feed::Feed, sent::Sent, spread::SharedSpread, state::Shared};
use crate::{
    court::Court,
    offence::{Book, Ladder, Span},
    report::{
        event::EventRecord,
        problem::Problem,
        store::{EventFilter, Reader, Store},
    },
};

/// How long after the start whatever an earlier agent left unread has to have come by itself.
const SETTLED: Duration = Duration::from_secs(5);
/// How far back the history is searched for what it was.
const LOOK_BACK: SignedDuration = SignedDuration::from_mins(60);
/// How often what is old is forgotten.
const TIDY: Duration = Duration::from_secs(3_600);
/// How often it is looked at least.
const LONGEST: Duration = Duration::from_secs(1);
/// How many errands wait one by one, while the record book keeps the clerk.
const MOST: usize = 16_384;
/// How long the agent waits for the clerk when it stops.
const GRACE: Duration = Duration::from_secs(10);

/// Something for the clerk.
enum Errand {
    /// What one record stands for, and the tenant's counter with it.
    Note(Arc<EventRecord>, u64),
    /// Other policies.
    Book(Box<Book>),
    /// How much was sent is to be heard now; then the answer.
    Sent(SyncSender<()>),
    /// Everything that waits is brought before the court, and the clerk leaves.
    Stop,
}

/// Sends errands to the clerk. Nobody who does waits.
#[derive(Clone)]
pub struct Errands {
    queue: SyncSender<Errand>,
    pile: Arc<Mutex<Pile>>,
}

/// What found no room in the queue: of each tenant the last record. It stands for all before it, since
/// the tenant's counter is with it: no refusal is lost, only what tells the summed-up ones apart.
#[derive(Default)]
struct Pile {
    last: HashMap<String, (Arc<EventRecord>, u64)>,
    book: Option<Box<Book>>,
    /// How many records were summed up, since the agent started.
    summed: u64,
    stop: bool,
}

impl Errands {
    fn new(queue: SyncSender<Errand>) -> Self {
        Self {
            queue,
            pile: Arc::default(),
        }
    }

    /// Hands on what one record stands for; `total` is the tenant's counter with it.
    pub fn note(&self, record: &Arc<EventRecord>, total: u64) {
        self.send(Errand::Note(Arc::clone(record), total));
    }

    /// Has it heard how much was sent up to now. Whether it was, in so long.
    pub fn bring_sent(&self, patience: Duration) -> bool {
        let (answer, answered) = sync_channel(1);
        // A clerk that left has said so.
        self.send(Errand::Sent(answer));
        answered.recv_timeout(patience).is_ok()
    }

    /// Goes by other policies from now on.
    pub fn book(&self, book: Book) {
        self.send(Errand::Book(Box::new(book)));
    }

    fn send(&self, errand: Errand) {
        // A clerk that left has said so.
        let Err(TrySendError::Full(errand)) = self.queue.try_send(errand) else {
            return;
        };
        let mut pile = self.pile();
        match errand {
            Errand::Note(record, total) => {
                pile.summed += 1;
                if let Some(tenant) = &record.tenant {
                    pile.last.insert(tenant.clone(), (record, total));
                }
            }
            Errand::Book(book) => pile.book = Some(book),
            // Whoever asked learns that it was not.
            Errand::Sent(_) => {}
            Errand::Stop => pile.stop = true,
        }
    }

    /// What found no room, in the order in which it is to be taken.
    fn piled(&self) -> Vec<Errand> {
        let mut pile = self.pile();
        let book = pile.book.take().map(Errand::Book);
        let notes = pile.last.drain();
        let notes = notes.map(|(_, (record, total))| Errand::Note(record, total));
        let mut errands: Vec<Errand> = notes.chain(book).collect();
        errands.extend(std::mem::take(&mut pile.stop).then_some(Errand::Stop));
        errands
    }

    /// What is to be told of it by `status`.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let pile = self.pile();
        (pile.summed > 0).then(|| {
            Problem::warning(
                format!(
                    "the record book was too slow: {} reports of refusals were summed up by tenant; \
                     their number is right, reason and source of some are those of the tenant's last",
                    pile.summed
                ),
                "look at the disk of state_dir; the next start of the agent forgets this",
            )
        })
    }

    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clerk at work.
pub struct Clerk {
    errands: Errands,
    /// Closed when it left.
    left: Receiver<()>,
}

impl Clerk {
    /// Begins to work for `court`.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(
        court: Arc<Court>,
        counted: (Feed, Sent, SharedSpread),
        shared: Shared,
        store: Option<Arc<Store>>,
    ) -> std::io::Result<Self> {
        let (sender, queue) = sync_channel(MOST);
        let (leaves, left) = sync_channel(0);
        let errands = Errands::new(sender);
        let taken = errands.clone();
        thread::Builder::new()
            .name("clerk".to_owned())
            .spawn(move || {
                let _leaves: SyncSender<()> = leaves;
                Desk::new(court, counted, shared, store).work(&queue, &taken);
            })?;
        Ok(Self { errands, left })
    }

    /// Where errands are taken.
    #[must_use]
    pub fn errands(&self) -> Errands {
        self.errands.clone()
    }

    /// Has everything that waits brought before the court; not for longer than the disk can be waited
    /// for: what is not, the next agent finds in the counters.
    pub fn stop(self) {
        self.errands.send(Errand::Stop);
        if self.left.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            error!(
                "the record book does not answer: refusals of the last seconds are heard after the \
                 next start"
            );
        }
    }
}

struct Desk {
    court: Arc<Court>,
    feed: Feed,
    sent: Sent,
    spread: SharedSpread,
    shared: Shared,
    store: Option<Arc<Store>>,
    since: Instant,
    /// Whether what an earlier agent left unread was looked for.
    looked: bool,
    /// When what is old was last forgotten.
    tidied: Option<Instant>,
}

impl Desk {
    fn new(
        court: Arc<Court>,
        (mut feed, mut sent, spread): (Feed, Sent, SharedSpread),
        shared: Shared,
        store: Option<Arc<Store>>,
    ) -> Self {
        let book = court.book();
        feed.set_book(&book);
        sent.set_book(&book);
        spread.lock().set_book(&book);
        spread.recall(Reader::new(&shared.lock().state_dir()));
        let mut looked = false;
        if feed.is_new() {
            // Nobody listened before: what was refused then is nobody's offence.
            feed.begin(&court, totals(&shared));
            looked = true;
        }
        Self {
            court,
            feed,
            sent,
            spread,
            shared,
            store,
            since: Instant::now(),
            looked,
            tidied: None,
        }
    }

    fn work(mut self, errands: &Receiver<Errand>, piled: &Errands) {
        let mut wait = Duration::ZERO;
        loop {
            let mut stop = false;
            match errands.recv_timeout(wait) {
                Ok(errand) => {
                    stop |= self.take(errand);
                    // What came together is brought together.
                    while let Ok(errand) = errands.try_recv() {
                        stop |= self.take(errand);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stop = true,
            }
            for errand in piled.piled() {
                stop |= self.take(errand);
            }
            if !self.looked && self.since.elapsed() >= SETTLED {
                self.looked = true;
                self.find_unread();
            }
            let now = Instant::now();
            self.feed.bring(&self.court, now, stop);
            self.spread.bring(&self.court, now);
            if stop || self.sent.is_due(now) {
                self.bring_sent(now);
            }
            if self.tidied.is_none_or(|at| at.elapsed() >= TIDY) {
                self.tidied = Some(Instant::now());
                self.tidy();
            }
            wait = self.court.tick().min(LONGEST);
            if stop {
                return;
            }
        }
    }

    fn take(&mut self, errand: Errand) -> bool {
        match errand {
            Errand::Note(record, total) => {
                if let Some(tenant) = &record.tenant
                    && self.feed.is_behind(tenant, total)
                    && self.began_anew(tenant)
                {
                    self.feed.begin_anew(tenant);
                }
                self.feed.note(&record, total);
            }
            Errand::Book(book) => {
                self.feed.set_book(&book);
                self.sent.set_book(&book);
                self.spread.lock().set_book(&book);
                self.court.set_book(*book);
            }
            Errand::Sent(answer) => {
                self.bring_sent(Instant::now());
                // Whoever asked may have gone on.
                let _ = answer.try_send(());
            }
            Errand::Stop => return true,
        }
        false
    }

    fn bring_sent(&mut self, now: Instant) {
        let totals = self.shared.lock().totals(|stats| stats.sent);
        self.sent.bring(&self.court, now, totals);
    }

    /// Whether a tenant's counter stands below what was heard of it.
    fn began_anew(&self, tenant: &str) -> bool {
        let total = self.shared.lock().total(tenant, Stats::notable);
        total.is_some_and(|total| self.feed.is_behind(tenant, total))
    }

    /// Forgets what is older than the configuration keeps cases, and than any policy wants; what only
    /// counted, as soon as events are.
    fn tidy(&self) {
        let retention = self.shared.lock().policy.node.retention.clone();
        let (before, counts, window) = self.court.study(|study| {
            let ladders = study.book.ladders.values();
            let wanted = ladders.filter_map(|it| it.keep_records).max();
            let keep = wanted.unwrap_or_default().max(Span::from(retention.cases));
            let windows = study.book.ladders.values().map(Ladder::longest_window);
            // Buckets are a minute wide.
            let window = windows.max().unwrap_or_default();
            let window = Span(window.0.saturating_add(60_000));
            let counts = window.max(Span::from(retention.events));
            (study.now.minus(keep), study.now.minus(counts), window)
        });
        let court = &self.court;
        let forgotten = court.forget_before(before);
        if let Err(error) = forgotten.and_then(|()| court.forget_counts_before(counts, window)) {
            warn!("old records are kept: {error}");
        }
    }

    /// Finds refusals that an earlier agent read and did not bring before the court. What they
    /// were, the history says.
    fn find_unread(&mut self) {
        let totals = totals(&self.shared);
        let all = totals
            .iter()
            .map(|(tenant, total)| (tenant.as_str(), *total));
        let unread = self.feed.unread(all);
        if unread.is_empty() {
            return;
        }
        let last = self.last_records();
        for (tenant, total) in unread {
            match last.get(&tenant) {
                Some(record) => self.feed.note(record, total),
                None => {
                    warn!("no record says what refusals of {tenant:?} were");
                    self.feed.note_unknown(&tenant, total);
                }
            }
        }
    }

    fn last_records(&self) -> HashMap<String, EventRecord> {
        let Some(store) = &self.store else {
            return HashMap::new();
        };
        let filter = EventFilter {
            since: Timestamp::now().checked_sub(LOOK_BACK).ok(),
            tenant: None,
        };
        match store.history(&filter) {
            Ok(history) => history
                .filter_map(Result::ok)
                .filter_map(|record| Some((record.tenant.clone()?, record)))
                .collect(),
            Err(error) => {
                warn!("{error}");
                HashMap::new()
            }
        }
    }
}

/// What was refused to each tenant, by the counters.
fn totals(shared: &Shared) -> Vec<(String, u64)> {
    shared.lock().totals(Stats::notable)
}

#[cfg(test)]
mod tests {
    use limiter_common::event::{COMM_LEN, Event};

    use super::*;
    use crate::report::event::{Clock, Names, Process};

    struct Alice;
    impl Names for Alice {
        fn tenant(&self, index: u32) -> Option<String> {
            Some(format!("t{index}"))
        }
        fn cgroup(&self, _: u64) -> Option<String> {
            None
        }
        fn interface(&self, _: u32) -> Option<String> {
            None
        }
    }

    fn record(tenant: u32) -> Arc<EventRecord> {
        let event = Event {
            time_ns: 0,
            repeated: 1,
            total: 1,
            cgroup_id: 0,
            limit_span_ns: 0,
            tenant,
            limit_owner: 0,
            limit_max: 0,
            uid: 0,
            pid: 0,
            interface: 0,
            source_port: 0,
            destination_port: 25,
            verdict: 0,
            reason: 1,
            layer: 0,
            flags: 0,
            limit_unit: 0,
            limit_kind: 0,
            reserved: [0; 6],
            comm: [0; COMM_LEN],
            source: [0; 16],
            destination: [0; 16],
        };
        let clock = Clock { offset_ns: 0 };
        Arc::new(EventRecord::new(
            &event,
            "node",
            clock,
            &Alice,
            Process::default(),
        ))
    }

    #[test]
    fn what_finds_no_room_is_summed_up_and_told() {
        let (sender, queue) = sync_channel(2);
        let errands = Errands::new(sender);
        for total in 1..=10 {
            errands.note(&record(1), total);
        }
        errands.note(&record(2), 7);
        errands.book(Book::default());
        errands.send(Errand::Stop);
        let problem = errands.problem().unwrap().problem;
        assert!(problem.contains("9 reports"), "{problem}");
        // The queue first: then what stands for all the rest.
        let first: Vec<u64> = queue.try_iter().filter_map(total).collect();
        assert_eq!(first, [1, 2]);
        let piled = errands.piled();
        assert!(matches!(piled.last(), Some(Errand::Stop)));
        assert!(matches!(piled[2], Errand::Book(_)));
        let mut rest: Vec<u64> = piled.into_iter().filter_map(total).collect();
        rest.sort_unstable();
        assert_eq!(rest, [7, 10]);
        // There is room again.
        errands.note(&record(1), 11);
        assert_eq!(queue.try_iter().filter_map(total).last(), Some(11));
        assert!(errands.piled().is_empty());
        assert!(errands.problem().is_some(), "said until the next start");
    }

    fn total(errand: Errand) -> Option<u64> {
        match errand {
            Errand::Note(_, total) => Some(total),
            _ => None,
        }
    }
}
