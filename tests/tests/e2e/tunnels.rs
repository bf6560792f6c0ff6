//! Tunnels that end on the node carry what has nothing to do with mail.

use std::{net::SocketAddr, time::Duration};

use limiter_tests::{Agent, Config, Guest, Node, Place, Sink, Wiring, process, wait};

/// A container's tunnel to the node, and whether the outer packets have checksums, which are left
/// to the device.
fn tunnel(summed: bool) {
    let node = Node::new();
    let guest = Guest::unprivileged(&node, Wiring::Veth, "veth-box", 1);
    let _web = Sink::listen(node.inside(), &[80], "node.example");
    let run = |place: &Place, lines: &str| {
        let mut ip = place.command("ip");
        let _ = process::run(ip.args(["-batch", "-"]), lines).success("ip");
    };
    let sums = if summed { "udpcsum" } else { "noudpcsum" };
    run(
        &node.root(),
        "link add vx0 type vxlan id 42 dstport 4789
link set vx0 up
address add 198.51.100.1/24 dev vx0
",
    );
    let gateway = guest.gateway(false);
    run(
        &guest.root(),
        &format!(
            "link add vx1 type vxlan id 42 remote {gateway} dstport 4789 {sums} dev eth0
link set vx1 up
address add 198.51.100.9/24 dev vx1
"
        ),
    );
    let own = node.root();
    run(
        &own,
        &format!(
            "neighbour replace 198.51.100.9 lladdr {} dev vx0\n",
            link_address(&guest)
        ),
    );
    let mut bridge = own.command("bridge");
    let line = format!(
        "fdb append 00:00:00:00:00:00 dev vx0 dst {}",
        guest.kernel(false)
    );
    let _ = process::run(bridge.args(line.split(' ')), "").success("bridge");
    let to: SocketAddr = "198.51.100.1:80".parse().expect("an address");
    let reaches = || {
        let report = guest.sender().attempt(to).start().go();
        report
            .finish_within(Duration::from_secs(4))
            .is_some_and(|report| report.connected == 1)
    };
    wait::until_true("the tunnel", wait::SOON, reaches);
    let mut flush = guest.root().command("ip");
    let config = Config::new(
        "mode: enforce",
        "tenant: box\nmatch: {interfaces: [veth-box]}\n",
    )
    .attached_also("guests: [\"veth*\"], uplinks: [eth0]");
    let agent = Agent::start(&node, &config);
    let _ = process::run(flush.args(["neighbour", "flush", "dev", "vx1"]), "").success("ip");
    assert!(reaches(), "checksums outside: {summed}");
    assert_eq!(agent.counter("box", "denied"), 0);
}

/// The Ethernet address of the container's end of the tunnel.
fn link_address(guest: &Guest) -> String {
    let mut ip = guest.root().command("ip");
    let out = process::run(ip.args(["-json", "link", "show", "dev", "vx1"]), "");
    let said: serde_json::Value = serde_json::from_str(&out.success("ip").stdout).expect("JSON");
    said[0]["address"].as_str().expect("it has one").to_owned()
}

#[test]
fn a_tunnel_to_the_node_carries_what_is_no_mail() {
    tunnel(false);
}

#[test]
fn a_tunnel_with_checksums_of_its_own_carries_what_is_no_mail() {
    tunnel(true);
}
