//! The record book cannot be written, or read: enforcement goes on, `status` says what is wrong and
//! what to do, what was said and done meanwhile is heard afterwards, each once.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Reached, process, wait};
use limiter_user::{
    ledger::{FILE, Ledger},
    offence::Moment,
};
use nix::mount::{MsFlags, mount};

use crate::stage::{Stage, at_once, expect};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
match: {users: [bob]}
---
tenant: dave
direct_smtp: allow
match: {users: [dave]}
---
tenant: talkative
";

const POLICY: &str = "
policy: ladder
offences:
  - {when: {operator: moderate}, severity: moderate}
  - {when: {violations: {reasons: [direct_smtp], at_least: 100, in: 1h}}, severity: minor}
refused_attempts: warn
forget_after: 365d
steps:
  - {severity: minor, sanction: warn, within: 1h, lift: {any: [review]}, tell: [operator]}
  - {severity: moderate, sanction: block_smtp, within: 1h, lift: {all: [review]}, tell: [operator]}
";

const MAIN: &str = "
mode: enforce
policies: [ladder.yaml]
complaints: {maildir: reports, authserv_ids: [mx.node.example], reporters: [example]}
notices: null
";

/// How long it may take until what waited is heard.
const SOON: Duration = Duration::from_secs(20);
/// A Maildir with mail that could not be taken in is looked at again after half a minute.
const MAILDIR: Duration = Duration::from_secs(45);

fn configured(stage: &Stage) -> Agent<'_> {
    let agent = Agent::configured(&stage.node, &Config::new(MAIN, TENANTS));
    fs::write(agent.home().join("ladder.yaml"), POLICY).expect("the directory is ours");
    for name in ["new", "cur", "tmp"] {
        let directory = agent.home().join("reports").join(name);
        fs::create_dir_all(directory).expect("the directory is ours");
    }
    agent
}

fn file(agent: &Agent) -> PathBuf {
    agent.state_directory().join(FILE)
}

/// Looks into the record book, where the agent sees it.
fn book<T: Send>(stage: &Stage, agent: &Agent, look: impl FnOnce(&Ledger) -> T + Send) -> T {
    let directory = agent.state_directory();
    stage.node.inside().enter(|| {
        let ledger = Ledger::read_only(&directory);
        look(&ledger.expect("it can be read").expect("there is one"))
    })
}

/// The reasons of what operators said about a tenant, by the record book.
fn said(stage: &Stage, agent: &Agent, tenant: &str) -> Vec<String> {
    book(stage, agent, |book| {
        let signals = book.signals(tenant, Moment(0), 10_000);
        let signals = signals.expect("they can be read");
        signals.into_iter().filter_map(|it| it.reason).collect()
    })
}

/// How many of alice's refusals were heard, by the record book.
fn refusals_heard(stage: &Stage, agent: &Agent) -> u64 {
    book(stage, agent, |book| {
        let signals = book.signals("alice", Moment(0), 10_000);
        let signals = signals.expect("they can be read").into_iter();
        let counts = signals.filter_map(|it| it.body["violations"]["count"].as_u64());
        counts.sum()
    })
}

fn suspend(agent: &Agent, tenant: &str, reason: &str) {
    let sanction = ["--sanction", "block_smtp", "--reason", reason];
    agent.must(&[&["suspend", tenant][..], &sanction].concat());
}

/// Waits until `status` is unhealthy and says `what`, and what to do: `remedy`.
#[track_caller]
fn is_unhealthy(agent: &Agent, what: &str, remedy: &str) {
    wait::until_true(&format!("{what}; {remedy}"), SOON, || {
        let status = agent.status();
        let problems = status["problems"].to_string();
        status["healthy"] == false && problems.contains(what) && problems.contains(remedy)
    });
    assert_eq!(agent.cli(&["status"]).code, 1);
}

#[track_caller]
fn is_healthy_again(agent: &Agent) {
    wait::until_true("the node to be healthy", MAILDIR, || {
        agent.status()["healthy"] == true
    });
}

/// Nothing gets through that did not before, and nothing is refused that was not.
#[track_caller]
fn enforced(stage: &Stage, agent: &Agent) {
    expect(agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(agent, stage.by_uid(2004), "dave", Reached::Refused);
}

/// The agent runs, bob is in good standing, and dave under a sanction that is recorded.
fn begin<'s>(stage: &'s Stage, agent: &Agent<'s>) {
    agent.run();
    suspend(agent, "dave", "before");
    enforced(stage, agent);
    expect(agent, stage.by_uid(2002), "bob", Reached::Outside);
    // The first refusal is heard at once.
    wait::until_true("a refusal to be heard", SOON, || {
        refusals_heard(stage, agent) > 0
    });
}

