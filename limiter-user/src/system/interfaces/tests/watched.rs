//! What the watch tells, and how soon.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{world::wanted, *};
use crate::system::testing::in_own_netns;

/// How soon a change must be told.
const SOON: Duration = Duration::from_millis(100);
/// How long a busy machine may make the test itself wait for it.
const BUSY: Duration = Duration::from_secs(2);
/// How late the kernel tells of carriers: it gathers what changes within a second.
const CARRIERS: Duration = Duration::from_millis(1_100);
/// How long nothing must be told.
const A_WHILE: Duration = Duration::from_millis(60);

/// Runs `body` in a tokio runtime in a network namespace of its own.
fn watched(body: impl AsyncFnOnce(&dyn Fn(&str), Watch) + Send + 'static) {
    in_own_netns(|ip| {
        // No addresses that the kernel makes up, tries for a second and then reports.
        std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { body(ip, Watch::open().unwrap()).await });
    });
}

async fn told(watch: &mut Watch) -> Option<Duration> {
    told_within(BUSY, watch).await
}

async fn told_within(time: Duration, watch: &mut Watch) -> Option<Duration> {
    let started = Instant::now();
    tokio::time::timeout(time, watch.next())
        .await
        .ok()?
        .unwrap();
    Some(started.elapsed())
}

async fn quiet(watch: &mut Watch) {
    // The kernel has something to add for a while, such as carriers.
    let until = Instant::now() + Duration::from_secs(10);
    while tokio::time::timeout(A_WHILE, watch.next()).await.is_ok() {
        assert!(Instant::now() < until, "it never ends");
    }
}

#[test]
fn every_change_is_told_at_once() {
    watched(async |ip, mut watch| {
        quiet(&mut watch).await;
        let mut changes = vec![
            "link set lo up",
            "link add veth1 type veth peer name veth1p",
            "link set veth1 up",
            "link set veth1p up",
            "tuntap add tap1 mode tap",
            "link add br0 type bridge",
            "link set tap1 master br0",
            "link set tap1 nomaster",
            "link set tap1 name tap2",
            "addr add 192.0.2.1/24 dev veth1",
            "route add default via 192.0.2.2",
            "route del default",
            "-6 route add 2000::/3 dev veth1",
            "link add macvlan0 link veth1 type macvlan",
        ];
        for kind in ["vlan id 5", "bond", "dummy"] {
            let probe = format!("link add x0 link veth1 type {kind}");
            if Command::new("ip")
                .args(probe.split(' '))
                .output()
                .unwrap()
                .status
                .success()
            {
                changes.push("link del x0");
                assert!(told(&mut watch).await.is_some(), "{probe}");
                ip("link del x0");
                changes.pop();
            } else {
                eprintln!("not tested, this kernel cannot: ip {probe}");
            }
            quiet(&mut watch).await;
        }
        changes.push("link del veth1");
        let mut times = Vec::new();
        for change in changes {
            ip(change);
            let time = told(&mut watch).await;
            times.push(time.unwrap_or_else(|| panic!("{change} is not told")));
            quiet(&mut watch).await;
        }
        times.sort_unstable();
        assert!(times[times.len() / 2] < SOON, "{times:?}");
    });
}

#[test]
fn routes_to_a_part_of_the_world_are_not_told() {
    watched(async |ip, mut watch| {
        ip("link add veth1 type veth peer name veth1p");
        ip("link set veth1 up");
        ip("link set veth1p up");
        let mut told_of_parts = 0;
        for part in 1..=3 {
            tokio::time::sleep(CARRIERS).await;
            quiet(&mut watch).await;
            ip(&format!("route add 203.0.{part}.0/24 dev veth1"));
            ip(&format!("-6 route add 2001:db8:{part}::/48 dev veth1"));
            told_of_parts += u32::from(told_within(SOON, &mut watch).await.is_some());
        }
        // On a busy machine a carrier may come that late once; parts would be told each time.
        assert!(told_of_parts < 3, "{told_of_parts}");
        quiet(&mut watch).await;
        ip("route add 128.0.0.0/1 dev veth1");
        assert!(told(&mut watch).await.is_some());
    });
}

#[test]
fn an_interface_that_moves_away_is_told() {
    watched(async |ip, mut watch| {
        ip("link add veth1 type veth peer name veth1p");
        let mut other = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        quiet(&mut watch).await;
        ip(&format!("link set veth1p netns {}", other.id()));
        let moved = told(&mut watch).await;
        let seen = Interfaces::snapshot().unwrap().named("veth1").cloned();
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(moved.is_some());
        assert!(seen.unwrap().peer_elsewhere);
    });
}

#[test]
fn a_burst_is_told_while_it_lasts() {
    watched(async |_, mut watch| {
        let lines: String = (0..50)
            .map(|at| format!("link add veth{at} type veth peer name p{at}\n"))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        quiet(&mut watch).await;
        let mut batch = Command::new("ip")
            .arg("-batch")
            .arg(file.path())
            .spawn()
            .unwrap();
        let (mut reports, mut found) = (0, 0);
        let started = Instant::now();
        while found < 101 {
            watch.next().await.unwrap();
            reports += 1;
            found = Interfaces::snapshot().unwrap().links.len();
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{found} after {reports} reports"
            );
        }
        assert!(batch.wait().unwrap().success());
        assert!(reports < 50, "{reports} reports of 50 cables");
    });
}

#[test]
fn a_guest_that_is_plugged_in_is_known_at_once() {
    watched(async |ip, mut watch| {
        ip("link add br0 type bridge");
        quiet(&mut watch).await;
        let wanted = wanted(&[("alice", &["tap*"])]);
        let mut slowest = Duration::ZERO;
        for at in 0..50 {
            let name = format!("tap{at}");
            ip(&format!("tuntap add {name} mode tap"));
            let started = Instant::now();
            loop {
                watch.next().await.unwrap();
                let coverage = resolve(&Interfaces::snapshot().unwrap(), &wanted);
                if coverage.guests.iter().any(|guest| guest.name == name) {
                    break;
                }
            }
            slowest = slowest.max(started.elapsed());
        }
        eprintln!("the slowest of 50 was known after {slowest:?}");
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    });
}

#[test]
fn lost_messages_are_a_reason_to_look() {
    watched(async |ip, mut watch| {
        quiet(&mut watch).await;
        watch.shrink();
        // Nobody reads meanwhile.
        for at in 0..40 {
            ip(&format!("link add veth{at} type veth peer name p{at}"));
        }
        assert!(told(&mut watch).await.is_some());
        assert!(watch.lost() > 0, "the buffer was too small for all that");
        assert!(Interfaces::snapshot().unwrap().named("veth39").is_some());
        // It goes on after that.
        quiet(&mut watch).await;
        ip("link add br0 type bridge");
        assert!(told(&mut watch).await.is_some());
    });
}

#[test]
fn what_is_dropped_half_way_is_told_later() {
    watched(async |ip, mut watch| {
        for bridge in 0..5 {
            quiet(&mut watch).await;
            ip(&format!("link add br{bridge} type bridge"));
            // Polled once, so that the message is read, and dropped.
            let once = tokio::time::timeout(Duration::ZERO, watch.next()).await;
            if once.is_err() {
                assert!(told(&mut watch).await.is_some());
                return;
            }
            // On a busy machine it may have been read and told already.
        }
        panic!("it was always told at once");
    });
}
