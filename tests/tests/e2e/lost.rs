//! The record book is lost or damaged, and the machine boots: whoever was suspended is so still.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::PathBuf,
    time::Duration,
};

use limiter_tests::{Agent, Config, Reached};
use serde_json::Value;

use crate::stage::{Stage, expect};

const TENANTS: &str = "
tenant: alice
direct_smtp: allow
match: {users: [alice]}
---
tenant: bob
direct_smtp: allow
match: {users: [bob]}
";

const HOUR: Duration = Duration::from_secs(3_600);

fn simulated(stage: &Stage) -> Agent<'_> {
    Agent::configured(&stage.node, &Config::new("mode: enforce", TENANTS)).simulated()
}

fn suspended(agent: &Agent) {
    let because = ["--reason", "she was hacked"];
    agent.must(
        &[
            &["suspend", "alice", "--sanction", "suspend_network"][..],
            &because,
        ]
        .concat(),
    );
    let short = ["--for", "30m", "--sanction", "block_smtp"];
    agent.must(&[&["suspend", "bob"][..], &short, &because].concat());
}

/// The files of the record book.
fn book(agent: &Agent) -> Vec<PathBuf> {
    let found = fs::read_dir(agent.state_directory()).expect("it is there");
    let files = found.filter_map(|entry| Some(entry.ok()?.path()));
    let files: Vec<PathBuf> = files
        .filter(|path| path.to_string_lossy().contains("ledger.db"))
        .collect();
    assert!(!files.is_empty());
    files
}

/// The problem that says this, and what to do.
fn problem(status: &Value, text: &str) -> (String, String) {
    let problems = status["problems"].as_array().expect("it is a list");
    let mut found = problems.iter().filter_map(|problem| {
        let said = problem["problem"].as_str()?;
        let remedy = problem["remedy"].as_str()?;
        said.contains(text)
            .then(|| (said.to_owned(), remedy.to_owned()))
    });
    found
        .next()
        .unwrap_or_else(|| panic!("nobody says {text:?}: {status:#}"))
}

fn holds(stage: &Stage, agent: &Agent) {
    let alice = stage.by_uid(2001);
    expect(agent, alice, "alice", Reached::Refused);
    // His was over.
    expect(agent, stage.by_uid(2002), "bob", Reached::Outside);
}

fn is_free(stage: &Stage, agent: &Agent) {
    expect(agent, stage.by_uid(2001), "alice", Reached::Outside);
}

#[test]
fn a_lost_record_book_frees_nobody() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.clock().trust(true);
    agent.run();
    suspended(&agent);
    agent.term();
    for file in book(&agent) {
        fs::remove_file(file).expect("it is ours");
    }
    agent.reboot(HOUR);
    agent.run();
    holds(&stage, &agent);
    let status = agent.status();
    assert_eq!(status["healthy"], false);
    let (said, remedy) = problem(&status, "the record book was lost");
    assert!(said.contains("she was hacked"), "{said}");
    assert!(remedy.contains("limiter reinstate"), "{remedy}");
    assert!(agent.log().contains("the record book was lost"));
    // It is an operator's word from now on, and lifted as one; that holds across the next loss.
    agent.must(&["reinstate", "alice", "--reason", "she changed her password"]);
    is_free(&stage, &agent);
    agent.term();
    for file in book(&agent) {
        fs::remove_file(file).expect("it is ours");
    }
    agent.reboot(HOUR);
    agent.run();
    is_free(&stage, &agent);
}

#[test]
fn a_damaged_record_book_frees_nobody() {
    let stage = Stage::new();
    let agent = simulated(&stage);
    agent.clock().trust(true);
    agent.run();
    suspended(&agent);
    agent.term();
    for file in book(&agent) {
        let mut file = fs::File::options()
            .write(true)
            .open(file)
            .expect("it is ours");
        file.seek(SeekFrom::Start(0)).expect("it is a file");
        file.write_all(&[0x55; 8_192]).expect("it is ours");
    }
    agent.reboot(HOUR);
    agent.run();
    holds(&stage, &agent);
    let status = agent.status();
    assert_eq!(status["healthy"], false);
    let (said, remedy) = problem(&status, "ledger.db");
    assert!(
        said.contains("is so again by its copy (1 in all)"),
        "{said}"
    );
    assert!(remedy.contains("move the file aside"), "{remedy}");
    // What operators say meanwhile holds, also after the next reboot.
    agent.must(&["reinstate", "alice", "--reason", "she changed her password"]);
    is_free(&stage, &agent);
    let because = ["--reason", "he too"];
    agent.must(
        &[
            &["suspend", "bob", "--sanction", "block_smtp"][..],
            &because,
        ]
        .concat(),
    );
    agent.reboot(HOUR);
    agent.run();
    is_free(&stage, &agent);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    // As status says: the file is moved aside.
    agent.term();
    for file in book(&agent) {
        let aside = file.with_extension("aside");
        fs::rename(file, aside).expect("it is ours");
    }
    agent.reboot(HOUR);
    agent.run();
    is_free(&stage, &agent);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
    problem(&agent.status(), "the record book was lost");
    agent.term();
    agent.run();
    assert_eq!(agent.status()["healthy"], true);
    expect(&agent, stage.by_uid(2002), "bob", Reached::Refused);
}
