//! The thread that reads logs, and brings before the court what they come to.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::{debug, warn};

use super::{
    super::{
        clerk::Errands,
        gatehouse,
        state::{Shared, Trouble},
    },
    BounceTeller, mail_users,
    source::Source,
};
use crate::{
    court::{Court, CourtError, Submission},
    ledger::LogMark,
    mta::bounce::{Counted, Sums, Whose},
    offence::{DEFAULT_NAME, Moment, NODE_NAME, Signal},
    report::{
        problem::Problem,
        status::{BounceSource, BounceStatus},
    },
    submission::{
        Envelope,
        directory::{Directory, Owner, Owners, Whose as Payer},
        gate::NodeGate,
    },
};

/// How often logs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether to stop.
const NAP: Duration = Duration::from_millis(100);
/// How often bounces are heard at most, and what was read is kept at least.
const HEAR_EVERY: Duration = Duration::from_secs(60);
/// How long the first ones wait for more.
const GATHER: Duration = Duration::from_secs(5);
/// How long until it is tried again to record them.
const AGAIN: Duration = Duration::from_secs(5);
/// How long it is waited for what was sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is heard at one moment is not held against what is heard at the same.
const NEXT_MOMENT: Duration = Duration::from_millis(2);
/// How long it is said that something was lost.
const SAY_LOST: Duration = Duration::from_secs(24 * 3_600);
/// After how many bounces of mail that nobody was charged for it is said that the mail server does not ask.
const UNASKED: u64 = 20;
/// How often messages are forgotten of which nothing is heard.
const TIDY: Duration = Duration::from_secs(3_600);

/// Reads logs.
pub(super) struct Reader {
    court: Arc<Court>,
    errands: Option<Errands>,
    shared: Shared,
    told: BounceTeller,
    sources: Vec<Source>,
    town: Town,
    /// The mail server's users.
    users: BTreeSet<u32>,
    /// By which state of the machine and the policy.
    identities: Option<u64>,
    sums: Sums,
    status: BounceStatus,
    /// Since when something is to be heard.
    waits: Option<Instant>,
    /// When something was heard last, and when something was kept.
    heard: Option<Instant>,
    kept: Instant,
    failed: Option<Instant>,
    lost: Option<Instant>,
    /// Bounces of mail that somebody was charged for, and that nobody was.
    charged: (u64, u64),
    tidied: Instant,
}

/// Who is who, as the log's reader asks.
#[derive(Default)]
struct Town {
    gate: Option<Arc<NodeGate>>,
    directory: Directory,
}

/// The log says nothing of sockets.
struct NoSockets;

impl Owners for NoSockets {
    fn owner_of(&self, _: SocketAddr, _: SocketAddr) -> Option<Owner> {
        None
    }
}

impl Whose for Town {
    fn charged(&self, queue_id: &str) -> Option<String> {
        self.gate.as_ref()?.payer_of(queue_id).filter(is_somebody)
    }

    fn tenant(&self, envelope: &Envelope) -> Option<String> {
        match self.directory.whose(envelope, &NoSockets) {
            Payer::Payer(payer) => Some(payer.name).filter(is_somebody),
            Payer::Nobodys | Payer::Unknown(_) | Payer::Later(_) => None,
        }
    }
}

/// Whether this is a tenant whom something follows for.
fn is_somebody(name: &String) -> bool {
    name != DEFAULT_NAME && name != NODE_NAME
}

impl Reader {
    pub(super) fn new(
        court: Arc<Court>,
        errands: Option<Errands>,
        shared: Shared,
        told: BounceTeller,
        sources: Vec<Source>,
    ) -> Self {
        let status = BounceStatus {
            sources: sources
                .iter()
                .map(|source| BounceSource {
                    log: source.name().to_owned(),
                    messages: 0,
                    problem: None,
                })
                .collect(),
            ..BounceStatus::default()
        };
        Self {
            court,
            errands,
            shared,
            told,
            sources,
            town: Town::default(),
            users: BTreeSet::new(),
            identities: None,
            sums: Sums::default(),
            status,
            waits: None,
            heard: None,
            kept: Instant::now(),
            failed: None,
            lost: None,
            charged: (0, 0),
            tidied: Instant::now(),
        }
    }

    /// Reads until it is to stop; then what was read is heard.
    pub(super) fn work(mut self, stop: &AtomicBool) {
        loop {
            self.follow_machine();
            let more = self.look();
            self.tell();
            let stopping = stop.load(Ordering::Relaxed);
            if stopping || self.is_due() {
                self.bring();
            }
            if stopping {
                return;
            }
            let looked = Instant::now();
            while !more && looked.elapsed() < LOOK_EVERY && !stop.load(Ordering::Relaxed) {
                thread::sleep(NAP);
            }
        }
    }

    /// Goes by the policy and the users there are now.
    fn follow_machine(&mut self) {
        {
            let state = self.shared.lock();
            // It may be opened later than this thread.
            self.town.gate = state.gate.clone();
            if self.identities == Some(state.identities) {
                return;
            }
            self.identities = Some(state.identities);
            self.town.directory = gatehouse::directory(&state);
        }
        self.users = mail_users(&self.shared);
    }

