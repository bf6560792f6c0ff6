//! What others do to limiter's programs, and what their programs do beside it. Whatever is taken
//! away while the agent runs is back within seconds and told of; whoever rewrites a destination
//! where connect cannot see it is stopped at the uplink.

use std::{fs, os::fd::OwnedFd, path::Path, time::Duration};

use limiter_tests::{
    Agent, Capture, Cgroup, Config, Node, OUTSIDE_MX, Place, Reached, Sink, mx, process, wait,
};
use nix::sys::stat::Mode;

use crate::{
    foreign::{self, CONNECT4, CONNECT6, EGRESS, SOCK_ADDR},
    stage::{Stage, expect},
};

/// How soon everything has to be as it was.
const REPAIR: Duration = Duration::from_secs(5);
const TENANTS: &str = "tenant: alice\nmatch: {users: [alice]}\n";
/// Where nobody minds what is sent, and what somebody makes of it.
const HIDDEN: u16 = 2526;

fn agent(node: &Node) -> Agent<'_> {
    Agent::start(node, &Config::new("mode: enforce", TENANTS))
}

/// Waits until the status tells of something, by a word of it.
#[track_caller]
fn alarmed(agent: &Agent, word: &str) {
    wait::until_true("the alarm", REPAIR, || {
        agent.status()["problems"].to_string().contains(word)
    });
}

fn uplinks(node: &Node) -> Vec<u32> {
    node.inside()
        .enter(|| foreign::tcx_links(foreign::index("eth0"), EGRESS))
}

fn tool(place: &Place, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = place.command(words.next().expect("a program"));
    let _ = process::run(command.args(words), "").success(line);
}

#[test]
fn links_that_are_detached_are_attached_again() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    let before = uplinks(&stage.node);
    assert_eq!(before.len(), 1);
    foreign::detach(before[0]);
    wait::until_true("the link", REPAIR, || {
        let now = uplinks(&stage.node);
        !now.is_empty() && now != before
    });
    alarmed(&agent, "took limiter apart");
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
}

#[test]
fn pins_that_are_removed_moved_or_squatted_are_back() {
    let stage = Stage::new();
    let agent = agent(&stage.node);
    let (directory, all) = (agent.pin_directory(), agent.pins());
    let inside = |work: &(dyn Fn() + Sync)| stage.node.inside().enter(work);
    let is_whole = || {
        let now = agent.pins();
        all.iter().all(|pin| now.contains(pin))
    };
    let links = all
        .iter()
        .filter(|pin| pin.to_string_lossy().contains("/links/"));
    for pin in links.clone() {
        inside(&|| fs::remove_file(pin).expect("it is there"));
    }
    wait::until_true("the pins", REPAIR, is_whole);
    alarmed(&agent, "took limiter apart");
    // The whole directory goes elsewhere, and somebody else's takes its place.
    let aside = directory.with_file_name("aside");
    inside(&|| {
        fs::rename(&directory, &aside).expect("it is there");
        nix::unistd::mkdir(&directory, Mode::S_IRWXU).expect("there is room");
    });
    wait::until_true("the pins", REPAIR, is_whole);
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    // What is there is limiter's: the next agent goes on with it.
    agent.kill_9();
    inside(&|| {
        let _ = fs::remove_dir_all(&aside);
    });
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    agent.run();
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert_eq!(stage.outside.settled(), 0);
}

#[test]
fn a_queueing_discipline_that_is_removed_is_back() {
    let stage = Stage::new();
    // As where there is no TCX.
    let agent = Agent::configured(&stage.node, &Config::new("mode: enforce", TENANTS));
    let agent = agent.classic();
    agent.run();
    let has_filter = || {
        let mut command = stage.node.root().command("tc");
        let out = process::run(
            command.args(["filter", "show", "dev", "eth0", "egress"]),
            "",
        );
        out.stdout.contains("limiter_uplink")
    };
    assert!(has_filter());
    tool(&stage.node.root(), "tc qdisc del dev eth0 clsact");
    assert!(!has_filter());
    wait::until_true("the filter", REPAIR, has_filter);
    alarmed(&agent, "took limiter apart");
    assert_eq!(agent.status()["layers"].as_array().map(Vec::len), Some(2));
}