/// What happens while nothing can be recorded: refusals, a complaint, and words of operators, of
/// which a suspension holds at once.
fn meanwhile(stage: &Stage, agent: &Agent) {
    enforced(stage, agent);
    assert_eq!(at_once(stage, 2001, 2, 100), (0, 200));
    let new = agent.home().join("reports/new/letter");
    fs::write(&new, "Subject: hello\n\nhow are you?\n").expect("the directory is ours");
    suspend(agent, "bob", "meanwhile");
    expect(agent, stage.by_uid(2002), "bob", Reached::Refused);
    let offence = ["offence", "add", "dave", "--severity", "moderate"];
    let out = agent.cli(&[&offence[..], &["--reason", "unheard"]].concat());
    assert_ne!(out.code, 0, "{out:?}");
    assert!(new.exists(), "the complaint waits");
    assert_eq!(agent.tenant("alice")["standing"], "good");
}

/// What was said and done meanwhile is heard, each once.
fn all_is_heard(stage: &Stage, agent: &Agent) {
    is_healthy_again(agent);
    wait::until_true("alice to be warned", SOON, || {
        agent.tenant("alice")["standing"] == "warned"
    });
    let new = agent.home().join("reports/new/letter");
    wait::until_true("the complaint to be taken in", MAILDIR, || !new.exists());
    enforced(stage, agent);
    expect(agent, stage.by_uid(2002), "bob", Reached::Refused);
    // What is summed up is heard when the agent stops.
    assert_eq!(agent.term(), 0);
    agent.run();
    let refused = agent.counter("alice", "denied");
    assert_eq!(refusals_heard(stage, agent), refused);
    assert_eq!(said(stage, agent, "dave"), ["before"]);
    assert_eq!(said(stage, agent, "bob"), ["meanwhile"]);
    enforced(stage, agent);
    expect(agent, stage.by_uid(2002), "bob", Reached::Refused);
    // And it can be taken back.
    let reason = ["--reason", "over"];
    agent.must(&[&["reinstate", "bob"][..], &reason].concat());
    expect(agent, stage.by_uid(2002), "bob", Reached::Outside);
    assert_eq!(agent.status()["healthy"], true);
}

/// Another program that holds the record book.
fn hold(agent: &Agent) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(file(agent)).expect("it can be opened");
    other
        .busy_timeout(Duration::from_secs(10))
        .expect("it can wait");
    other
        .execute_batch("BEGIN EXCLUSIVE")
        .expect("it can be held");
    other
}

#[test]
fn while_another_program_holds_it() {
    let stage = Stage::new();
    let agent = configured(&stage);
    begin(&stage, &agent);
    let other = hold(&agent);
    meanwhile(&stage, &agent);
    is_unhealthy(&agent, "cannot be recorded", "another program holds");
    drop(other);
    all_is_heard(&stage, &agent);
}

/// The state directory on a small file system of its own, as the agent sees it.
fn small_disk(stage: &Stage, agent: &Agent) {
    let directory = agent.state_directory();
    fs::create_dir_all(&directory).expect("the directory is ours");
    stage.node.inside().enter(|| {
        let options = Some("size=8m,mode=0700");
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &directory, tmpfs, MsFlags::empty(), options).expect("it can be mounted");
    });
}

fn fill(stage: &Stage, agent: &Agent) {
    let path = agent.state_directory().join("filler");
    stage.node.inside().enter(|| {
        let filler = OpenOptions::new().create(true).append(true).open(path);
        let mut filler = filler.expect("there is room for a name");
        for size in [1 << 16, 1 << 12] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    });
}

fn make_room(stage: &Stage, agent: &Agent) {
    let path = agent.state_directory().join("filler");
    let removed = stage.node.inside().enter(|| fs::remove_file(path));
    removed.expect("it is there");
}

#[test]
fn while_the_disk_is_full() {
    let stage = Stage::new();
    let agent = configured(&stage);
    small_disk(&stage, &agent);
    begin(&stage, &agent);
    fill(&stage, &agent);
    // Until what was reserved before is used up, some still fits.
    wait::until_true("the disk to be full", SOON, || {
        fill(&stage, &agent);
        let reason = "x".repeat(4_000);
        let big = ["contact", "talkative", "--reason", reason.as_str()];
        agent.cli(&big).code != 0
    });
    meanwhile(&stage, &agent);
    is_unhealthy(&agent, "cannot be recorded", "make room");
    make_room(&stage, &agent);
    // Of the history and the audit log, the next line tells that there is room.
    enforced(&stage, &agent);
    agent.must(&["reload"]);
    all_is_heard(&stage, &agent);
}

