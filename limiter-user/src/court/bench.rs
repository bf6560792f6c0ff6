//! Where it is heard, one thing after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use log::{debug, error, info};

use super::{
    bailiff::Bailiff,
    hearing::{Submission, Verdict},
    later::Later,
    setting::{Clocks, CourtError, Herald, Now, Setting, Study, Told},
    shown::Shown,
    sitting::Sitting,
    slate::Slate,
    spare::Spare,
};
use crate::{
    ledger::{Due, Entry, Ledger, LedgerError, LogMark, Page, Position},
    notice::Lane,
    offence::{self, Action, Book, Evidence, Moment, Notice, Reading, Record, Signal, Span, State},
    report::problem::Problem,
    system::sealed::SealedError,
};

/// The court. Calls that write may block: on the disk, and on the kernel. Those that only look do not.
pub struct Court {
    bench: Mutex<Bench>,
    /// Since when somebody sits there.
    pub(super) since: Mutex<Option<Instant>>,
    pub(super) shown: Arc<Shown>,
    pub(super) later: Arc<Later>,
    pub(super) slate: Arc<Mutex<Slate>>,
}

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
    slate: Arc<Mutex<Slate>>,
    shown: Arc<Shown>,
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
struct Read<'r> {
    /// The kernel's counters.
    positions: &'r [Position],
    /// The mail server's logs.
    logs: &'r [LogMark],
}

/// How often the clock is written down when nothing else is.
const KEEP_CLOCK: Span = Span::seconds(60);

impl Court {
    /// Opens the court: the kernel agrees with the record book when this returns, as far as there
    /// are tenants. What the kernel enforces and no record knows of, is taken over as an operator's
    /// word; so is what the copy says was in force, where the book is new or older than the copy.
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub fn open(setting: Setting) -> Result<Self, CourtError> {
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
        let court = Self {
            since: Mutex::default(),
            shown: Arc::clone(&bench.shown),
            later: Arc::clone(&bench.later),
            slate: Arc::clone(&bench.slate),
            bench: Mutex::new(bench),
        };
        drop(court.bench());
        Ok(court)
    }

    /// Hears all of it, or nothing: when this returns, it is on the disk and in force in the kernel.
    /// `positions` are written with it.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then nothing of it happened.
    pub fn hear(
        &self,
        submissions: Vec<Submission>,
        positions: &[Position],
    ) -> Result<Vec<Verdict>, CourtError> {
        self.bench().hear(submissions, positions)
    }

    /// As [`Court::hear`], and writes down what was read of the mail server's logs for it.
    ///
    /// # Errors
    ///
    /// It could not be recorded: then nothing of it happened.
    pub fn hear_of_logs(
        &self,
        submissions: Vec<Submission>,
        logs: &[LogMark],
    ) -> Result<Vec<Verdict>, CourtError> {
        let read = Read {
            positions: &[],
            logs,
        };
        self.bench().hear_read(submissions, read)
    }

    /// Lets happen what is due, and tries again what failed. Gives when to call it next, at the
    /// latest.
    pub fn tick(&self) -> Duration {
        self.bench().tick()
    }

    /// Goes by other policies from now on; tenants that are there again get what they are owed.
    pub fn set_book(&self, book: Book) {
        let mut bench = self.bench();
        bench.book = Arc::new(book);
        self.shown.set_book(Arc::clone(&bench.book));
        bench.reconcile();
    }

    /// Makes the kernel agree with all records: after tenants came or went.
    pub fn reconcile(&self) {
        self.bench().reconcile();
    }

    /// The record of a tenant, with the moment at which it was looked at and what the wall clock
    /// showed then.
    #[must_use]
    pub fn record(&self, tenant: &str) -> (Record, Moment, Moment) {
        self.shown.record(tenant)
    }

    /// Looks at all records, as they are now.
    pub fn study<T>(&self, look: impl FnOnce(&Study<'_>) -> T) -> T {
        self.shown.study(look)
    }

    /// What all clocks show now.
    #[must_use]
    pub fn clock(&self) -> Now {
        let (engine, reading) = self.shown.now();
        Now {
            engine,
            wall: reading.wall,
        }
    }

    /// Tells people what the engine does not know of. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// It could not be recorded.
    pub fn tell(&self, notice: Notice) -> Result<(), CourtError> {
        self.bench().tell(notice)
    }

    /// Turns to the record book itself: for what is no record of a tenant, and changes by one
    /// statement.
    pub fn ledger<T>(&self, turn: impl FnOnce(&Ledger) -> T) -> T {
        turn(&self.bench().ledger)
    }

    /// Writes into the record book what the engine does not hear of.
    ///
    /// # Errors
    ///
    /// It could not be recorded.
    pub fn write(
        &self,
        write: impl FnOnce(&Page<'_>) -> Result<(), LedgerError>,
    ) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let written = bench.ledger.begin().and_then(|page| {
            write(&page)?;
            page.commit()
        });
        bench.noted(written)
    }

    /// Forgets what is older than `before` and closed.
    ///
    /// # Errors
    ///
    /// The record book fails; then nothing is forgotten.
    pub fn forget_before(&self, before: Moment) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let forgotten = bench.ledger.forget_before(before);
        bench.noted(forgotten)
    }

