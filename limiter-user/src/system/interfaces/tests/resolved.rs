//! What belongs where, on made-up machines.

use std::time::Instant;

use super::{
    world::{wanted, with_uplinks},
    *,
};

const NONE: [&str; 0] = [];

#[test]
fn containers_that_are_routed() {
    let mut world = World::new();
    world.veth("veth1");
    world.veth("veth2");
    let found = world.resolve(&wanted(&[("alice", &["veth1"])]));
    assert_eq!(found.guests(), ["veth1", "veth2"]);
    assert!(
        found
            .coverage
            .guests
            .iter()
            .all(|at| at.side == Side::Ingress && at.ethernet)
    );
    assert_eq!(found.uplinks(), ["eth0"]);
    assert!(
        found
            .coverage
            .uplinks
            .iter()
            .all(|at| at.side == Side::Egress)
    );
    assert_eq!(found.owners(), [("veth1", 0)]);
    assert_eq!(found.judged(), ["veth1", "veth2"]);
    assert_eq!(found.covered(), ["eth0"]);
    assert_eq!(found.problems(), NONE);
}

#[test]
fn virtual_machines_on_the_bridge_of_the_uplink() {
    let mut world = World::new();
    world.add("tap101i0", Kind::Tun);
    world.add("tap102i0", Kind::Tun);
    world.master("vmbr0", Kind::Bridge, &["eth0", "tap101i0", "tap102i0"]);
    world.route("vmbr0");
    let found = world.resolve(&wanted(&[("one", &["tap101i*"]), ("two", &["tap102i*"])]));
    assert_eq!(found.guests(), ["tap101i0", "tap102i0"]);
    assert_eq!(found.uplinks(), ["eth0"]);
    assert_eq!(found.owners(), [("tap101i0", 0), ("tap102i0", 1)]);
    assert_eq!(found.judged(), ["tap101i0", "tap102i0", "vmbr0"]);
    // What the node sends by the bridge may go to a guest.
    assert_eq!(found.covered(), ["eth0"]);
    assert_eq!(found.problems(), NONE);
}

#[test]
fn one_port_that_nobody_looks_at_spoils_the_bridge() {
    for (name, kind) in [
        ("vb-unknown", Kind::Veth),
        ("qemu0", Kind::Tun),
        ("eth1", Kind::Physical),
        ("vx0", Kind::Tunnel("vxlan".into())),
    ] {
        let mut world = World::new();
        world.veth("veth1");
        world.add(name, kind);
        world.edit(name).peer_elsewhere = true;
        world.master("br0", Kind::Bridge, &["veth1", name]);
        let found = world.resolve(&wanted(&[]));
        assert_eq!(found.judged(), ["veth1"], "{name}");
    }
    let mut world = World::new();
    world.master("br0", Kind::Bridge, &[]);
    assert_eq!(world.resolve(&wanted(&[])).judged(), NONE, "without ports");
}

#[test]
fn what_is_not_attached_is_not_relied_upon() {
    let mut world = World::new();
    world.veth("veth1");
    world.veth("veth2");
    world.master("br0", Kind::Bridge, &["veth1", "veth2"]);
    let guests: BTreeSet<u32> = [world.index("veth1")].into();
    let none = BTreeSet::new();
    assert_eq!(world.names(judged(&world.0, &guests, &none)), ["veth1"]);
    assert_eq!(world.names(covered(&world.0, &none)), NONE);
}

#[test]
fn strangers_are_named_and_are_no_way_out() {
    let mut world = World::new();
    world.veth("vb-one");
    world.add("qemu0", Kind::Tun);
    world.master("br0", Kind::Bridge, &["eth0", "vb-one", "qemu0"]);
    world.route("br0");
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.guests(), NONE);
    assert_eq!(found.uplinks(), ["eth0"]);
    assert_eq!(found.problems().len(), 1, "{:?}", found.problems());
    assert!(
        found.problems()[0].contains("vb-one, qemu0"),
        "{:?}",
        found.problems()
    );
}

