//! The bench: hears one thing after the other, writes it down with what follows, and sees to it that the
//! kernel does it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use log::{debug, error, info};

use super::{
    announcing::{announce, log_line},
    bailiff::Bailiff,
    hearing::{Submission, Verdict},
    later::Later,
    setting::{Clocks, CourtError, Herald, Setting, Study},
    shown::Shown,
    slate::Slate,
    spare::Spare,
};
use crate::{
    ledger::{Entry, Ledger, LedgerError, LogMark, Position},
    offence::{self, Action, Book, Moment, Notice, Reading, Signal, Span, State},
    report::problem::Problem,
    system::sealed::SealedError,
};

/// Who sits there, and all that belongs to hearing.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) ledger: Ledger,
    book: Arc<Book>,
    pub(super) clocks: Arc<dyn Clocks>,
    pub(super) bailiff: Box<dyn Bailiff>,
    herald: Box<dyn Herald>,
    /// Whom the kernel does not treat yet as the record says.
    pub(super) owed: BTreeSet<String>,
    /// What holds already and could not be recorded.
    pub(super) later: Arc<Later>,
    pub(super) slate: Arc<Mutex<Slate>>,
    pub(super) shown: Arc<Shown>,
    /// Why the record book cannot be written to.
    failing: Option<Problem>,
    /// It cannot be read either.
    lost: Option<String>,
    /// Why the kernel does not do what it should.
    pub(super) resisting: Option<String>,
    /// The copy of what is in force.
    pub(super) spare: Spare,
    /// What was wrong with the record book or its copy at the start.
    pub(super) opening: Vec<Problem>,
    /// When the clock was last written down.
    clock_kept: Moment,
}

/// Up to where what is heard was read, wherever that is.
#[derive(Clone, Copy, Default)]
pub(super) struct Read<'r> {
    /// The kernel's counters.
    pub(super) positions: &'r [Position],
    /// The mail server's logs.
    pub(super) logs: &'r [LogMark],
}

/// How often the clock is written down when nothing else is.
const KEEP_CLOCK: Span = Span::seconds(60);

impl Bench {
    /// Makes the kernel agree with the record book, as [`Court::open`](super::Court::open) says.
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub(super) fn open(setting: Setting) -> Result<Self, CourtError> {
        let state = setting.ledger.state()?;
        let recorded = setting.ledger.clock()?;
        let directory = setting.ledger.path().parent().unwrap_or(Path::new("/"));
        let directory = directory.to_owned();
        let (spare, copy, broken) = Spare::open(&directory);
        let (slate, words, unreadable) = Slate::open(&directory);
        let clocks: Arc<dyn Clocks> = Arc::from(setting.clocks);
        let book = Arc::new(setting.book);
        let shown = Shown::new(&state, Arc::clone(&book), Arc::clone(&clocks), directory);
        let mut bench = Bench {
            state,
            ledger: setting.ledger,
            book,
            clocks,
            bailiff: setting.bailiff,
            herald: setting.herald,
            owed: BTreeSet::new(),
            later: Arc::default(),
            slate: Arc::new(Mutex::new(slate)),
            shown: Arc::new(shown),
            failing: None,
            lost: None,
            resisting: None,
            spare,
            opening: broken.into_iter().collect(),
            clock_kept: Moment(0),
        };
        bench
            .opening
            .extend(unreadable.map(|why| unreadable_words(&why)));
        let (now, reading) = bench.now();
        for submission in setting.later {
            bench.later.say(submission, now, reading.wall);
        }
        bench.later.recall(words);
        // What the last page of the book lifted, the kernel may not have heard of.
        let last = bench.state.clock.now();
        if let Some(copy) = copy {
            bench.restore(&copy, recorded.as_ref());
        }
        bench.adopt(last);
        bench.hear_what_holds();
        // What ended while nobody looked. What stands in the way, the bench notes.
        let _ = bench.hear(vec![Submission::of(Signal::Tick)], &[]);
        bench.reconcile();
        bench.carry_out_what_holds();
        bench.renew_spare();
        bench.keep_words();
        Ok(bench)
    }

