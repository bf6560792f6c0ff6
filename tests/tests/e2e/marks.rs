//! What one layer leaves in a packet for another cannot be made by a guest: who sits on the uplink
//! itself brings its packets there as its own kernel namespace made them.

use std::{net::IpAddr, time::Duration};

use limiter_tests::{
    Agent, Capture, Config, Guest, Node, PacketAttempt, Place, Sink, Wiring,
    packets::{Ended, Link},
    process,
};

/// How long whoever is stopped waits for an answer that does not come.
const SILENCE: Duration = Duration::from_millis(300);

fn tool(place: &Place, program: &str, arguments: &[&str], input: &str) {
    let mut command = place.command(program);
    let _ = process::run(command.args(arguments), input).success(program);
}

/// Index of an interface there.
fn index(place: &Place, name: &str) -> u32 {
    place
        .namespace()
        .enter(|| nix::net::if_::if_nametoindex(name).expect("it is there"))
}

/// A container on the uplink that forwards what it sends to itself by a pair of interfaces, one of
/// which has this index. To the node such packets have no socket.
fn forwards(guest: &Guest, index: u32) {
    let place = guest.root();
    let lines = format!(
        "link add hole index {index} type veth peer name inner
link set hole up
link set inner up
address add 198.51.100.129/25 dev hole
"
    );
    tool(&place, "ip", &["-batch", "-"], &lines);
    tool(
        &place,
        "sh",
        &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"],
        "",
    );
    let nat = "table ip away {
        chain out { type nat hook postrouting priority 100; oifname eth0 masquerade\n }
    }\n";
    tool(&place, "nft", &["-f", "-"], nat);
}

fn forwarded<'n>(guest: &Guest<'n>) -> PacketAttempt<'n> {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    guest
        .packets(false)
        .link(Link::Packet {
            device: "inner".to_owned(),
            bypass: false,
        })
        .address(address("198.51.100.130"), 25, address("198.51.100.129"))
        .message()
        .patience(SILENCE)
}

/// Whatever a container's own traffic control leaves in its packets.
fn mark(guest: &Guest, mark: u32) {
    let place = guest.root();
    tool(&place, "tc", &["qdisc", "add", "dev", "eth0", "clsact"], "");
    let line =
        format!("filter add dev eth0 egress protocol all u32 match u32 0 0 classid 1:{mark:x}");
    let words: Vec<&str> = line.split(' ').collect();
    tool(&place, "tc", &words, "");
}

fn agent<'n>(node: &'n Node, guest: &Guest, bob: &str) -> Agent<'n> {
    let tenants = format!(
        "
tenant: box
match: {{cgroups: ['{}']}}
---
tenant: bob
direct_smtp: {bob}
match: {{interfaces: [veth-bob]}}
",
        guest.cgroup().path()
    );
    let config = Config::new("mode: enforce", &tenants)
        .attached_also("guests: [\"veth*\"], uplinks: [eth0]");
    Agent::start(node, &config)
}

/// A container on the uplink forwards what it sends by an interface with the index of bob's, and
/// leaves this mark in it, if any: that is served until limiter runs and nothing of it leaves from
/// then on, `bob` being what bob may do.
#[track_caller]
fn is_stopped(marked: Option<u32>, bob: &str, and: impl FnOnce(&Agent)) {
    let node = Node::new();
    let guest = Guest::unprivileged(&node, Wiring::Macvlan, "macv0", 1);
    let _bob = Guest::unprivileged(&node, Wiring::Veth, "veth-bob", 1);
    let _mail = Sink::mail(node.outside(), &[25], "outside.example");
    let wire = Capture::start(node.outside());
    forwards(&guest, index(&node.root(), "veth-bob"));
    if let Some(marked) = marked {
        mark(&guest, marked);
    }
    assert_eq!(forwarded(&guest).make().ended, Ended::Served);
    let mark = wire.mark();
    let agent = agent(&node, &guest, bob);
    let report = forwarded(&guest).make();
    assert_ne!(report.ended, Ended::Served, "{report:?}");
    assert_eq!(wire.since(mark).reached(25), 0);
    and(&agent);
}

#[test]
fn a_number_of_another_namespace_is_no_interface_of_the_node() {
    is_stopped(None, "allow", |agent| {
        assert_eq!(agent.counter("bob", "allowed"), 0);
    });
}

#[test]
fn nobody_judges_its_own_packets() {
    is_stopped(Some(limiter_common::flow::JUDGED_MARK), "block", |_| {});
}
