//! The court's clerk: a thread that lets time pass before the court, and brings what the kernel
//! refused before it. Whoever reads the kernel's reports never waits for the disk.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
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

/// Sends errands to the clerk.
#[derive(Clone)]
pub struct Errands(Sender<Errand>);

impl Errands {
    /// Hands on what one record stands for; `total` is the tenant's counter with it.
    pub fn note(&self, record: &Arc<EventRecord>, total: u64) {
        // A clerk that left has said so.
        let _ = self.0.send(Errand::Note(Arc::clone(record), total));
    }

    /// Has it heard how much was sent up to now. Whether it was, in so long.
    pub fn bring_sent(&self, patience: Duration) -> bool {
        let (answer, answered) = sync_channel(1);
        // A clerk that left has said so.
        let _ = self.0.send(Errand::Sent(answer));
        answered.recv_timeout(patience).is_ok()
    }

    /// Goes by other policies from now on.
    pub fn book(&self, book: Book) {
        let _ = self.0.send(Errand::Book(Box::new(book)));
    }
}

/// The clerk at work.
pub struct Clerk {
    errands: Errands,
    thread: thread::JoinHandle<()>,
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
        let (sender, errands) = channel();
        let thread = thread::Builder::new()
            .name("clerk".to_owned())
            .spawn(move || Desk::new(court, counted, shared, store).work(&errands))?;
        Ok(Self {
            errands: Errands(sender),
            thread,
        })
    }

    /// Where errands are taken.
    #[must_use]
    pub fn errands(&self) -> Errands {
        self.errands.clone()
    }

    /// Has everything that waits brought before the court.
    pub fn stop(self) {
        let _ = self.errands.0.send(Errand::Stop);
        if self.thread.join().is_err() {
            error!("the clerk of the court fell over");
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

    fn work(mut self, errands: &Receiver<Errand>) {
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