    /// What is wrong, as far as only the bench knows it.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.failing.iter().cloned().collect();
        problems.extend(self.opening.iter().cloned());
        problems.extend(self.spare.failing().cloned());
        if let Some(why) = &self.lost {
            problems.push(Problem::error(
                format!(
                    "nothing is heard any more: {}",
                    CourtError::Lost(why.clone())
                ),
                CourtError::Lost(String::new()).remedy(),
            ));
        }
        if let Some(why) = &self.resisting {
            problems.push(Problem::error(
                format!("a sanction is decided and not in force: {why}"),
                "it is tried again every second; `limiter doctor` says what the kernel lacks",
            ));
        }
        problems
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// Goes by other policies, and gives tenants that are there again what they are owed.
    pub(super) fn set_book(&mut self, book: Book) {
        self.book = Arc::new(book);
        self.shown.set_book(Arc::clone(&self.book));
        self.reconcile();
    }

    /// Keeps on the disk what operators said and the book does not have; and nothing of what it has.
    pub(super) fn keep_words(&self) {
        let mut slate = self.slate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = self.later.keep(|words| slate.keep(words)) {
            // `status` says so; it is tried again every second.
            debug!("what operators said cannot be kept: {why}");
        }
    }

    /// The engine's time, without letting it pass.
    pub(super) fn now(&mut self) -> (Moment, Reading) {
        let reading = self.clocks.read();
        let mut clock = self.state.clock.clone();
        let now = clock.look(&reading, self.state.records.is_empty());
        (now, reading)
    }

    pub(super) fn hear(
        &mut self,
        submissions: Vec<Submission>,
        positions: &[Position],
    ) -> Result<Vec<Verdict>, CourtError> {
        let read = Read {
            positions,
            logs: &[],
        };
        self.hear_read(submissions, read)
    }

    /// Hears all of it or nothing.
    pub(super) fn hear_read(
        &mut self,
        submissions: Vec<Submission>,
        read: Read<'_>,
    ) -> Result<Vec<Verdict>, CourtError> {
        if let Some(why) = &self.lost {
            return Err(CourtError::Lost(why.clone()));
        }
        let reading = self.clocks.read();
        let clock = self.state.clock.clone();
        let mut touched = BTreeSet::new();
        let written = self.write(&reading, submissions, read, &mut touched);
        match self.noted(written) {
            Ok(verdicts) => {
                self.clock_kept = self.state.clock.now();
                for tenant in &touched {
                    let record = self.state.records.get(tenant);
                    self.spare.note(tenant, record, &self.state.clock, &reading);
                }
                let shown = touched.clone();
                self.owed.extend(touched);
                self.carry_out();
                self.shown.show(&self.state, &shown);
                // The copy follows: it is for the day on which the book is gone, and keeps nobody
                // waiting for his sanction.
                self.keep_spare();
                let actions = verdicts.iter().flat_map(|verdict| &verdict.actions);
                for line in actions.filter_map(log_line) {
                    info!("{line}");
                }
                Ok(verdicts)
            }
            Err(error) => {
                self.state.clock = clock;
                self.forget(&touched);
                Err(error)
            }
        }
    }