#[test]
fn a_firewall_bridge_for_each_machine() {
    let mut world = World::new();
    world.add("tap101i0", Kind::Tun);
    world.cable("fwln101i0", "fwpr101p0");
    world.master("fwbr101i0", Kind::Bridge, &["tap101i0", "fwln101i0"]);
    world.master("vmbr0", Kind::Bridge, &["eth0", "fwpr101p0"]);
    world.route("vmbr0");
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.guests(), ["tap101i0"]);
    assert_eq!(found.uplinks(), ["eth0"]);
    // What comes in by fwpr101p0 came in by the tap; and so everything in vmbr0 is accounted for.
    assert!(
        found.judged().contains(&"fwpr101p0"),
        "{:?}",
        found.judged()
    );
    assert!(found.judged().contains(&"vmbr0"), "{:?}", found.judged());
    assert_eq!(found.problems(), NONE);

    // Somebody else in the machine's bridge: then not. By fwln101i0 the outside comes in as before.
    world.add("qemu0", Kind::Tun);
    world.edit("qemu0").master = Some(world.index("fwbr101i0"));
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.judged(), ["tap101i0", "fwln101i0"]);
}

#[test]
fn cables_in_a_ring_do_not_vouch_for_each_other() {
    let mut world = World::new();
    world.cable("a1", "a2");
    world.cable("b1", "b2");
    world.master("br1", Kind::Bridge, &["a1", "b1"]);
    world.master("br2", Kind::Bridge, &["a2", "b2"]);
    assert_eq!(world.resolve(&wanted(&[])).judged(), NONE);
}

#[test]
fn a_cable_between_bridges_is_no_guest_unless_somebody_has_it() {
    let mut world = World::new();
    world.cable("veth-a", "veth-b");
    world.master("br1", Kind::Bridge, &["veth-a"]);
    world.master("br2", Kind::Bridge, &["veth-b"]);
    assert_eq!(world.resolve(&wanted(&[])).guests(), NONE);
    let found = world.resolve(&wanted(&[("alice", &["veth-a"])]));
    assert_eq!(found.guests(), ["veth-a"]);
    // A container about to start: both ends are still here, one is in the bridge already.
    let mut world = World::new();
    world.cable("veth1", "eth0-of-it");
    world.master("br1", Kind::Bridge, &["veth1"]);
    assert_eq!(world.resolve(&wanted(&[])).guests(), ["veth1"]);
}

#[test]
fn a_tenants_bridge_gives_its_ports_to_the_tenant() {
    let mut world = World::new();
    world.veth("c1");
    world.add("qemu0", Kind::Tun);
    world.veth("veth-bob");
    world.add("eth1", Kind::Physical);
    world.add("vx0", Kind::Tunnel("vxlan".into()));
    world.master(
        "br-alice",
        Kind::Bridge,
        &["c1", "qemu0", "veth-bob", "eth1", "vx0"],
    );
    let found = world.resolve(&wanted(&[("alice", &["br-alice"]), ("bob", &["veth-bob"])]));
    assert_eq!(
        found.owners(),
        [("c1", 0), ("qemu0", 0), ("veth-bob", 1), ("br-alice", 0)]
    );
    assert_eq!(found.guests(), ["c1", "qemu0", "veth-bob"]);
    // Mail for the guests comes in by these.
    assert_eq!(found.uplinks(), ["eth0", "vx0"]);
    assert_eq!(found.judged(), ["c1", "qemu0", "veth-bob"]);
}

#[test]
fn names_beat_globs_and_the_contested_is_nobodys() {
    let mut world = World::new();
    for name in ["tap1", "tap2", "tap3"] {
        world.add(name, Kind::Tun);
    }
    let tenants = wanted(&[
        ("alice", &["tap*"]),
        ("bob", &["tap2"]),
        ("carol", &["tap[3-9]", "tap4"]),
        ("dave", &["tap1", "tap1*"]),
    ]);
    let found = world.resolve(&tenants);
    assert_eq!(found.owners(), [("tap1", 3), ("tap2", 1)]);
    assert_eq!(found.guests(), ["tap1", "tap2", "tap3"]);
    let problems = found.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("carol has tap4"), "{problems:?}");
    assert!(problems[1].contains("alice (tap*) and carol (tap[3-9]) both claim tap3"));
    assert!(
        found.coverage.warnings[0]
            .advice
            .contains("as soon as it appears")
    );

    // By name, both of them.
    let found = world.resolve(&wanted(&[("alice", &["tap1"]), ("bob", &["tap1", "tap*"])]));
    assert_eq!(found.owners(), [("tap2", 1), ("tap3", 1)]);
    assert_eq!(found.problems().len(), 1);
}

