//! Ways to real neighbours.

use std::{fs::File, process::Command};

use super::real::{Elsewhere, seen, try_ip};
use crate::system::{
    interfaces::{Way, Ways},
    testing::in_own_netns,
};

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "{program} {arguments}");
}

fn to(ways: &Ways, address: &str) -> Way {
    ways.to(address.parse().unwrap()).unwrap()
}

#[test]
fn by_a_cable_to_another_namespace() {
    in_own_netns(|ip| {
        let ways = Ways::open().unwrap();
        assert_eq!(to(&ways, "192.0.2.2"), Way::default(), "no route");
        let elsewhere = Elsewhere::new();
        ip("link add veth1 index 101 type veth peer name in1");
        ip(&format!("link set in1 netns {}", elsewhere.0.id()));
        ip("link set veth1 up");
        ip("address add 192.0.2.1/24 dev veth1");
        ip("-6 address add 2001:db8::1/64 dev veth1 nodad");
        let namespace = File::open(format!("/proc/{}/ns/net", elsewhere.0.id())).unwrap();
        let number = ways.namespace_id(&namespace).unwrap();
        assert!(number.is_some());
        for address in ["192.0.2.2", "::ffff:192.0.2.2", "2001:db8::2"] {
            let way = Way {
                interfaces: vec![101],
                to_guest: true,
                namespace: number,
                ..Way::default()
            };
            assert_eq!(to(&ways, address), way, "{address}");
        }
        // Whoever is nobody's peer has no number.
        let other = Elsewhere::new();
        let other = File::open(format!("/proc/{}/ns/net", other.0.id())).unwrap();
        assert_eq!(ways.namespace_id(&other).unwrap(), None);
        // Beyond a gateway, which is the guest.
        ip("route add 198.51.100.0/24 via 192.0.2.9");
        assert_eq!(to(&ways, "198.51.100.7").interfaces, [101]);
    });
}

#[test]
fn by_the_port_of_a_bridge() {
    in_own_netns(|ip| {
        let ways = Ways::open().unwrap();
        ip("link add br0 index 200 type bridge");
        ip("address add 192.0.2.1/24 dev br0");
        ip("link set br0 up");
        for name in ["tap1", "tap2"] {
            ip(&format!("tuntap add dev {name} mode tap"));
            ip(&format!("link set {name} master br0 up"));
        }
        let index = |name: &str| seen(name).index;
        // Nobody knows where it is.
        assert!(to(&ways, "192.0.2.2").is_lost);
        ip("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev br0");
        let lost = to(&ways, "192.0.2.2");
        assert!(lost.is_lost && lost.interfaces == [200], "{lost:?}");
        // Behind a gateway it is not a guest of this bridge's.
        ip("route add 198.51.100.0/24 via 192.0.2.9");
        assert!(!to(&ways, "198.51.100.7").is_lost);
        run("bridge", "fdb add 02:00:00:00:00:02 dev tap2 master static");
        let way = to(&ways, "192.0.2.2");
        assert_eq!(way.interfaces, [index("tap2"), 200]);
        assert!(way.to_guest && way.bridged && way.namespace.is_none());
        let through = ways.through(index("tap2")).unwrap();
        assert_eq!(
            (through.interfaces, through.bridged),
            (way.interfaces, false)
        );
        // It moved.
        run(
            "bridge",
            "fdb replace 02:00:00:00:00:02 dev tap1 master static",
        );
        assert_eq!(to(&ways, "192.0.2.2").interfaces, [index("tap1"), 200]);
        // In one VLAN alone.
        run("bridge", "fdb del 02:00:00:00:00:02 dev tap1 master");
        if try_ip("link set br0 type bridge vlan_filtering 1") {
            run("bridge", "vlan add vid 7 dev tap2 pvid untagged");
            run(
                "bridge",
                "fdb add 02:00:00:00:00:02 dev tap2 master static vlan 7",
            );
            assert_eq!(to(&ways, "192.0.2.2").interfaces, [index("tap2"), 200]);
        }
    });
}

#[test]
fn a_neighbour_on_the_wire_is_no_guest() {
    in_own_netns(|ip| {
        let ways = Ways::open().unwrap();
        ip("link add eth0 index 300 type veth peer name wire");
        ip("link set eth0 up");
        ip("address add 192.0.2.1/24 dev eth0");
        let way = to(&ways, "192.0.2.2");
        assert_eq!(
            (way.interfaces.as_slice(), way.to_guest),
            (&[300][..], false)
        );
    });
}