    fn write(
        &mut self,
        reading: &Reading,
        submissions: Vec<Submission>,
        read: Read<'_>,
        touched: &mut BTreeSet<String>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        let page = self.ledger.begin()?;
        let mut verdicts = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let key = submission.key.as_deref();
            if let Some(key) = key
                && let Some(id) = page.heard(key)?
            {
                verdicts.push(Verdict {
                    id,
                    duplicate: true,
                    at: self.state.clock.now(),
                    actions: Vec::new(),
                });
                continue;
            }
            let outcome = offence::step(&mut self.state, &self.book, &submission.signal, reading);
            touched.extend(outcome.touched);
            let at = self.state.clock.now();
            let entry = Entry {
                key,
                signal: &submission.signal,
                at,
                reading,
                by: submission.by.as_ref(),
                reason: submission.reason.as_deref(),
                actions: &outcome.actions,
            };
            // Time that passes is only worth a line if it changed something.
            let silent = submission.signal == Signal::Tick && outcome.actions.is_empty();
            let id = if silent {
                0
            } else {
                page.signal(&entry, &submission.evidence)?
            };
            if let Some(row) = &submission.complaint {
                page.complaint(row)?;
            }
            let notices = page.actions(id, at, reading.wall, &outcome.actions)?;
            let study = Study {
                records: &self.state.records,
                book: &self.book,
                now: at,
                wall: reading.wall,
            };
            announce(&page, &*self.herald, &study, &notices)?;
            verdicts.push(Verdict {
                id,
                duplicate: false,
                at,
                actions: outcome.actions,
            });
        }
        for tenant in &*touched {
            if let Some(record) = self.state.records.get(tenant) {
                page.record(tenant, record)?;
            }
        }
        for position in read.positions {
            page.position(position)?;
        }
        for mark in read.logs {
            page.log(mark)?;
        }
        page.clock(&self.state.clock)?;
        page.commit()?;
        Ok(verdicts)
    }

    pub(super) fn tell(&mut self, notice: Notice) -> Result<(), CourtError> {
        let (at, reading) = self.now();
        let action = [Action::Notify(Box::new(notice))];
        let study = Study {
            records: &self.state.records,
            book: &self.book,
            now: at,
            wall: reading.wall,
        };
        let written = self.ledger.begin().and_then(|page| {
            let notices = page.actions(0, at, reading.wall, &action)?;
            announce(&page, &*self.herald, &study, &notices)?;
            page.commit()
        });
        self.noted(written)
    }

    /// Takes back what was not committed.
    fn forget(&mut self, touched: &BTreeSet<String>) {
        for tenant in touched {
            match self.ledger.record(tenant) {
                Ok(record) => self.state.restore(tenant, record),
                Err(error) => {
                    error!("the record of {tenant:?} cannot be read back: {error}");
                    self.lost = Some(error.to_string());
                }
            }
        }
    }

    /// Goes by what was committed last, if that can be read again.
    fn read_again(&mut self) {
        if let Ok(state) = self.ledger.state() {
            info!("the record book can be read again");
            self.state = state;
            self.lost = None;
            self.shown.show_all(&self.state);
            self.reconcile();
        }
    }

    /// Remembers whether the record book takes what is written.
    pub(super) fn noted<T>(&mut self, written: Result<T, LedgerError>) -> Result<T, CourtError> {
        match written {
            Ok(value) => {
                if self.failing.take().is_some() {
                    info!("the record book can be written to again");
                }
                Ok(value)
            }
            Err(error) => {
                let error = CourtError::from(error);
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn fail(&mut self, error: &CourtError) {
        let problem = Problem::error(
            format!("offences and sanctions cannot be recorded: {error}"),
            error.remedy(),
        );
        if self.failing.as_ref() != Some(&problem) {
            error!("{}; {}", problem.problem, problem.remedy);
        }
        self.failing = Some(problem);
    }

    /// Hears what holds already and is not recorded.
    pub(super) fn hear_later(&mut self) -> Result<(), CourtError> {
        let later = self.later.all();
        if later.is_empty() {
            return Ok(());
        }
        let mut last = Moment(0);
        for owed in &later {
            let (now, _) = self.now();
            let verdicts = self.hear(vec![owed.submission(now)], &[])?;
            if verdicts.iter().any(|verdict| !verdict.duplicate) {
                last = self.state.clock.now();
                // A word counts for what began before it, from the next moment on.
                thread::sleep(Duration::from_millis(2));
            }
        }
        self.hear(vec![Submission::of(Signal::Tick)], &[])?;
        if last >= self.state.clock.now() {
            // The clock stands still. Next time.
            return Ok(());
        }
        // The kernel follows the record again.
        self.later.forget(&later);
        let tenants = later.iter().filter_map(|owed| owed.signal.tenant());
        self.owed.extend(tenants.map(ToOwned::to_owned));
        self.carry_out();
        self.keep_words();
        Ok(())
    }

    pub(super) fn tick(&mut self) -> Duration {
        const SOON: Duration = Duration::from_secs(1);
        const LATEST: Duration = Duration::from_secs(5);
        let (now, _) = self.now();
        let due = self.state.wake().is_some_and(|wake| wake <= now);
        let keep = now.since(self.clock_kept) >= KEEP_CLOCK;
        if self.lost.is_some() {
            self.read_again();
        }
        if !self.later.is_empty() && (self.lost.is_some() || self.hear_later().is_err()) {
            self.keep_words();
            self.spare_what_holds();
            return SOON;
        }
        if (due || keep || self.failing.is_some())
            && self.lost.is_none()
            && self.hear(vec![Submission::of(Signal::Tick)], &[]).is_err()
        {
            return SOON;
        }
        self.keep_spare();
        if !self.owed.is_empty() {
            self.carry_out();
            return SOON;
        }
        let wake = self
            .state
            .wake()
            .map_or(LATEST, |wake| Duration::from(wake.since(now)).min(LATEST));
        wake.max(Duration::from_millis(10))
    }
}

fn unreadable_words(why: &SealedError) -> Problem {
    Problem::error(
        format!(
            "what operators said and was not in the record book when the agent ended cannot be \
             read: {why}"
        ),
        "the agent's log and audit.jsonl have what was said: say it again",
    )
}