/// Reinstates whoever was suspended by mistake, while nothing can be recorded: he is free at once.
fn reinstated(stage: &Stage, agent: &Agent) {
    let said = agent.must(&["reinstate", "dave", "--reason", "wrong customer"]);
    assert!(said.contains("block_smtp taken back"), "{said}");
    assert!(said.contains("not in the record book yet"), "{said}");
    expect(agent, stage.by_uid(2004), "dave", Reached::Outside);
}

#[test]
fn with_a_full_disk_a_reinstatement_holds_and_is_recorded_later() {
    let stage = Stage::new();
    let agent = configured(&stage);
    small_disk(&stage, &agent);
    begin(&stage, &agent);
    fill(&stage, &agent);
    wait::until_true("the disk to be full", SOON, || {
        fill(&stage, &agent);
        let reason = "x".repeat(4_000);
        let big = ["contact", "talkative", "--reason", reason.as_str()];
        agent.cli(&big).code != 0
    });
    reinstated(&stage, &agent);
    suspend(&agent, "bob", "meanwhile");
    is_unhealthy(&agent, "2 words of operators hold", "writable again");
    let told = agent.status()["problems"].to_string();
    assert!(
        told.contains("wrong customer") && told.contains("root"),
        "{told}"
    );
    assert!(told.contains("after a restart and a reboot too"), "{told}");
    // Also for the next agent, which cannot record it either.
    agent.kill_9();
    agent.run();
    expect(&agent, stage.by_uid(2004), "dave", Reached::Outside);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    is_unhealthy(&agent, "2 words of operators hold", "writable again");
    assert_eq!(said(&stage, &agent, "dave"), ["before"]);
    make_room(&stage, &agent);
    wait::until_true("the words to be recorded", SOON, || {
        let problems = agent.status()["problems"].to_string();
        !problems.contains("words of operators") && !problems.contains("cannot be recorded")
    });
    assert_eq!(said(&stage, &agent, "dave"), ["before", "wrong customer"]);
    assert_eq!(said(&stage, &agent, "bob"), ["meanwhile"]);
    assert_eq!(agent.tenant("dave")["standing"], "good");
    agent.kill_9();
    agent.run();
    expect(&agent, stage.by_uid(2004), "dave", Reached::Outside);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    assert_eq!(said(&stage, &agent, "dave"), ["before", "wrong customer"]);
}

/// A disk of the agent's own that can be made to hang: nothing that is written to it returns.
struct Hanging<'s> {
    stage: &'s Stage,
    directory: PathBuf,
}

impl<'s> Hanging<'s> {
    /// Mounts it where the agent sees it. It goes away with the node.
    fn mount(stage: &Stage, agent: &Agent) {
        let directory = agent.state_directory();
        fs::create_dir_all(&directory).expect("the directory is ours");
        let image = agent.home().join("disk.img");
        let file = fs::File::create(&image).expect("the directory is ours");
        file.set_len(64 << 20).expect("it is a name for room");
        let mut make = std::process::Command::new("mkfs.ext4");
        let made = process::run(make.arg("-q").arg(&image), "");
        let _ = made.success("mkfs.ext4");
        stage.node.inside().enter(|| {
            let mut mount = std::process::Command::new("mount");
            let mounted = process::run(mount.args(["-o", "loop"]).arg(&image).arg(&directory), "");
            let _ = mounted.success("mount");
        });
    }

    fn hang(stage: &'s Stage, agent: &Agent) -> Self {
        let hanging = Self {
            stage,
            directory: agent.state_directory(),
        };
        let frozen = hanging.fsfreeze("-f");
        assert!(frozen, "it can be made to hang");
        hanging
    }

    fn fsfreeze(&self, how: &str) -> bool {
        self.stage.node.inside().enter(|| {
            let mut command = std::process::Command::new("fsfreeze");
            let status = command.arg(how).arg(&self.directory).status();
            status.is_ok_and(|status| status.success())
        })
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        // Else not even the agent could be killed.
        let _ = self.fsfreeze("-u");
    }
}