#[test]
fn a_tenant_gets_neither_uplinks_nor_loopback() {
    let world = World::new();
    let mut wanted = wanted(&[("alice", &["lo", "eth*"])]);
    wanted.uplinks = Some(vec!["eth0".to_owned()]);
    let found = world.resolve(&wanted);
    assert_eq!(found.owners(), []);
    assert_eq!(found.guests(), NONE);
    assert_eq!(found.uplinks(), ["eth0"]);
    assert_eq!(found.problems().len(), 2, "{:?}", found.problems());
}

#[test]
fn a_guest_that_announces_itself_as_a_router_stays_a_guest() {
    let mut world = World::new();
    world.add("tap1", Kind::Tun);
    world.0.outward.insert(world.index("tap1"));
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.guests(), ["tap1"]);
    assert_eq!(found.uplinks(), ["eth0"]);
    assert!(
        found.problems()[0].contains("tap1"),
        "{:?}",
        found.problems()
    );
    // Named, it is what the administrator says.
    let found = world.resolve(&with_uplinks(&["tap1"]));
    assert_eq!(found.guests(), NONE);
    assert_eq!(found.uplinks(), ["tap1"]);
}

#[test]
fn bonds_below_bridges_below_vlans() {
    let mut world = World::new();
    world.add("eth1", Kind::Physical);
    world.master("bond0", Kind::Bond, &["eth0", "eth1"]);
    world.above("bond0.5", Kind::Vlan, "bond0");
    world.add("tap1", Kind::Tun);
    world.master("br0", Kind::Bridge, &["bond0", "tap1"]);
    world.above("br0.7", Kind::Vlan, "br0");
    for (route, uplinks) in [
        ("bond0", vec!["eth0", "eth1"]),
        // A VLAN device is its own uplink,
        ("bond0.5", vec!["bond0.5"]),
        ("br0", vec!["eth0", "eth1"]),
        // but on a bridge the guests' frames do not pass it.
        ("br0.7", vec!["eth0", "eth1"]),
    ] {
        world.route(route);
        assert_eq!(world.resolve(&wanted(&[])).uplinks(), uplinks, "{route}");
        assert_eq!(
            world.resolve(&with_uplinks(&[route])).uplinks(),
            uplinks,
            "{route}"
        );
    }
    let found = world.resolve(&with_uplinks(&["eth0", "eth1"]));
    assert_eq!(found.covered(), ["eth0", "eth1", "bond0", "bond0.5"]);
    let found = world.resolve(&with_uplinks(&["eth0"]));
    assert_eq!(
        found.covered(),
        ["eth0"],
        "the other half of the bond is open"
    );
    // And what is routed from the VLAN on the bridge came in by a port of it.
    let found = world.resolve(&with_uplinks(&["bond0"]));
    assert_eq!(found.judged(), ["tap1", "br0", "br0.7"]);
}

#[test]
fn the_last_resort_of_a_bridge_is_the_bridge() {
    // All traffic goes through a virtual machine that is the firewall.
    let mut world = World::new();
    world.add("tap1", Kind::Tun);
    world.master("br0", Kind::Bridge, &["tap1"]);
    world.route("br0");
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.uplinks(), ["br0"]);
    assert_eq!(found.judged(), ["tap1"]);
    assert_eq!(found.covered(), ["br0"]);
    // A node that is a container itself: its cable is the only way out.
    let mut world = World::new();
    world.veth("up0");
    world.master("br0", Kind::Bridge, &["up0"]);
    world.route("br0");
    assert_eq!(world.resolve(&wanted(&[])).uplinks(), ["up0"]);
    // Masters in a ring do not hang.
    world.edit("br0").master = Some(world.index("up0"));
    world.edit("up0").kind = Kind::Bridge;
    assert_eq!(world.resolve(&with_uplinks(&["br0"])).uplinks(), NONE);
}

#[test]
fn tunnels_that_are_up_are_uplinks_and_tuns_too() {
    let mut world = World::new();
    world.add("wg0", Kind::Tunnel("wireguard".into()));
    world.add("gre0", Kind::Tunnel("gre".into()));
    world.edit("gre0").up = false;
    world.add("tun0", Kind::Tun);
    world.edit("tun0").is_ethernet = false;
    world.add("wg-guest", Kind::Tunnel("wireguard".into()));
    world.add("dummy0", Kind::Dummy);
    let found = world.resolve(&wanted(&[("alice", &["wg-guest"])]));
    assert_eq!(found.uplinks(), ["eth0", "wg0", "tun0"]);
    assert!(!found.coverage.uplinks[1].ethernet);
    assert_eq!(found.guests(), ["wg-guest"]);
    assert_eq!(found.covered(), ["eth0", "wg0", "tun0"]);
    // Named uplinks are all there is.
    assert_eq!(world.resolve(&with_uplinks(&["eth0"])).uplinks(), ["eth0"]);
}

