//! The agent is killed two hundred times while it hears of things, also in the middle of its start:
//! nothing that happened is lost, nothing is counted twice, and kernel and record book agree.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use limiter_tests::{Agent, Config, Reached, find_tenant, mx, wait};
use limiter_user::{
    ledger::{Ledger, SignalRow},
    offence::Moment,
    report::store::Reader,
};

use crate::stage::{Stage, expect};

/// How often the agent is killed.
const KILLS: u32 = 200;
/// One kill in so many waits until the agent is ready; the others come before, or about then.
const READY_EVERY: u64 = 8;
/// How long an agent that became ready lives after that, milliseconds at most.
const LIFE_MS: u64 = 200;
/// How many complaints are delivered, and as many again are handed in.
const COMPLAINTS: usize = 60;
/// How long nobody complains after that.
const COMPLAINT_PAUSE: Duration = Duration::from_millis(300);
/// How long a running agent may take until it has heard of all that was before: it waits 5 seconds
/// for what an earlier one may have left in the kernel's buffers.
const HEARD: Duration = Duration::from_secs(20);

const TENANTS: &str = "
tenant: alice
match: {uids: [3000-3015]}
---
tenant: bob
match: {users: [bob]}
---
tenant: carol
direct_smtp: allow
match: {users: [carol]}
---
tenant: dave
direct_smtp: allow
match: {users: [dave]}
";

const POLICY: &str = "
policy: ladder
offences:
  - {when: {operator: moderate}, severity: moderate}
  - {when: {operator: minor}, severity: minor}
  - {when: {complaints: {at_least: 30, in: 24h}}, severity: minor}
  - {when: {violations: {reasons: [direct_smtp], at_least: 100, in: 1h}}, severity: minor}
refused_attempts: warn
forget_after: 365d
steps:
  - {severity: minor, sanction: warn, within: 1h, lift: {any: [review]}, tell: [operator]}
  - {severity: moderate, sanction: block_smtp, within: 1h, lift: {all: [review]}, tell: [operator]}
complaints:
  require: [headers]
";

const MAIN: &str = "
mode: enforce
policies: [ladder.yaml]
complaints: {maildir: reports, authserv_ids: [mx.node.example], reporters: [example]}
notices: null
";

/// Numbers that look random; the same ones for the same seed.
struct Dice(u64);

impl Dice {
    /// A number below `most`.
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn seed() -> u64 {
    let seed = Timestamp::now().as_microsecond().unsigned_abs() | 1;
    println!("the dice begin with {seed}");
    seed
}

fn reports(agent: &Agent) -> PathBuf {
    agent.home().join("reports")
}

fn configured(stage: &Stage) -> Agent<'_> {
    let agent = Agent::configured(&stage.node, &Config::new(MAIN, TENANTS));
    fs::write(agent.home().join("ladder.yaml"), POLICY).expect("the directory is ours");
    for name in ["new", "cur", "tmp"] {
        fs::create_dir_all(reports(&agent).join(name)).expect("the directory is ours");
    }
    agent
}

/// A report about a mail of carol's that arrived just now, unlike any with another number.
fn report(number: usize) -> String {
    let time = Timestamp::now()
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string();
    format!(
        "Authentication-Results: mx.node.example; dkim=pass header.d=r{number}.example\n\
         From: abuse@r{number}.example\nTo: abuse@node.example\nSubject: report\nDate: {time}\n\
         MIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; \
         boundary=b\n\n--b\nContent-Type: text/plain\n\nSpam.\n--b\n\
         Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\
         User-Agent: test/1\nArrival-Date: {time}\nSource-IP: 203.0.113.2\n\
         Reporting-MTA: dns; outside.example (203.0.113.5)\n\n--b\n\
         Content-Type: message/rfc822\n\n\
         Received: from node.example (node.example [203.0.113.2]) by outside.example with ESMTP id \
         q{number}; {time}\nFrom: news@customer.example\nTo: you@outside.example\n\
         Subject: Buy now\nDate: {time}\nMessage-ID: <{number}@customer.example>\n\nBuy now.\n--b--\n"
    )
}

fn book(agent: &Agent) -> Ledger {
    let ledger = Ledger::read_only(&agent.state_directory());
    ledger.expect("it can be read").expect("there is one")
}

/// What was heard of a tenant, by the record book.
fn heard(agent: &Agent, tenant: &str, kind: &str) -> Vec<SignalRow> {
    let signals = book(agent).signals(tenant, Moment(0), 1_000_000);
    let mut signals = signals.expect("it can be read");
    signals.retain(|signal| signal.kind == kind);
    signals
}

/// How many refusals of a tenant were heard, by the record book.
fn refusals_heard(agent: &Agent, tenant: &str) -> u64 {
    let signals = heard(agent, tenant, "violations");
    let counts = signals.iter().map(|signal| {
        let count = signal.body["violations"]["count"].as_u64();
        count.unwrap_or_else(|| panic!("no count in {signal:?}"))
    });
    counts.sum()
}

