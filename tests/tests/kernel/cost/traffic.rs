//! Real packets over pairs of interfaces: what they cost without programs, with programs that do
//! nothing, and with limiter's, in short rounds by turns.
//!
//! One process sends as fast as it can, on one CPU, which does the whole way of a packet: from the
//! system call to the other side. Programs are attached and detached between measurements, and
//! everything else stays the same. Nobody is suspended; the sender is a tenant with a limit.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{
    Cgroup, LOAD_PORT, Load, LoadSink, Loader, Namespace, Place, forge::Rng, programs,
};
use tempfile::TempDir;

use super::{
    arms::Arm,
    figures::{median, shuffled},
};
use crate::foreign::run;

/// Measurements in a turn, of which the median counts.
const TIMES: usize = 3;
/// How long each takes.
const TIME: Duration = Duration::from_millis(2);
/// And before it, so that what was just attached is warm.
const WARM: Duration = Duration::from_micros(400);
/// What is sent.
pub const LOADS: [(Load, &str); 3] = [
    (Load::Udp { bytes: 64 }, "UDP packet, 64 bytes"),
    (Load::Connects, "TCP connection"),
    (Load::Tcp, "64 KiB of a TCP stream"),
];
/// Where packets end that nobody reads.
const UNREAD_PORT: u16 = 5202;
/// The tenant who sends.
pub const UID: u32 = 2001;

/// Its addresses outside, by family.
pub const OUTSIDE: [&str; 2] = ["203.0.113.2", "2001:db8:113::2"];

/// The networks around a node, whose own is the calling thread's.
pub struct World {
    pub outside: Namespace,
    sink: LoadSink,
    _unread: UdpSocket,
    pub cgroup: Cgroup,
    pub users: Place,
    pub guests: Place,
    /// `limiter-load`, where everybody can execute it.
    pub program: PathBuf,
    _directory: TempDir,
}

pub const UPLINK: &str = "up0";
pub const GUEST: &str = "guest0";

impl World {
    pub fn new() -> Self {
        let (outside, guest) = (Namespace::network(), Namespace::network());
        for (name, peer, of, four, six) in [
            (UPLINK, "out0", &outside, "203.0.113", "2001:db8:113:"),
            (GUEST, "eth0", &guest, "198.51.100", "2001:db8:198:"),
        ] {
            let path = of.net_path();
            let path = path.display();
            run(&format!(
                "ip link add {name} type veth peer name {peer} netns {path}"
            ));
            run(&format!("ip link set {name} up"));
            run(&format!("ip address add {four}.1/24 dev {name}"));
            run(&format!("ip address add {six}:1/64 dev {name} nodad"));
            of.enter(|| {
                for line in [
                    "link set lo up".to_owned(),
                    format!("link set {peer} up"),
                    format!("address add {four}.2/24 dev {peer}"),
                    format!("address add {six}:2/64 dev {peer} nodad"),
                    format!("route add default via {four}.1"),
                    format!("-6 route add default via {six}:1"),
                ] {
                    run(&format!("ip {line}"));
                }
            });
        }
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
        }
        let unread = outside.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, UNREAD_PORT)));
        let own = Namespace::from_network(File::open("/proc/thread-self/ns/net").unwrap().into());
        let cgroup = Cgroup::at_top();
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("limiter-load");
        run(&format!("chmod 755 {}", directory.path().display()));
        programs::copy_sender("limiter-load", &program);
        Self {
            sink: LoadSink::listen_beside_loaders(&outside),
            users: Place::new(&own, &cgroup).as_uid(UID),
            guests: Place::new(&guest, &cgroup).as_uid(UID),
            outside,
            _unread: unread.unwrap(),
            cgroup,
            program,
            _directory: directory,
        }
    }

    /// What came out of the uplink so far, in the unit of the load.
    fn arrived(&self, load: Load) -> u64 {
        match load {
            Load::Udp { .. } => self.outside.enter(|| {
                let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
                let line = table
                    .lines()
                    .find_map(|line| line.trim().strip_prefix("out0:"));
                let packets = line.unwrap().split_whitespace().nth(1);
                packets.unwrap().parse().unwrap()
            }),
            Load::Tcp => self.sink.bytes() / 65_536,
            Load::Connects => self.sink.connections(),
            Load::Mail | Load::Refusals { .. } => panic!("{load:?} does not come there"),
        }
    }
}

/// Lets the load be sent once: what a unit of it cost, ns of the CPU that did everything.
#[expect(clippy::cast_precision_loss, reason = "ratios need no more digits")]
fn send(world: &World, loader: &mut Loader, load: Load) -> f64 {
    let arrived = world.arrived(load);
    let (taken, warm) = match load {
        // Who takes a stream works for it as much as who sends it, also while it begins.
        Load::Tcp => (world.sink.cpu(), Duration::ZERO),
        _ => (Duration::ZERO, WARM),
    };
    let sent = loader.send(warm, TIME);
    let all = sent.count + sent.warm;
    // Nothing is lost.
    let limit = Instant::now() + Duration::from_secs(5);
    while world.arrived(load) - arrived < all {
        assert!(
            Instant::now() < limit,
            "{load:?}: {} of {all} arrived",
            world.arrived(load) - arrived
        );
        thread::sleep(Duration::from_micros(200));
    }
    let taken = match load {
        Load::Tcp => world.sink.cpu() - taken,
        _ => Duration::ZERO,
    };
    (sent.cpu + taken).as_secs_f64() * 1e9 / sent.count.max(1) as f64
}

/// Lets every arm have its turn in every one of so many rounds; the costs of each.
pub fn measure(
    world: &World,
    from: &Place,
    (v6, load): (bool, Load),
    arms: &[Arm],
    rounds: usize,
) -> Vec<Vec<f64>> {
    let to: IpAddr = OUTSIDE[usize::from(v6)].parse().unwrap();
    let port = if matches!(load, Load::Udp { .. }) {
        UNREAD_PORT
    } else {
        LOAD_PORT
    };
    let mut loader = Loader::start(from, &world.program, SocketAddr::new(to, port), load);
    let mut rng = Rng::new(7);
    let mut costs = vec![Vec::new(); arms.len()];
    for _ in 0..rounds {
        for at in shuffled(&mut rng, arms.len()) {
            let turn: Vec<f64> =
                arms[at].attached(|| (0..TIMES).map(|_| send(world, &mut loader, load)).collect());
            costs[at].push(median(&turn));
        }
    }
    costs
}