/// A program that makes port 25 of [`HIDDEN`] in every `connect()`.
fn rewriter(hook: u32) -> OwnedFd {
    const PORT: u64 = 24;
    let network = |port: u16| u64::from(port.to_be()) << 32;
    // r2 = port; if it is another, to the end; port = 25; allow.
    let code = [
        0x61 | 0x12 << 8 | PORT << 16,
        0x55 | 0x02 << 8 | 2 << 16 | network(HIDDEN),
        0xb7 | 0x04 << 8 | network(25),
        0x63 | 0x41 << 8 | PORT << 16,
        0xb7 | 1 << 32,
        0x95,
    ];
    foreign::load(SOCK_ADDR, hook, &code)
}

/// Attaches rewriters to a cgroup as systemd does.
fn attach_rewriters(cgroup: &Path) -> [OwnedFd; 2] {
    [CONNECT4, CONNECT6].map(|hook| {
        let program = rewriter(hook);
        foreign::attach_cgroup_as_systemd(&program, cgroup, hook);
        program
    })
}

/// Whether anything to port 25 leaves when alice dials the hidden port.
fn dials_in_hiding(stage: &Stage, capture: &Capture) -> usize {
    let mark = capture.mark();
    for v6 in [false, true] {
        let to = (mx(v6).ip(), HIDDEN).into();
        let attempt = stage.node.sender(2001).attempt(to).say("hidden.example");
        let report = attempt.start().go().finish_within(Duration::from_secs(6));
        let reached = report.map_or(0, |report| report.connected);
        assert_eq!(reached, 0, "it got through");
    }
    capture.since(mark).bytes_to(25)
}

fn in_hiding(before: bool, at: impl Fn(&Stage) -> &Cgroup) {
    let stage = Stage::new();
    let _mail = Sink::mail(stage.node.outside(), &[HIDDEN], "outside.example");
    let capture = Capture::start(stage.node.outside());
    // Kept by the cgroup, which goes with the node.
    let _first = before.then(|| attach_rewriters(at(&stage).directory()));
    let agent = agent(&stage.node);
    let _second = (!before).then(|| attach_rewriters(at(&stage).directory()));
    assert_eq!(dials_in_hiding(&stage, &capture), 0, "SMTP left");
    expect(&agent, stage.by_uid(2001), "alice", Reached::Refused);
    assert!(agent.counter("alice", "denied") >= 2);
}

#[test]
fn a_rewriter_at_the_same_cgroup_before_limiter() {
    in_hiding(true, |stage| stage.node.cgroup());
}

#[test]
fn a_rewriter_at_the_same_cgroup_after_limiter() {
    in_hiding(false, |stage| stage.node.cgroup());
}

#[test]
fn a_rewriter_at_a_cgroup_below_before_limiter() {
    in_hiding(true, |stage| stage.node.users_cgroup());
}

#[test]
fn a_rewriter_at_a_cgroup_below_after_limiter() {
    in_hiding(false, |stage| stage.node.users_cgroup());
}

#[test]
fn packet_filters_that_rewrite_are_stopped_at_the_uplink() {
    let stage = Stage::new();
    let _mail = Sink::mail(stage.node.outside(), &[HIDDEN], "outside.example");
    let capture = Capture::start(stage.node.outside());
    let agent = agent(&stage.node);
    let rules = format!(
        "table ip hide {{
 chain out {{
  type nat hook output priority -100
  ip daddr {OUTSIDE_MX} tcp dport {HIDDEN} dnat to {OUTSIDE_MX}:25
 }}
}}
table ip6 hide {{
 chain out {{
  type nat hook output priority -100
  ip6 daddr {} tcp dport {HIDDEN} dnat to [{}]:25
 }}
}}
",
        mx(true).ip(),
        mx(true).ip()
    );
    let mut command = stage.node.root().command("nft");
    let _ = process::run(command.args(["-f", "-"]), &rules).success("nft");
    assert_eq!(dials_in_hiding(&stage, &capture), 0, "SMTP left");
    assert_eq!(capture.reached(25), 0);
    assert!(agent.counter("alice", "denied") >= 2);
}