    /// Forgets what only counted before `before`, and no case may rest on: none is opened for what is
    /// older than `window`.
    ///
    /// # Errors
    ///
    /// The record book fails; then nothing is forgotten.
    pub fn forget_counts_before(&self, before: Moment, window: Span) -> Result<(), CourtError> {
        let mut bench = self.bench();
        let forgotten = bench.ledger.forget_counts_before(before, window);
        bench.noted(forgotten)
    }

    /// Where the record book is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.shown.state_dir
    }

    /// The policies that are gone by.
    #[must_use]
    pub fn book(&self) -> Book {
        Book::clone(&self.shown.book())
    }

    /// What is to be told and may be: nobody hears of what is not in force yet.
    ///
    /// # Errors
    ///
    /// The record book cannot be read.
    pub fn due(
        &self,
        lane: Lane,
        wall: Moment,
        furthest: Span,
        most: usize,
    ) -> Result<Vec<Due>, CourtError> {
        let bench = self.bench();
        Ok(bench.ledger.due(lane, wall, furthest, &bench.owed, most)?)
    }

    /// What is wrong, for `status`.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.shown.problems();
        problems.extend(self.hanging());
        problems.extend(self.later.problem());
        let book = self.shown.book();
        let missing = book.missing();
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            problems.push(Problem::error(
                format!(
                    "policies that are named and not there: {}",
                    missing.join(", ")
                ),
                "`limiter check` says where they are named",
            ));
        }
        problems
    }

    pub(super) fn bench(&self) -> Sitting<'_> {
        let bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        Sitting::new(bench, self)
    }

    /// The bench, if it is free now.
    pub(super) fn free_bench(&self) -> Option<Sitting<'_>> {
        match self.bench.try_lock() {
            Ok(bench) => Some(Sitting::new(bench, self)),
            Err(TryLockError::Poisoned(bench)) => Some(Sitting::new(bench.into_inner(), self)),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Bench {
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
    fn hear_read(
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

    fn tell(&mut self, notice: Notice) -> Result<(), CourtError> {
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
    fn noted<T>(&mut self, written: Result<T, LedgerError>) -> Result<T, CourtError> {
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

/// Writes down who is told of these notices, and by which ways.
fn announce(
    page: &Page<'_>,
    herald: &dyn Herald,
    study: &Study<'_>,
    notices: &[(i64, Notice)],
) -> Result<(), LedgerError> {
    let told: Vec<Told<'_>> = notices
        .iter()
        .map(|(number, notice)| Told {
            number: *number,
            notice,
            at: study.now,
            wall: study.wall,
            evidence: evidence_of(study.records, notice),
        })
        .collect();
    for (number, planned) in herald.plan(&told, study.book) {
        page.deliver(number, &planned, study.wall)?;
    }
    Ok(())
}

/// What a case rests on that `notice` is about.
fn evidence_of<'s>(records: &'s BTreeMap<String, Record>, notice: &Notice) -> Option<&'s Evidence> {
    let kept = records
        .get(&notice.tenant)?
        .ladders
        .get(notice.policy.as_ref()?)?;
    let closed = kept
        .closed
        .last()
        .filter(|case| Some(case.id) == notice.case);
    Some(closed.map_or(&kept.evidence, |case| &case.evidence))
}

/// What an action says in the log.
fn log_line(action: &Action) -> Option<String> {
    match action {
        Action::Apply {
            tenant,
            sanction,
            until,
        } => {
            let end = until.map_or("until it is lifted", |_| "for a time");
            Some(format!("{tenant:?} is under {} {end}", sanction.as_str()))
        }
        Action::LiftSanction { tenant, sanction } => {
            Some(format!("{} of {tenant:?} is lifted", sanction.as_str()))
        }
        Action::OpenCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant:?} is opened")),
        Action::CloseCase {
            tenant,
            policy,
            case,
        } => Some(format!("case {policy}/{case} of {tenant:?} is closed")),
        _ => None,
    }
}
