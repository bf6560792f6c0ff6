//! The product and its peers side by side, in one run. `cargo xtask bench` builds and runs it.
//!
//! - [`rounds`]: what they add to a connection, by how many accounts there are. A measurement is the time of one
//!   `connect(2)` that does not wait: the hooks at `connect` run in it, and the SYN is made, filtered and handed to
//!   an interface behind which nobody is. The account is drawn anew for each, so that what is kept of it is not in
//!   a cache. All contenders have their turn in every round, in random order, on one processor, each in a network
//!   namespace of its own that looks like the others'.
//! - [`hot`]: the same for always the same account, from one processor and from two at once.
//! - [`unrelated`], [`messages`]: what other traffic, and a message of a bulk session, costs.
//! - [`policies`]: how long it takes to load and to change policies, and what memory they take.
//! - [`watch`], [`agent`]: the agent itself, while nothing and while much is refused, and with many accounts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what cannot be measured ends the run"
)]

mod accounts;
mod agent;
#[path = "../../tests/kernel/cost/arms.rs"]
mod arms;
mod attempt;
mod charts;
mod contender;
#[path = "../../tests/kernel/cost/figures.rs"]
mod figures;
mod floor;
#[path = "../../tests/kernel/foreign.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod foreign;
mod goals;
mod hot;
#[path = "../../tests/kernel/images.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod images;
#[path = "../../tests/kernel/lab.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod lab;
mod limiter;
mod machine;
mod messages;
mod net;
mod peers;
mod plan;
mod policies;
mod progress;
mod question;
mod report;
mod rounds;
mod supervise;
#[path = "../../tests/kernel/cost/traffic.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod traffic;
mod turns;
mod unrelated;
mod watch;

use std::{
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use self::{
    accounts::Accounts,
    contender::Contender,
    net::{Bench, Net},
    peers::Peer,
    plan::Plan,
    progress::progress,
    question::Case,
    report::{NOTHING, Report},
};

fn main() -> ExitCode {
    if !supervise::measures() {
        return supervise::supervise();
    }
    let plan = Plan::of_arguments();
    let mut report = Report::default();
    let failed = measure(&plan, &mut report);
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{}", report.text());
    if let Some(path) = &plan.json {
        report.write(path);
    }
    if let Some(directory) = &plan.charts {
        charts::draw(&report, directory);
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(out, "could not be measured: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// All that the plan says, one part after the other; the parts that could not be measured to their end.
fn measure(plan: &Plan, report: &mut Report) -> Vec<&'static str> {
    let bench = Bench::take_seat();
    let known = PARTS.map(|(name, _)| name);
    for name in &plan.only {
        assert!(
            known.contains(&name.as_str()),
            "{name} is none of {known:?}"
        );
    }
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        let measured = || part(&bench, plan, report);
        // What it panics with has been said.
        if plan.has(name) && panic::catch_unwind(AssertUnwindSafe(measured)).is_err() {
            failed.push(name);
            attempt::become_root();
        }
    }
    failed
}

/// Something that can be measured by itself.
type Part = fn(&Bench, &Plan, &mut Report);

/// The parts, by name.
const PARTS: [(&str, Part); 7] = [
    ("connect", |bench, plan, report| {
        for size in &plan.sizes {
            progress(&format!("connecting: {} accounts", Case::Accounts(*size)));
            connects(bench, Accounts::new(*size), plan.rounds, report);
        }
        report.growth(1_000, 100_000);
    }),
    ("hot", |bench, plan, report| {
        progress("connecting: one account, two processors");
        hot::run(bench, plan.traffic, report);
    }),
    ("unrelated", |_, plan, report| {
        progress("unrelated traffic");
        unrelated::run(plan.traffic, report);
    }),
    ("messages", |_, plan, report| {
        progress("messages of bulk sessions");
        messages::run(plan.traffic, report);
    }),
    ("policies", |_, plan, report| {
        for size in &plan.sizes {
            progress(&format!("policies: {} accounts", Case::Accounts(*size)));
            policies::run(Accounts::new(*size), plan.loads, report);
        }
        progress("policies: memory");
        policies::memory(Accounts::new(100_000), plan.loads, report);
    }),
    ("watch", |bench, plan, report| {
        progress("the agent, while nothing and while much is refused");
        watch::run(bench, plan.seconds, report);
    }),
    ("agent", |bench, plan, report| {
        progress(&format!(
            "the agent: {} accounts",
            Case::Accounts(plan.files)
        ));
        agent::run(bench, Accounts::new(plan.files), report);
    }),
];

/// All that filter connections, beside each other.
fn connects(bench: &Bench, accounts: Accounts, rounds: usize, report: &mut Report) {
    let mut contenders = vec![
        Contender::in_namespace(NOTHING, Net::new(), false),
        floor::empty(bench),
        floor::cold(bench, accounts),
        limiter::contender(bench, accounts),
        limiter::with_uplink(bench, accounts),
    ];
    for peer in Peer::all() {
        if accounts.count <= peer.most() {
            contenders.push(peer.contender(accounts));
        }
    }
    rounds::run(&contenders, accounts, rounds, report);
}