/// What the kernel enforces against a tenant, and what its record says that it should.
fn enforced_and_recorded(agent: &Agent, tenant: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let status = agent.status();
    let found = find_tenant(&status, tenant);
    let found = found.unwrap_or_else(|| panic!("no tenant {tenant} in {status:#}"));
    let enforced = found["sanctions"].as_array().expect("a list");
    let enforced = enforced
        .iter()
        .filter_map(|sanction| sanction["sanction"].as_str())
        // All others are read from the kernel; warnings it does not know.
        .filter(|sanction| *sanction != "warn")
        .map(ToOwned::to_owned);
    let state = book(agent).state().expect("it makes sense");
    let record = state.records.get(tenant);
    let recorded = record
        .into_iter()
        .flat_map(|record| record.effective.keys());
    let recorded = recorded
        .filter_map(|sanction| sanction.in_kernel())
        .map(|sanction| sanction.as_str().to_owned());
    (enforced.collect(), recorded.collect())
}

/// Fails unless the kernel enforces against everybody what the record book says, and nothing else.
#[track_caller]
fn agree(agent: &Agent, when: &str) {
    for tenant in ["alice", "bob", "carol", "dave"] {
        let (enforced, recorded) = enforced_and_recorded(agent, tenant);
        assert_eq!(enforced, recorded, "{tenant}, {when}");
    }
}

/// What everybody does meanwhile.
struct World<'s> {
    stage: &'s Stage,
    agent: &'s Agent<'s>,
    over: AtomicBool,
    /// How many attempts were refused, by the senders' own word.
    refused: [AtomicU64; 2],
    /// Held while an operator says something.
    word: Mutex<()>,
    /// What operators said, by their reasons, and whether it was answered.
    said: Mutex<BTreeMap<String, bool>>,
}

impl World<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sends without a pause until it is over; `uid` says as whom the next time.
    fn send(&self, whose: usize, v6: bool, mut uid: impl FnMut() -> u32) {
        while !self.is_over() {
            let sender = self.stage.node.sender(uid());
            let flood = sender.flood(mx(v6), 40, Duration::from_millis(8));
            let report = flood.make();
            assert_eq!(report.refused(), 40, "{report:?}");
            self.refused[whose].fetch_add(40, Ordering::Relaxed);
        }
    }

    /// Delivers complaints as delivery agents do, and hands others in until somebody says that
    /// they were taken.
    fn complain(&self, texts: &[String]) {
        let (delivered, by_hand) = texts.split_at(COMPLAINTS);
        let maildir = reports(self.agent);
        for (number, (mail, file)) in delivered.iter().zip(by_hand).enumerate() {
            if self.is_over() {
                return;
            }
            let name = format!("report-{number:03}");
            let tmp = maildir.join("tmp").join(&name);
            fs::write(&tmp, mail).expect("the directory is ours");
            fs::rename(tmp, maildir.join("new").join(&name)).expect("the directory is ours");
            let path = self.agent.home().join(name);
            fs::write(&path, file).expect("the directory is ours");
            let path = path.display().to_string();
            while !self.is_over() && self.agent.cli(&["complaint", &path]).code != 0 {
                thread::sleep(Duration::from_millis(30));
            }
            thread::sleep(COMPLAINT_PAUSE);
        }
    }

    /// Operators say one thing after the other about dave.
    fn speak(&self, mut dice: Dice) {
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            let reason = format!("word {number}");
            let words: &[&str] = match dice.below(6) {
                0 => &["offence", "add", "dave", "--severity", "minor"],
                1 => &["offence", "add", "dave", "--severity", "moderate"],
                2 => &["suspend", "dave", "--sanction", "block_smtp"],
                3 => &["suspend", "dave", "--sanction", "suspend_mail"],
                4 => &["reinstate", "dave"],
                _ => &["reinstate", "dave", "--override"],
            };
            let turn = self.word.lock().unwrap_or_else(PoisonError::into_inner);
            let out = self.agent.cli(&[words, &["--reason", &reason]].concat());
            drop(turn);
            // What is lifted only in part says so.
            let answered = out.code == 0 || !out.stdout.is_empty();
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.insert(reason, answered);
            drop(said);
            thread::sleep(Duration::from_millis(dice.below(60)));
        }
    }
}

/// Kills the agent again and again, and looks now and then whether kernel and record book agree.
fn kill(world: &World<'_>, mut dice: Dice) {
    let agent = world.agent;
    let started = Instant::now();
    let mut start = Duration::from_millis(500);
    let mut checked = 0;
    for kill in 0..KILLS {
        if dice.below(READY_EVERY) == 0 {
            let from = Instant::now();
            agent.run();
            start = from.elapsed();
            if dice.below(2) == 0 {
                let _turn = world.word.lock().unwrap_or_else(PoisonError::into_inner);
                agree(agent, &format!("after {kill} kills"));
                checked += 1;
            }
            thread::sleep(Duration::from_millis(dice.below(LIFE_MS)));
            agent.kill_9();
        } else {
            let most = u64::try_from(start.as_millis()).unwrap_or(u64::MAX);
            let most = most + most / 5 + 1;
            // Any moment of the start and a little after it: mostly early, to save time, but some
            // when the record book is opened and read.
            let after = if dice.below(10) == 0 {
                most / 2 + dice.below(most / 2 + 1)
            } else {
                dice.below(most).min(dice.below(most)).min(dice.below(most))
            };
            agent.run_briefly(Duration::from_millis(after));
        }
    }
    println!(
        "{KILLS} kills in {:?}, of which the last start took {start:?}; looked {checked} times",
        started.elapsed()
    );
}

