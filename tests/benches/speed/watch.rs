//! The agent on a node where nothing happens, and while somebody is refused again and again: how much of a
//! processor it takes, and whether it tells of every refusal.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Load, Loader, Node, Place, mx, programs, repeated, wait};
use nix::{
    sys::time::TimeValLike as _,
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::{
    net::{Bench, stay_on},
    question::{Case, Question},
    report::{LIMITER, Report},
};

/// Nothing happens.
const IDLE: Case = Case::Named("nothing happens");
/// At the pace that is aimed at.
pub const PACED: Case = Case::Named("500,000 a second are refused");
/// As fast as it goes.
const UNBOUND: Case = Case::Named("as many as go are refused");
/// At that pace, but never the same account again and again.
pub const CROWD: Case = Case::Named("500,000 a second of 1,000 accounts are refused");

/// Who is refused: the uid of the first, and how many at most.
const REFUSED: (u32, u32) = (70_000, 1_000);
/// Refusals in a second that are aimed at.
const PACE: u64 = 500_000;
/// How long the agent may take to tell of the last.
const TOLD: Duration = Duration::from_secs(1);

/// Watches an agent for so many seconds in each case; nothing where there is one processor.
pub fn run(bench: &Bench, seconds: u64, report: &mut Report) {
    let Some(cpus) = bench.two_cpus() else {
        return;
    };
    bench.anywhere(|| {
        let node = Node::new();
        let (first, count) = REFUSED;
        let tenants: String = (first..first + count)
            .map(|uid| {
                format!("---\ntenant: u{uid}\nmatch: {{uids: [{uid}]}}\ndirect_smtp: block\n")
            })
            .collect();
        let agent = Agent::start(&node, &Config::new("mode: enforce", &tenants));
        let time = Duration::from_secs(seconds);
        // What a start leaves to be done is done.
        thread::sleep(TOLD);
        let cpu = cpu(&agent);
        thread::sleep(time);
        let taken = self::cpu(&agent) - cpu;
        report.note(Question::AgentCpu, IDLE, LIMITER, percent(taken, time));

        let program = node.directory().join("limiter-load");
        programs::copy_sender("limiter-load", &program);
        for (case, pace, count) in [
            (PACED, PACE, 1),
            (UNBOUND, u64::MAX, 1),
            (CROWD, PACE, count),
        ] {
            let flood = Flood {
                // Each attempt is made by the user that it is made for.
                place: node.user(0),
                program: &program,
                cpus,
                load: Load::Refusals {
                    per_second: pace / 2,
                    by: (first, count),
                },
            };
            flooded(&agent, &flood, time, case, report);
        }
    });
}

/// Two processes that are refused, each on a processor of its own.
struct Flood<'p> {
    place: Place,
    program: &'p std::path::Path,
    cpus: [usize; 2],
    /// What each does.
    load: Load,
}

impl Flood<'_> {
    /// Lets them try for so long: how often they did, and how long it took.
    fn go(&self, time: Duration) -> (u64, Duration) {
        let to: SocketAddr = mx(false);
        let mut loaders = self.cpus.map(|cpu| {
            stay_on(&[cpu]);
            Loader::start(&self.place, self.program, to, self.load)
        });
        stay_on(&self.cpus);
        let start = Instant::now();
        for loader in &mut loaders {
            loader.begin(Duration::ZERO, time);
        }
        let made = loaders.iter_mut().map(|it| it.end().count).sum();
        (made, start.elapsed())
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
fn flooded(agent: &Agent, flood: &Flood, time: Duration, case: Case, report: &mut Report) {
    let events = || repeated(&agent.events(&[]));
    let before = (denied(agent), events());
    let cpu = cpu(agent);
    let (made, took) = flood.go(time);
    thread::sleep(TOLD);
    let taken = self::cpu(agent) - cpu;
    let counted = denied(agent) - before.0;
    wait::until_true("the events to be complete", wait::SOON, || {
        events() - before.1 >= made
    });
    let told = events() - before.1;
    let made = made as f64;
    report.note(
        Question::FloodRate,
        case,
        LIMITER,
        made / took.as_secs_f64(),
    );
    report.note(Question::AgentCpu, case, LIMITER, percent(taken, took));
    report.note(Question::FloodTold, case, LIMITER, counted as f64 / made);
    report.note(
        Question::FloodTold,
        case,
        "limiter, by its events",
        told as f64 / made,
    );
}

/// Refusals that it has counted, of everybody together.
fn denied(agent: &Agent) -> u64 {
    let status = agent.status();
    let tenants = status["tenants"].as_array().unwrap();
    tenants.iter().filter_map(|it| it["denied"].as_u64()).sum()
}

/// For how long all threads of the agent together had a processor.
fn cpu(agent: &Agent) -> Duration {
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    let time = clock_gettime(clock_getcpuclockid(pid).unwrap()).unwrap();
    Duration::from_nanos(u64::try_from(time.num_nanoseconds()).unwrap())
}

fn percent(taken: Duration, of: Duration) -> f64 {
    100.0 * taken.as_secs_f64() / of.as_secs_f64()
}