    /// Reads what is new. Whether there may be more at once.
    fn look(&mut self) -> bool {
        let Self {
            sources,
            users,
            town,
            sums,
            status,
            charged: (asked, unasked),
            ..
        } = self;
        let (mut more, mut lost) = (false, false);
        for (source, told) in sources.iter_mut().zip(&mut status.sources) {
            let (mut hard_sum, mut soft_sum, mut others) = (0_u64, 0_u64, 0_u64);
            let look = source.read(users, |messages, said| match messages.hear(said, town) {
                Counted::Nothing => {}
                Counted::Bounces {
                    tenant,
                    hard,
                    soft,
                    arrived,
                    charged,
                } => {
                    let count = if charged { &mut *asked } else { &mut *unasked };
                    *count = count.saturating_add(hard).saturating_add(soft);
                    hard_sum = hard_sum.saturating_add(hard);
                    soft_sum = soft_sum.saturating_add(soft);
                    sums.add(tenant, (hard, soft), arrived);
                }
                Counted::Nobodys(count) => others = others.saturating_add(count),
            });
            status.hard = status.hard.saturating_add(hard_sum);
            status.soft = status.soft.saturating_add(soft_sum);
            status.nobodys = status.nobodys.saturating_add(others);
            told.messages = source.messages.len();
            match look {
                Ok(look) => {
                    more |= look.more;
                    lost |= look.lost;
                    told.problem = None;
                }
                Err(error) => told.problem = Some(error.to_string()),
            }
        }
        if lost {
            self.lost = Some(Instant::now());
        }
        if !self.sums.is_empty() {
            self.waits.get_or_insert_with(Instant::now);
        }
        if self.tidied.elapsed() >= TIDY {
            self.tidied = Instant::now();
            for source in &mut self.sources {
                source.messages.tidy(Timestamp::now());
            }
        }
        more
    }

    /// Whether something is to be heard, or kept.
    fn is_due(&self) -> bool {
        if let Some(failed) = self.failed {
            return failed.elapsed() >= AGAIN;
        }
        let gathered = self.waits.is_some_and(|since| since.elapsed() >= GATHER);
        let rested = self.heard.is_none_or(|at| at.elapsed() >= HEAR_EVERY);
        (gathered && rested)
            || self.kept.elapsed() >= HEAR_EVERY
            // Else whoever is killed begins at a later place.
            || self.sources.iter().any(Source::is_unkept)
    }

    /// Brings before the court what was read.
    fn bring(&mut self) {
        let marks: Vec<(usize, LogMark)> = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(at, source)| Some((at, source.mark()?)))
            .collect();
        match self.hear(&marks) {
            Ok(()) => {
                self.failed = None;
                self.kept = Instant::now();
                for (at, mark) in &marks {
                    if let Some(source) = self.sources.get_mut(*at) {
                        source.was_kept(mark);
                    }
                }
                if self.waits.take().is_some() {
                    self.heard = Some(self.kept);
                }
                self.sums.clear();
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                warn!("bounces wait to be heard of: {error}");
            }
        }
    }

    fn hear(&self, marks: &[(usize, LogMark)]) -> Result<(), CourtError> {
        let rated: HashSet<String> = self.court.study(|study| {
            let tenants = self.sums.iter().map(|(tenant, _)| tenant);
            let is_rated = |tenant: &&str| {
                let mut binding = study.book.binding(tenant).into_iter();
                binding.any(|ladder| ladder.has_bounce_rates())
            };
            tenants.filter(is_rated).map(str::to_owned).collect()
        });
        if !rated.is_empty()
            && let Some(errands) = &self.errands
        {
            if !errands.bring_sent(PATIENCE) {
                debug!("how much was sent is not heard yet");
            }
            thread::sleep(NEXT_MOMENT);
        }
        let now = self.court.clock();
        let sums = self.sums.iter();
        let submissions = sums
            .filter(|(tenant, _)| rated.contains(*tenant))
            .map(|(tenant, sum)| {
                Submission::of(Signal::Bounces {
                    tenant: tenant.to_owned(),
                    hard: sum.hard,
                    soft: sum.soft,
                    happened: now.engine(Moment::from(sum.sent)),
                })
            })
            .collect();
        let marks: Vec<LogMark> = marks.iter().map(|(_, mark)| mark.clone()).collect();
        self.court.hear_of_logs(submissions, &marks)?;
        Ok(())
    }

    /// Tells `status` what there is.
    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&self.status) {
            *told = Some(self.status.clone());
        }
        drop(told);
        let sources = self.status.sources.iter();
        let mut problems = sources.filter_map(|source| source.problem.as_deref());
        let problem = match (problems.next(), self.lost) {
            (Some(problem), _) => Problem::error(
                format!("bounces are not counted: {problem}"),
                "mend it: nothing is lost as long as the log is there, uncompressed",
            ),
            (None, Some(at)) if at.elapsed() < SAY_LOST => Problem::warning(
                "some bounces were not counted: a log was rotated away before it was read",
                "rotate with `delaycompress`, so that the last file stays readable for a day",
            ),
            (None, _) if self.charged.0 == 0 && self.charged.1 >= UNASKED => Problem::warning(
                "mail comes back of which nobody knows how much was sent: the mail server does not \
                 ask limiter, and so no share of bounces is ever exceeded",
                "`limiter mta config postfix` or `exim` prints what to put where; of Exim also anew, \
                 if what it has does not say `id=`",
            ),
            (None, _) => {
                self.shared.lock().mended(Trouble::Bounces);
                return;
            }
        };
        self.shared.lock().trouble(Trouble::Bounces, problem);
    }
}