#[test]
fn two_hundred_kills_lose_nothing_and_count_nothing_twice() {
    let stage = Stage::new();
    let agent = configured(&stage);
    agent.run();
    // What the complaints are about.
    let attempt = stage.node.sender(2003).attempt(mx(false));
    expect(&agent, attempt, "carol", Reached::Outside);
    wait::until_true("the attempt to be recorded", wait::SOON, || {
        let attempts = Reader::new(&agent.state_directory()).attempts(None, None);
        attempts.into_iter().flatten().flatten().next().is_some()
    });
    let texts: Vec<String> = (0..2 * COMPLAINTS).map(report).collect();
    let world = World {
        stage: &stage,
        agent: &agent,
        over: AtomicBool::new(false),
        refused: Default::default(),
        word: Mutex::new(()),
        said: Mutex::default(),
    };
    let seed = seed();
    agent.kill_9();
    thread::scope(|scope| {
        let mut next = (0..).map(|n| 3_000 + n % 16);
        scope.spawn(|| world.send(0, false, move || next.next().expect("no end")));
        let mut other = (0..).map(|n| 3_000 + n * 7 % 16);
        scope.spawn(|| world.send(0, true, move || other.next().expect("no end")));
        scope.spawn(|| world.send(1, false, || 2_002));
        let complaining = scope.spawn(|| world.complain(&texts));
        scope.spawn(|| world.speak(Dice(seed ^ 0x5555)));
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill(&world, Dice(seed));
            agent.run();
        }));
        // Whoever hands complaints in does so until they are taken.
        let complained = killed.is_err() || complaining.join().is_ok();
        world.over.store(true, Ordering::Relaxed);
        if let Err(why) = killed {
            std::panic::resume_unwind(why);
        }
        assert!(complained, "complaining failed");
    });
    refusals_are_heard_once(&world);
    complaints_are_heard_once(&agent);
    words_are_heard_once(&world);
    agree(&agent, "at the end");
    // And the next one, which is told nothing, says the same.
    agent.kill_9();
    agent.run();
    agree(&agent, "after the end");
    let status = agent.status();
    assert_eq!(status["healthy"], true, "{status:#}");
}

fn refusals_are_heard_once(world: &World<'_>) {
    let agent = world.agent;
    // What is summed up is heard when the agent stops, but not before it looked for what others
    // left behind.
    thread::sleep(Duration::from_secs(6));
    assert_eq!(agent.term(), 0);
    agent.run();
    for (tenant, refused) in ["alice", "bob"].into_iter().zip(&world.refused) {
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused > 1_000, "{tenant} hardly tried: {refused}");
        assert_eq!(agent.counter(tenant, "denied"), refused, "{tenant}");
        assert_eq!(refusals_heard(agent, tenant), refused, "{tenant}");
        assert_eq!(agent.tenant(tenant)["standing"], "warned");
    }
    assert_eq!(world.stage.outside.settled(), 1, "leaks");
}

fn complaints_are_heard_once(agent: &Agent) {
    let new = reports(agent).join("new");
    wait::until_true("the Maildir to be empty", HEARD, || {
        fs::read_dir(&new).is_ok_and(|mut files| files.next().is_none())
    });
    let signals = heard(agent, "carol", "complaint");
    assert_eq!(signals.len(), 2 * COMPLAINTS);
    let complaints = book(agent).complaints(Some("attributed"));
    let complaints = complaints.expect("they can be read");
    let ids: BTreeSet<&str> = complaints.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), 2 * COMPLAINTS);
    let files = fs::read_dir(reports(agent).join("cur"));
    assert_eq!(files.into_iter().flatten().count(), COMPLAINTS);
}

fn words_are_heard_once(world: &World<'_>) {
    let mut times: HashMap<String, u32> = HashMap::new();
    for kind in ["offence", "suspend", "word"] {
        for signal in heard(world.agent, "dave", kind) {
            *times.entry(signal.reason.unwrap_or_default()).or_default() += 1;
        }
    }
    let said = world.said.lock().unwrap_or_else(PoisonError::into_inner);
    let answered = said.values().filter(|answered| **answered).count();
    println!("{answered} of {} words were answered", said.len());
    assert!(answered > 20, "hardly anything was said");
    for (reason, answered) in &*said {
        let times = times.remove(reason).unwrap_or(0);
        assert!(times <= 1, "{reason:?} was heard {times} times");
        assert!(
            times == 1 || !answered,
            "{reason:?} was answered, and is lost"
        );
    }
    assert!(times.is_empty(), "nobody said {times:?}");
}
