//! Mailman's lists are counted by account, every few minutes. Who has more than he may is told to the court, once
//! a day as long as he has: the kernel cannot keep anybody from making a list.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::{error, info, warn};

use super::state::{Shared, Trouble};
use crate::{
    court::{Court, Submission},
    mta::mailman,
    offence::{Circumstances, MAILING_LISTS, Signal},
    policy::{mailman::Mailman, model::Policy},
    report::{
        problem::Problem,
        status::{ListCount, ListStatus},
    },
    submission::who::MailTenants,
};

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether to stop.
const NAP: Duration = Duration::from_millis(200);

/// What was counted last, for `status`.
pub type ListTeller = Arc<Mutex<Option<ListStatus>>>;

/// Counts lists as the configuration says.
pub struct Lists {
    court: Arc<Court>,
    shared: Shared,
    told: ListTeller,
    running: Option<Running>,
}

struct Running {
    what: Mailman,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Lists {
    /// Nothing is counted yet.
    pub fn new(court: Arc<Court>, shared: Shared) -> Self {
        Self {
            court,
            shared,
            told: ListTeller::default(),
            running: None,
        }
    }

    /// What was counted last.
    pub fn teller(&self) -> ListTeller {
        Arc::clone(&self.told)
    }

    /// Counts what `policy` names from now on. May block for as long as a count takes.
    pub fn follow(&mut self, policy: &Policy) {
        let what = &policy.node.mailman;
        if self.running.as_ref().map(|running| &running.what) == Some(what) {
            return;
        }
        self.stop();
        if what.lists.is_empty() {
            return;
        }
        let counter = Counter {
            court: Arc::clone(&self.court),
            shared: self.shared.clone(),
            told: Arc::clone(&self.told),
            what: what.clone(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("lists".to_owned())
            .spawn(move || counter.work(&stopped));
        match thread {
            Ok(thread) => {
                let what = what.clone();
                self.running = Some(Running { what, stop, thread });
            }
            Err(error) => {
                let problem = Problem::error(
                    format!("Mailman's lists are not counted: {error}"),
                    "restart the agent",
                );
                self.shared.lock().trouble(Trouble::Lists, problem);
            }
        }
    }

    /// Counts nothing any more.
    pub fn stop(&mut self) {
        let Some(Running { stop, thread, .. }) = self.running.take() else {
            return;
        };
        stop.store(true, Ordering::Relaxed);
        if thread.join().is_err() {
            error!("whoever counts lists fell over");
        }
        self.shared.lock().mended(Trouble::Lists);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct Counter {
    court: Arc<Court>,
    shared: Shared,
    told: ListTeller,
    what: Mailman,
}

impl Counter {
    fn work(self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.count();
            let counted = Instant::now();
            while counted.elapsed() < EVERY && !stop.load(Ordering::Relaxed) {
                thread::sleep(NAP);
            }
        }
    }

    fn count(&self) {
        let who = {
            let state = self.shared.lock();
            MailTenants::of(&state.policy, &state.image, &state.system.users)
        };
        let (counts, nobodys, faults) = count(&self.what, &who);
        {
            let mut state = self.shared.lock();
            match faults.first() {
                None => state.mended(Trouble::Lists),
                Some(first) => state.trouble(
                    Trouble::Lists,
                    Problem::warning(
                        format!("not all of Mailman's lists are counted: {first}"),
                        "mend it, or take the directory out of mailman.lists",
                    ),
                ),
            }
        }
        let accounts: Vec<ListCount> = counts
            .into_iter()
            .map(|(tenant, lists)| ListCount {
                max: u64::from(self.what.max_of(&tenant)),
                tenant,
                lists,
            })
            .collect();
        let day = Timestamp::now().strftime("%Y-%m-%d").to_string();
        let happened = self.court.clock().engine;
        let over = accounts.iter().filter(|count| count.lists > count.max);
        let submissions: Vec<Submission> = over
            .map(|count| Submission {
                // More than before is told at once, the same once a day.
                key: Some(format!(
                    "{MAILING_LISTS} {} {} {day}",
                    count.tenant, count.lists
                )),
                ..Submission::of(Signal::Violations {
                    tenant: count.tenant.clone(),
                    reason: MAILING_LISTS.to_owned(),
                    count: 1,
                    refused: false,
                    source: None,
                    happened,
                    around: Circumstances::default(),
                })
            })
            .collect();
        if !submissions.is_empty() {
            match self.court.hear(submissions, &[]) {
                Ok(verdicts) => {
                    let new = verdicts.iter().filter(|verdict| !verdict.duplicate).count();
                    if new > 0 {
                        info!("{new} accounts have more of Mailman's lists than they may");
                    }
                }
                Err(error) => warn!("who has too many lists waits to be heard of: {error}"),
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(ListStatus { accounts, nobodys });
    }
}

/// The lists of each account, of nobody known, and what cannot be read.
fn count(what: &Mailman, who: &MailTenants) -> (BTreeMap<String, u64>, u64, Vec<String>) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut nobodys, mut faults) = (0_u64, Vec::new());
    for directory in &what.lists {
        let lists = match mailman::lists(directory, |domain| who.domain(domain).is_some()) {
            Ok(lists) => lists,
            Err(error) => {
                faults.push(format!("{}: {error}", directory.display()));
                continue;
            }
        };
        for domains in lists {
            let mut accounts: Vec<usize> = domains
                .iter()
                .filter_map(|domain| Some(who.domain(domain)?.account))
                .collect();
            accounts.sort_unstable();
            accounts.dedup();
            let name = match accounts.as_slice() {
                [account] => who.names().get(*account),
                _ => None,
            };
            match name {
                Some(name) => {
                    let lists = counts.entry(name.clone()).or_default();
                    *lists = lists.saturating_add(1);
                }
                None => nobodys = nobodys.saturating_add(1),
            }
        }
    }
    (counts, nobodys, faults)
}
