//! The mail that tenants under a sanction have in the node's queues is held, and released when the
//! sanction ends, however it ends.
//!
//! Two threads: one that looks every second, or when the bell is rung, who is under a sanction and
//! which mail servers there are; and the keeper's, which runs their commands. Neither is ever waited
//! for. What `limiter observe` opens for a while is held all the same: mail that went out cannot be
//! taken back.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use log::{debug, info};

use super::state::{Shared, Trouble};
use crate::{
    kernel::clock,
    ledger::HeldMailBook,
    mta::{KeeperHandle, KeeperThread, MtaError, Places, QueueKeeper, Report},
    report::problem::Problem,
    submission::who::MailTenants,
};

/// How often it is looked who is under a sanction, at least: some end by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long at least between two looks, however often the bell is rung.
const REST: Duration = Duration::from_millis(50);
/// How often queues are searched for new mail of whoever is held.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether mail servers came or went.
const SEARCH_EVERY: Duration = Duration::from_secs(10);
/// How often what failed is tried from the beginning.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
/// How long the agent's start waits for the first look at most.
const START: Duration = Duration::from_secs(2);
/// More tenants than this are summed up in the log.
const MOST_NAMED: usize = 10;

/// Says that there is something to look at. Nobody waits for whoever hears it.
#[derive(Clone, Debug, Default)]
pub struct Bell(Option<SyncSender<()>>);

impl Bell {
    /// Rings it.
    pub fn ring(&self) {
        if let Some(bell) = &self.0 {
            // It is ringing already, or nobody is there any more.
            let _ = bell.try_send(());
        }
    }
}

/// The two threads. Dropping it tells them to end, and does not wait: a mail server may hang.
pub struct Queues {
    stop: Arc<AtomicBool>,
    bell: Bell,
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.bell.ring();
    }
}

/// Begins to hold what is to be held now, on this node's mail servers. It may block for
/// [`START`].
pub fn start(shared: &Shared) -> Option<Queues> {
    match try_start(shared, Places::default()) {
        Ok(queues) => Some(queues),
        Err(error) => {
            let problem = Problem::error(
                format!("queued mail is not held under sanctions: {error}"),
                "restart the agent",
            );
            shared.lock().trouble(Trouble::Queues, problem);
            None
        }
    }
}

fn try_start(shared: &Shared, places: Places) -> io::Result<Queues> {
    let (ring, rung) = mpsc::sync_channel(1);
    let bell = Bell(Some(ring));
    let (tenants, identities, state_dir) = {
        let mut state = shared.lock();
        state.bell = bell.clone();
        let tenants = MailTenants::of(&state.policy, &state.image, &state.system.users);
        (tenants, state.identities, state.state_dir())
    };
    let faults = Arc::new(Mutex::new(Faults::default()));
    let tell = {
        let (shared, faults) = (shared.clone(), Arc::clone(&faults));
        move |report: Report| {
            say(&report);
            change(&shared, &faults, |faults| {
                faults.keeping = texts(&report.faults);
            });
        }
    };
    let keeper = QueueKeeper::new(Vec::new(), tenants, HeldMailBook::new(&state_dir));
    let keeper = KeeperThread::start(keeper, SWEEP_EVERY, tell)?;
    let stop = Arc::new(AtomicBool::new(false));
    let room = Room {
        shared: shared.clone(),
        orders: keeper.handle(),
        faults,
        places,
        stop: Arc::clone(&stop),
        held: Vec::new(),
        identities,
        stamps: Vec::new(),
        queues: 0,
        searched: None,
        begun: Instant::now(),
    };
    let (begun, has_begun) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("queue-watch".to_owned())
        .spawn(move || {
            room.work(&rung, || {
                let _ = begun.try_send(());
            });
            drop(keeper);
        })?;
    // A mail server that hangs does not keep the agent from getting ready.
    let _ = has_begun.recv_timeout(START);
    Ok(Queues { stop, bell })
}

/// What is wrong now.
#[derive(Debug, Default)]
struct Faults {
    /// With finding mail servers.
    finding: Vec<String>,
    /// With holding and releasing.
    keeping: Vec<String>,
    /// Whether anybody is under a sanction.
    needed: bool,
}

