//! Real interfaces, routes and next hops.

use std::{process::Command, thread, time::Duration};

use super::*;
use crate::system::testing::in_own_netns;

/// Runs `ip`, and says whether it worked: not every kernel has every kind of device.
pub(super) fn try_ip(arguments: &str) -> bool {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip (iproute2) can be run");
    if !output.status.success() {
        eprintln!("not tested, this kernel cannot: ip {arguments}");
    }
    output.status.success()
}

pub(super) fn seen(name: &str) -> Interface {
    let interfaces = Interfaces::snapshot().unwrap();
    interfaces
        .named(name)
        .unwrap_or_else(|| panic!("{name} in {interfaces:?}"))
        .clone()
}

/// The names of those that a route to the world goes through.
fn outward() -> Vec<String> {
    let interfaces = Interfaces::snapshot().unwrap();
    let outward = interfaces.outward.iter();
    outward
        .map(|index| interfaces.get(*index).unwrap().name.clone())
        .collect()
}

/// A process in a network namespace of its own, for interfaces to be moved to.
pub(super) struct Elsewhere(pub std::process::Child);

impl Elsewhere {
    pub fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .spawn()
            .unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        while std::fs::read_link(&path).is_ok_and(|other| other == own) {
            thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn loopback_is_all_that_a_new_namespace_has() {
    in_own_netns(|_| {
        let interfaces = Interfaces::snapshot().unwrap();
        let lo = interfaces.named("lo").unwrap();
        assert_eq!((lo.index, &lo.kind), (1, &Kind::Loopback));
        assert!(!lo.is_ethernet && !lo.up);
        assert_eq!(interfaces.outward, BTreeSet::new());
        let others = interfaces.links.values().filter(|link| link.index != 1);
        // The fallback devices of tunnels may be there, if the kernel has them built in.
        assert!(
            others.clone().all(|link| !link.up),
            "{others:?}",
            others = others.collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_cable_with_its_end_here_and_elsewhere() {
    in_own_netns(|ip| {
        ip("link add veth1 index 101 address 02:00:00:00:00:01 type veth peer name in1 index 102");
        ip("link set veth1 up");
        let veth = seen("veth1");
        assert_eq!(
            veth,
            Interface {
                index: 101,
                name: "veth1".to_owned(),
                kind: Kind::Veth,
                is_ethernet: true,
                master: None,
                lower: Some(102),
                peer_elsewhere: false,
                up: true,
                mac: Some([2, 0, 0, 0, 0, 1]),
            }
        );
        let elsewhere = Elsewhere::new();
        ip(&format!("link set in1 netns {}", elsewhere.0.id()));
        let veth = seen("veth1");
        assert!(veth.peer_elsewhere);
        assert_eq!(veth.lower, None, "the number means something else there");
        assert!(Interfaces::snapshot().unwrap().named("in1").is_none());
        // The whole interface moves away, and another comes by its name.
        ip(&format!("link set veth1 netns {}", elsewhere.0.id()));
        assert!(Interfaces::snapshot().unwrap().named("veth1").is_none());
        ip("link add veth1 index 201 type veth peer name in1");
        assert_eq!(seen("veth1").index, 201);
        ip("link set veth1 name veth2");
        assert_eq!(seen("veth2").index, 201);
    });
}

#[test]
fn taps_tuns_bridges_and_what_stands_on_others() {
    in_own_netns(|ip| {
        ip("tuntap add tap1 mode tap");
        ip("tuntap add tun1 mode tun");
        ip("link add br0 type bridge");
        ip("link set tap1 master br0");
        let (tap, tun, bridge) = (seen("tap1"), seen("tun1"), seen("br0"));
        assert_eq!((tap.kind, tap.is_ethernet), (Kind::Tun, true));
        assert_eq!((tun.kind, tun.is_ethernet), (Kind::Tun, false));
        assert_eq!(tap.master, Some(bridge.index));
        assert_eq!(bridge.kind, Kind::Bridge);
        ip("link set tap1 nomaster");
        assert_eq!(seen("tap1").master, None);

        ip("link add eth0 type veth peer name far");
        let eth = seen("eth0").index;
        for (arguments, kind) in [
            (
                "link add on0 link eth0 type macvtap mode bridge",
                Kind::Macvtap,
            ),
            (
                "link add on0 link eth0 type macvlan mode bridge",
                Kind::Macvlan,
            ),
            ("link add on0 link eth0 type ipvlan", Kind::Ipvlan),
            ("link add on0 link eth0 type vlan id 7", Kind::Vlan),
        ] {
            if !try_ip(arguments) {
                continue;
            }
            let on = seen("on0");
            assert_eq!((on.kind, on.lower), (kind, Some(eth)), "{arguments}");
            assert!(on.is_ethernet && !on.peer_elsewhere);
            ip("link del on0");
        }
        for (arguments, kind, is_ethernet) in [
            ("link add x0 type dummy", Kind::Dummy, true),
            ("link add x0 type bond", Kind::Bond, true),
            ("link add x0 type team", Kind::Team, true),
            ("link add x0 type vrf table 9", Kind::Vrf, true),
            ("link add x0 type netkit", Kind::Netkit, true),
            (
                "link add x0 type vxlan id 7 dstport 4789",
                Kind::Tunnel("vxlan".into()),
                true,
            ),
            (
                "link add x0 type wireguard",
                Kind::Tunnel("wireguard".into()),
                false,
            ),
            (
                "link add x0 type gre remote 192.0.2.1",
                Kind::Tunnel("gre".into()),
                false,
            ),
            (
                "link add x0 type ipip remote 192.0.2.1",
                Kind::Tunnel("ipip".into()),
                false,
            ),
            (
                "link add x0 type sit remote 192.0.2.1",
                Kind::Tunnel("sit".into()),
                false,
            ),
            ("link add x0 type ifb", Kind::Other("ifb".into()), true),
        ] {
            if !try_ip(arguments) {
                continue;
            }
            let x = seen("x0");
            assert_eq!((x.kind, x.is_ethernet), (kind, is_ethernet), "{arguments}");
            ip("link del x0");
        }
    });
}

#[test]
fn routes_to_the_world() {
    in_own_netns(|ip| {
        ip("link set lo up");
        for name in ["up1", "up2"] {
            ip(&format!("link add {name} type veth peer name {name}p"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {name}p up"));
        }
        ip("addr add 192.0.2.1/24 dev up1");
        ip("addr add 198.51.100.1/24 dev up2");
        ip("addr add 2001:db8:1::1/64 dev up1 nodad");
        ip("addr add 2001:db8:2::1/64 dev up2 nodad");
        assert_eq!(outward(), [""; 0]);
        for (route, found) in [
            ("default via 192.0.2.2", vec!["up1"]),
            ("default via 198.51.100.2 table 77", vec!["up2"]),
            ("128.0.0.0/1 dev up2", vec!["up2"]),
            ("0.0.0.0/1 dev up1", vec!["up1"]),
            ("10.0.0.0/8 dev up1", vec![]),
            ("224.0.0.0/4 dev up1", vec![]),
            ("blackhole default", vec![]),
            (
                "default nexthop via 192.0.2.2 nexthop via 198.51.100.2 weight 5",
                vec!["up1", "up2"],
            ),
        ] {
            ip(&format!("route add {route}"));
            assert_eq!(outward(), found, "{route}");
            ip(&format!("route del {route}"));
            assert_eq!(outward(), [""; 0], "after {route}");
        }
        for (route, found) in [
            ("default via 2001:db8:1::2", vec!["up1"]),
            ("2000::/3 dev up2 table 78", vec!["up2"]),
            ("fc00::/7 dev up2", vec![]),
            (
                "default nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2",
                vec!["up1", "up2"],
            ),
        ] {
            ip(&format!("-6 route add {route}"));
            assert_eq!(outward(), found, "{route}");
            ip(&format!("-6 route del {route}"));
            assert_eq!(outward(), [""; 0], "after {route}");
        }
        // What the kernel has about single destinations is no route to the world.
        ip("route add default via 192.0.2.2 dev up1");
        ip("-6 route add default via 2001:db8:2::2 dev up2");
        assert_eq!(outward(), ["up1", "up2"]);
    });
}

#[test]
fn next_hops_that_are_objects() {
    in_own_netns(|ip| {
        for name in ["up1", "up2"] {
            ip(&format!("link add {name} type veth peer name {name}p"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {name}p up"));
        }
        ip("addr add 192.0.2.1/24 dev up1");
        ip("addr add 198.51.100.1/24 dev up2");
        if !try_ip("nexthop add id 5 via 192.0.2.2 dev up1") {
            return;
        }
        ip("nexthop add id 6 via 198.51.100.2 dev up2");
        ip("nexthop add id 7 group 5/6");
        // With and without the older form beside the number.
        for compatible in ["1", "0"] {
            // This namespace's: the kernel goes by the thread that opens it.
            std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", compatible).unwrap();
            ip("route add default nhid 6");
            assert_eq!(outward(), ["up2"]);
            ip("route replace default nhid 7");
            assert_eq!(outward(), ["up1", "up2"]);
            ip("route del default");
        }
    });
}

#[test]
fn ten_thousand_interfaces() {
    in_own_netns(|_| {
        // One batch: ten thousand processes would take longer than what is tested.
        let lines: String = (0..5_000)
            .map(|at| format!("link add veth{at} type veth peer name p{at}\n"))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        let made = std::time::Instant::now();
        let status = Command::new("ip")
            .arg("-batch")
            .arg(file.path())
            .status()
            .unwrap();
        assert!(status.success());
        eprintln!("made in {:?}", made.elapsed());
        let started = std::time::Instant::now();
        let interfaces = Interfaces::snapshot().unwrap();
        let took = started.elapsed();
        assert!(
            interfaces.links.len() > 10_000,
            "{}",
            interfaces.links.len()
        );
        let names: BTreeSet<&str> = interfaces.links.values().map(|link| &*link.name).collect();
        assert!((0..5_000).all(|at| names.contains(&*format!("p{at}"))));
        eprintln!("{} interfaces listed in {took:?}", interfaces.links.len());
        assert!(took < Duration::from_secs(1), "{took:?}");
        // And it is right while they come and go.
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let churn = thread::spawn({
            let stop = std::sync::Arc::clone(&stop);
            move || {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = Command::new("ip")
                        .args(["link", "add", "br9", "type", "bridge"])
                        .status();
                    let _ = Command::new("ip").args(["link", "del", "br9"]).status();
                }
            }
        });
        for _ in 0..3 {
            let links = Interfaces::snapshot().unwrap().links;
            assert!(
                links.len() == interfaces.links.len() || links.len() == interfaces.links.len() + 1
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        churn.join().unwrap();
    });
}
