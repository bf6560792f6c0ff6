//! One customer's mail spread over many addresses: each of them is allowed, all of them are not.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
};

use limiter_tests::{Agent, Config, NODE4, Node, Reached, mx, process, wait};
use limiter_user::{ledger::Ledger, offence::Moment};

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

const POLICY: &str = "
policy: snowshoe
offences:
  - {when: {spread: {addresses: 6, in: 1h}}, severity: severe}
forget_after: 365d
steps:
  - {severity: severe, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
";

const MAIN: &str = "
mode: enforce
policies: [snowshoe.yaml]
notices: null
";

/// The node's addresses, with some more.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let more: Vec<Ipv4Addr> = (30..35).map(|it| Ipv4Addr::new(203, 0, 113, it)).collect();
    let lines: String = more
        .iter()
        .map(|address| format!("address add {address}/24 dev eth0\n"))
        .collect();
    let mut ip = node.root().command("ip");
    let _ = process::run(ip.args(["-batch", "-"]), &lines).success("ip");
    let all = std::iter::once(NODE4).chain(more);
    all.map(IpAddr::from).collect()
}

/// How many different addresses the engine heard of.
fn heard(agent: &Agent, tenant: &str) -> usize {
    let ledger = Ledger::read_only(&agent.state_directory());
    let ledger = ledger.expect("it can be read").expect("there is one");
    let signals = ledger.signals(tenant, Moment(0), 1_000);
    let signals = signals.expect("it can be read").into_iter();
    let sources = signals.filter(|signal| signal.kind == "sources");
    let all: BTreeSet<String> = sources
        .filter_map(|signal| {
            let sources = signal.body["sources"]["sources"].as_object()?;
            Some(sources.keys().cloned().collect::<Vec<String>>())
        })
        .flatten()
        .collect();
    all.len()
}

#[test]
fn allowed_mail_from_many_addresses_is_an_offence() {
    let stage = Stage::new();
    let addresses = addresses(&stage.node);
    let agent = Agent::configured(&stage.node, &Config::new(MAIN, TENANTS));
    fs::write(agent.home().join("snowshoe.yaml"), POLICY).expect("the directory is ours");
    agent.run();
    let send = |uid: u32, tenant: &str, from: IpAddr| {
        let attempt = stage.node.sender(uid).attempt(mx(false)).from(from);
        expect(&agent, attempt, tenant, Reached::Outside);
    };
    let (last, others) = addresses.split_last().expect("there are some");
    for address in others {
        send(2001, "alice", *address);
    }
    // As often, from two of them.
    for address in addresses.iter().take(2).cycle().take(6) {
        send(2002, "bob", *address);
    }
    wait::until_true("five addresses to be heard of", wait::SOON, || {
        heard(&agent, "alice") == 5
    });
    assert_eq!(agent.tenant("alice")["standing"], "good");
    assert_eq!(agent.counter("alice", "denied"), 0);

    // The next agent knows of the five.
    agent.kill_9();
    agent.run();
    send(2001, "alice", *last);
    wait::until_true("alice to be blocked", wait::SOON, || {
        agent.tenant("alice")["sanction"] == "block_smtp"
    });
    let attempt = stage.node.sender(2001).attempt(mx(false)).from(*last);
    expect(&agent, attempt, "alice", Reached::Refused);
    assert_eq!(agent.tenant("bob")["standing"], "good");
    assert_eq!(heard(&agent, "bob"), 0, "two are what anybody has");
}