#[test]
fn while_the_disk_hangs() {
    /// How long a command may take then.
    const BOUND: Duration = Duration::from_secs(15);

    let stage = Stage::new();
    let agent = configured(&stage);
    Hanging::mount(&stage, &agent);
    begin(&stage, &agent);
    let hanging = Hanging::hang(&stage, &agent);
    // Whatever is heard next hangs: nobody waits for it.
    enforced(&stage, &agent);
    assert_eq!(at_once(&stage, 2001, 2, 100), (0, 200));
    let within = |what: &str, act: &dyn Fn()| {
        let started = Instant::now();
        act();
        assert!(started.elapsed() < BOUND, "{what}: {:?}", started.elapsed());
    };
    within("suspend", &|| {
        let sanction = ["--sanction", "block_smtp", "--reason", "meanwhile"];
        let told = agent.must(&[&["suspend", "bob"][..], &sanction].concat());
        assert!(told.contains("not in the record book yet"), "{told}");
        assert!(told.contains("in memory only"), "{told}");
    });
    within("explain", &|| {
        expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    });
    within("reinstate", &|| reinstated(&stage, &agent));
    within("contact", &|| {
        let out = agent.cli(&["contact", "alice", "--reason", "called"]);
        assert_ne!(out.code, 0, "{out:?}");
        assert!(out.stderr.contains("did not answer"), "{out:?}");
    });
    within("status", &|| {
        is_unhealthy(&agent, "does not answer", "look at the disk");
        is_unhealthy(&agent, "2 words of operators hold", "writable again");
    });
    within("events", &|| {
        let events = agent.cli(&["events", "--json"]);
        assert_eq!(events.code, 0, "{events:?}");
    });
    enforced_meanwhile(&stage, &agent);
    drop(hanging);
    // Of the audit log, the next line tells that the disk answers.
    agent.must(&["reload"]);
    is_healthy_again(&agent);
    wait::until_true("all of it to be recorded", SOON, || {
        said(&stage, &agent, "dave") == ["before", "wrong customer"]
            && said(&stage, &agent, "bob") == ["meanwhile"]
    });
    enforced_meanwhile(&stage, &agent);
    assert_eq!(agent.term(), 0);
    agent.run();
    let refused = agent.counter("alice", "denied");
    assert_eq!(refusals_heard(&stage, &agent), refused);
    enforced_meanwhile(&stage, &agent);
}

fn enforced_meanwhile(stage: &Stage, agent: &Agent) {
    expect(agent, stage.by_uid(2001), "alice", Reached::Refused);
    expect(agent, stage.by_uid(2002), "bob", Reached::Refused);
    expect(agent, stage.by_uid(2004), "dave", Reached::Outside);
}

/// Writes nonsense over all of it.
fn destroy(agent: &Agent) {
    let path = file(agent);
    let length = fs::metadata(&path).expect("it is there").len();
    let size = usize::try_from(length).expect("it is small");
    let book = OpenOptions::new().write(true).open(&path);
    let nonsense = vec![0x5a; size];
    let written = book.and_then(|book| book.write_all_at(&nonsense, 0));
    written.expect("it is ours");
}

#[test]
fn destroyed_while_the_agent_runs_and_before_a_start() {
    let stage = Stage::new();
    let agent = configured(&stage);
    begin(&stage, &agent);
    // All of it in one file, where it can be destroyed.
    assert_eq!(agent.term(), 0);
    agent.run();
    destroy(&agent);
    enforced(&stage, &agent);
    assert_eq!(at_once(&stage, 2001, 2, 100), (0, 200));
    is_unhealthy(&agent, "ledger.db", "move the file aside");
    suspend(&agent, "bob", "meanwhile");
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    // Nor is it used by the next one.
    agent.kill_9();
    agent.run();
    enforced(&stage, &agent);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    is_unhealthy(&agent, "ledger.db", "move the file aside");
    // Moved aside, a new one is begun with what is in force.
    for name in [FILE, "ledger.db-wal", "ledger.db-shm"] {
        let path = agent.state_directory().join(name);
        let _ = fs::rename(&path, path.with_extension("broken"));
    }
    is_unhealthy(&agent, "the record book was lost", "put the last backup");
    enforced(&stage, &agent);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    let taken_over = book(&stage, &agent, |book| book.state().expect("it makes sense"));
    for tenant in ["bob", "dave"] {
        let record = taken_over.records.get(tenant).expect("it was taken over");
        assert_eq!(record.own.len(), 1, "{tenant}: {record:?}");
    }
    // Said until the next start.
    assert_eq!(agent.term(), 0);
    agent.run();
    is_healthy_again(&agent);
    enforced(&stage, &agent);
}

#[test]
fn what_holds_it_at_the_start_is_waited_for() {
    let stage = Stage::new();
    let agent = configured(&stage);
    begin(&stage, &agent);
    agent.kill_9();
    let other = rusqlite::Connection::open(file(&agent)).expect("it can be opened");
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .expect("it can be held");
    agent.run();
    is_unhealthy(&agent, "there are no offences", "another program holds");
    meanwhile(&stage, &agent);
    drop(other);
    all_is_heard(&stage, &agent);
}