impl Faults {
    fn any(&self) -> bool {
        !self.finding.is_empty() || !self.keeping.is_empty()
    }

    /// All of it as one problem.
    fn problem(&self) -> Option<Problem> {
        let mut all: Vec<&String> = self.finding.iter().chain(&self.keeping).collect();
        all.sort();
        all.dedup();
        let first = all.first()?;
        let more = match all.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let remedy = "mend what is named; it is tried again by itself";
        Some(if self.needed || !self.keeping.is_empty() {
            Problem::error(
                format!(
                    "queued mail is not held and released as the sanctions in force say: \
                     {first}{more}"
                ),
                remedy,
            )
        } else {
            Problem::warning(
                format!("queued mail could not be held if there were a sanction: {first}{more}"),
                remedy,
            )
        })
    }
}

fn texts(faults: &[MtaError]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// Changes what is wrong. An episode is logged when it begins and when it is over.
fn change(shared: &Shared, faults: &Mutex<Faults>, how: impl FnOnce(&mut Faults)) {
    // Held to the end, so that what is told last is what holds.
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let was = faults.any();
    how(&mut faults);
    match faults.problem() {
        Some(problem) => shared.lock().trouble_goes_on(Trouble::Queues, problem),
        None if was => {
            info!("queued mail is held and released again as the sanctions in force say");
            shared.lock().mended(Trouble::Queues);
        }
        None => {}
    }
}

/// Says in the log what was done.
fn say(report: &Report) {
    for (counts, what) in [
        (&report.held, "held in the mail queue"),
        (&report.released, "released into the mail queue"),
    ] {
        if counts.len() > MOST_NAMED {
            let all: usize = counts.values().sum();
            info!("{all} messages of {} tenants {what}", counts.len());
        } else {
            for (tenant, count) in counts {
                info!("{count} messages of {tenant:?} {what}");
            }
        }
    }
}

/// What tells a file from another of the same name, and from itself after a change.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The thread that looks.
struct Room {
    shared: Shared,
    orders: KeeperHandle<MailTenants>,
    faults: Arc<Mutex<Faults>>,
    places: Places,
    stop: Arc<AtomicBool>,
    /// Who is under a sanction, as the keeper was told, in the kernel's order.
    held: Vec<String>,
    /// Which identities the keeper goes by.
    identities: u64,
    /// The mail servers' files when they were searched for.
    stamps: Vec<Stamp>,
    /// How many queues are kept.
    queues: usize,
    searched: Option<Instant>,
    /// When the keeper was last told from the beginning.
    begun: Instant,
}

impl Room {
    fn work(mut self, rung: &Receiver<()>, begun: impl FnOnce()) {
        let mut begun = Some(begun);
        while !self.stop.load(Ordering::Relaxed) {
            let new_queues = self.search();
            self.look(new_queues);
            if let Some(begun) = begun.take() {
                begun();
            }
            thread::sleep(REST);
            if rung.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Tells the keeper who is under a sanction if that changed, or if it is to begin again.
    fn look(&mut self, again: bool) {
        let (tenants, held) = {
            let state = self.shared.lock();
            let tenants = (self.identities != state.identities)
                .then(|| MailTenants::of(&state.policy, &state.image, &state.system.users));
            self.identities = state.identities;
            let now_ns = clock::monotonic_ns();
            let same = state
                .mirror
                .sanctioned(now_ns)
                .eq(self.held.iter().map(String::as_str));
            let held: Option<Vec<String>> =
                (!same).then(|| state.mirror.sanctioned(now_ns).map(str::to_owned).collect());
            (tenants, held)
        };
        if let Some(tenants) = tenants {
            self.orders.set_tenants(tenants);
        }
        let changed = held.is_some();
        if let Some(held) = held {
            self.held = held;
            let needed = !self.held.is_empty();
            change(&self.shared, &self.faults, |faults| faults.needed = needed);
        }
        // Where there is no mail server the keeper is told when one comes.
        if self.queues > 0 && (changed || again || self.is_to_be_tried_again()) {
            self.begun = Instant::now();
            self.orders.begin(self.held.iter().cloned().collect());
        }
    }

    fn is_to_be_tried_again(&self) -> bool {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        !faults.keeping.is_empty() && self.begun.elapsed() >= AGAIN_EVERY
    }

    /// Looks for mail servers if any may have come or gone. Whether the keeper was given queues.
    fn search(&mut self) -> bool {
        let since = self.searched.map(|searched| searched.elapsed());
        if since.is_some_and(|since| since < SEARCH_EVERY) {
            return false;
        }
        let failed = {
            let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            !faults.finding.is_empty()
        };
        self.places.postfix = instances(Path::new("/etc"));
        let stamps = self.stamps();
        let due = failed && since.is_some_and(|since| since >= AGAIN_EVERY);
        if since.is_some() && stamps == self.stamps && !due {
            if !failed {
                self.searched = Some(Instant::now());
            }
            return false;
        }
        self.searched = Some(Instant::now());
        self.stamps = stamps;
        let mut servers = self.places.find();
        servers.faults.retain(|fault| {
            // Files that a package left behind are no mail server.
            let is_absent = matches!(fault, MtaError::NotFound { .. });
            if is_absent {
                debug!("{fault}");
            }
            !is_absent
        });
        change(&self.shared, &self.faults, |faults| {
            faults.finding = texts(&servers.faults);
        });
        // What is being installed is not taken for gone.
        let lost = servers.queues.len() < self.queues && !servers.faults.is_empty();
        if lost || (servers.queues.is_empty() && self.queues == 0) {
            return false;
        }
        for queue in &servers.queues {
            debug!("mail server: {}", queue.name());
        }
        self.queues = servers.queues.len();
        self.orders.set_queues(servers.queues);
        true
    }

    fn stamps(&self) -> Vec<Stamp> {
        let Places {
            programs,
            postfix,
            exim,
        } = &self.places;
        let main = postfix.iter().map(|directory| directory.join("main.cf"));
        let programs = programs.iter().flat_map(|directory| {
            ["postconf", "exim4", "exim"].map(|program| directory.join(program))
        });
        let all = main.chain(programs).chain(exim.iter().cloned());
        all.map(|path: PathBuf| stamp(&path)).collect()
    }
}

/// The directories of Postfix's instances, by the names that postmulti(1) gives them.
fn instances(etc: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(etc)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name == "postfix" || name.as_encoded_bytes().starts_with(b"postfix-")
        })
        .map(|entry| entry.path())
        .filter(|directory| directory.join("main.cf").is_file())
        .collect();
    all.sort();
    all
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_one_problem() {
        let mut faults = Faults::default();
        assert!(faults.problem().is_none() && !faults.any());
        faults.finding = vec!["postconf is broken".to_owned()];
        let problem = faults.problem().unwrap();
        assert_eq!(problem.severity, crate::report::problem::Severity::Warning);
        faults.needed = true;
        faults.keeping = vec!["postconf is broken".to_owned(), "worse".to_owned()];
        let problem = faults.problem().unwrap();
        assert_eq!(problem.severity, crate::report::problem::Severity::Error);
        assert!(
            problem.problem.ends_with("postconf is broken (and 1 more)"),
            "{problem:?}"
        );
    }

    #[test]
    fn every_instance_of_postfix_is_found() {
        let etc = tempfile::tempdir().unwrap();
        for name in ["postfix", "postfix-out", "postfix-policyd", "postfixadmin"] {
            fs::create_dir(etc.path().join(name)).unwrap();
        }
        for name in ["postfix", "postfix-out", "postfixadmin"] {
            fs::write(etc.path().join(name).join("main.cf"), "").unwrap();
        }
        let expected = ["postfix", "postfix-out"].map(|name| etc.path().join(name));
        assert_eq!(instances(etc.path()), expected);
    }

    #[test]
    fn nobody_waits_for_whoever_hears_the_bell() {
        let (ring, rung) = mpsc::sync_channel(1);
        let bell = Bell(Some(ring));
        for _ in 0..1000 {
            bell.ring();
        }
        assert!(rung.try_recv().is_ok() && rung.try_recv().is_err());
        drop(rung);
        bell.ring();
        Bell::default().ring();
    }
}
