//! The whole agent with many accounts in its files: until it is ready, until a change is in force, what memory it
//! takes.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Node};

use crate::{
    accounts::Accounts,
    net::Bench,
    question::{Case, Question},
    report::{LIMITER, Report},
};

/// From its start until it is ready, with nothing in the kernel before.
pub const READY: &str = "until it is ready";
/// `limiter reload` after the limit of one account has changed.
pub const CHANGED: &str = "one account changed, until in force";
/// The same after all have.
const ALL_CHANGED: &str = "all accounts changed, until in force";
/// `limiter status --json`.
const STATUS: &str = "its status of all accounts";

/// Accounts in a file.
const IN_A_FILE: usize = 100;
/// What nobody comes to.
const MOST: u32 = 1_000_000;

/// Starts an agent with so many accounts, and one with a single account beside which memory is told.
pub fn run(bench: &Bench, accounts: Accounts, report: &mut Report) {
    bench.anywhere(|| {
        let few = watched(Accounts::new(1), report);
        let many = watched(accounts, report);
        let case = Case::Accounts(accounts.count);
        let by_account = (many - few) / float(accounts.count);
        report.note(Question::AgentMemory, case, LIMITER, by_account);
    });
}

/// Starts an agent and lets its policy change; the memory that it has in the end, bytes.
fn watched(accounts: Accounts, report: &mut Report) -> f64 {
    let node = Node::new();
    let mut config = Config::new("mode: enforce", "");
    config.tenants = files(accounts, MOST);
    let agent = Agent::configured(&node, &config);
    let case = Case::Accounts(accounts.count);
    let mut note = |what, took: Duration| {
        report.note(Question::AgentTime, case, what, took.as_secs_f64() * 1e3);
    };
    note(READY, time(|| agent.run()));

    let number = accounts.count / 2 / IN_A_FILE;
    let (name, text) = file(accounts, number, MOST - 1);
    let old = file(accounts, number, MOST).1;
    // Only the first account of the file changes.
    let (first, _) = text.split_at(text[1..].find("---").map_or(text.len(), |at| at + 1));
    let changed = format!("{first}{}", &old[first.len()..]);
    agent.write_tenants(&name, &changed);
    note(CHANGED, time(|| drop(agent.must(&["reload"]))));
    assert_eq!(limit(&agent, accounts, number), MOST - 1);

    for (name, text) in files(accounts, MOST - 2) {
        agent.write_tenants(&name, &text);
    }
    note(ALL_CHANGED, time(|| drop(agent.must(&["reload"]))));
    let start = Instant::now();
    assert_eq!(limit(&agent, accounts, number), MOST - 2);
    note(STATUS, start.elapsed());
    resident(agent.pid())
}

/// What the agent says is the limit of the first account of a file.
fn limit(agent: &Agent, accounts: Accounts, number: usize) -> u32 {
    let uid = accounts.uids().nth(number * IN_A_FILE).unwrap();
    let tenant = agent.tenant(&format!("account{uid}"));
    let limit = tenant["usage"][0]["max"].as_u64();
    let limit = limit.unwrap_or_else(|| panic!("no limit in {tenant:#}"));
    u32::try_from(limit).unwrap()
}

fn files(accounts: Accounts, most: u32) -> Vec<(String, String)> {
    let count = accounts.count.div_ceil(IN_A_FILE);
    (0..count)
        .map(|number| file(accounts, number, most))
        .collect()
}

/// The name and the text of a file.
fn file(accounts: Accounts, number: usize, most: u32) -> (String, String) {
    let mut text = String::new();
    for uid in accounts.uids().skip(number * IN_A_FILE).take(IN_A_FILE) {
        let _ = write!(
            text,
            "---
tenant: account{uid}
match: {{uids: [{uid}]}}
direct_smtp: allow
limits: [{{unit: connections, max: {most}, window: 1h}}]
"
        );
    }
    (format!("accounts-{number:05}.yaml"), text)
}

/// Memory of a process, bytes.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
fn float(count: usize) -> f64 {
    count as f64
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