#[test]
fn uplinks_by_glob_and_those_that_are_not_there_yet() {
    let mut world = World::new();
    world.add("eth1", Kind::Physical);
    let found = world.resolve(&with_uplinks(&["eth*", "ens5"]));
    assert_eq!(found.uplinks(), ["eth0", "eth1"]);
    assert_eq!(found.problems().len(), 1);
    assert!(found.problems()[0].contains("ens5"));
    // A glob that matches only what another matched is no mistake.
    let found = world.resolve(&with_uplinks(&["eth*", "eth0"]));
    assert_eq!(found.problems(), NONE);
    world.0.outward.clear();
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.uplinks(), NONE);
    assert!(
        found.problems()[0].contains("no interface has a route"),
        "{:?}",
        found.problems()
    );
}

#[test]
fn macvtap_is_judged_on_its_way_out() {
    let mut world = World::new();
    world.above("macvtap0", Kind::Macvtap, "eth0");
    world.above("macvlan0", Kind::Macvlan, "eth0");
    let found = world.resolve(&wanted(&[("alice", &["macvtap0"])]));
    assert_eq!(found.guests(), ["macvtap0"]);
    assert_eq!(found.coverage.guests[0].side, Side::Egress);
    assert_eq!(found.owners(), [("macvtap0", 0)]);
    assert_eq!(found.judged(), NONE);
    // What a macvlan sends to its sibling stays above eth0.
    assert_eq!(found.covered(), ["eth0"]);
}

#[test]
fn what_stands_on_a_guest_is_judged_there() {
    let mut world = World::new();
    world.add("tap1", Kind::Tun);
    world.above("tap1.7", Kind::Vlan, "tap1");
    world.above("tap1.7.8", Kind::Vlan, "tap1.7");
    let found = world.resolve(&wanted(&[("alice", &["tap1"])]));
    assert_eq!(found.guests(), ["tap1"]);
    assert_eq!(found.judged(), ["tap1", "tap1.7", "tap1.7.8"]);
    let found = world.resolve(&wanted(&[("alice", &["tap1.7"])]));
    assert_eq!(found.guests(), ["tap1"]);
    assert!(
        found.problems()[0].contains("tap1.7 stands on"),
        "{:?}",
        found.problems()
    );
}

#[test]
fn a_switch_leads_out_by_its_wires() {
    let mut world = World::new();
    world.add("tap1", Kind::Tun);
    world.master("ovs-system", Kind::OpenVswitch, &["eth0", "tap1"]);
    world.add("br0", Kind::OpenVswitch);
    world.route("br0");
    let found = world.resolve(&wanted(&[]));
    assert_eq!(found.uplinks(), ["eth0"]);
    assert_eq!(found.guests(), ["tap1"]);
    assert_eq!(found.judged(), ["tap1"]);
    assert_eq!(found.covered(), ["eth0"]);
}

#[test]
fn thousands_of_tenants_and_interfaces_take_no_time() {
    let mut world = World::new();
    let names: Vec<String> = (0..5_000).map(|at| format!("tap{at}i0")).collect();
    for name in &names {
        // Not by `add`, which is slow at this: it only needs the index.
        world.add(name, Kind::Tun);
    }
    let bridge = world.add("vmbr0", Kind::Bridge);
    for link in world
        .0
        .links
        .values_mut()
        .filter(|link| link.kind == Kind::Tun)
    {
        link.master = Some(bridge);
    }
    let globs: Vec<String> = (0..5_000).map(|at| format!("tap{at}i*")).collect();
    let globs: Vec<[&str; 1]> = globs.iter().map(|glob| [glob.as_str()]).collect();
    let tenants: Vec<(&str, &[&str])> = globs.iter().map(|glob| (glob[0], &glob[..])).collect();
    let wanted = wanted(&tenants);
    let started = Instant::now();
    let coverage = resolve(&world.0, &wanted);
    let took = started.elapsed();
    assert_eq!(coverage.guests.len(), 5_000);
    assert_eq!(coverage.owners.len(), 5_000);
    assert!(coverage.judged.contains(&bridge));
    assert_eq!(coverage.warnings, []);
    assert!(took.as_millis() < 2_000, "{took:?}");
}
