//! Real packets over pairs of interfaces: what they cost without programs, with programs that do
//! nothing, and with limiter's, in short rounds by turns.
//!
//! One process sends as fast as it can, on one CPU, which does the whole way of a packet: from the
//! system call to the other side. Programs are attached and detached between measurements, and
//! everything else stays the same. Nobody is suspended; the sender is a tenant with a limit.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{
    Cgroup, LOAD_PORT, Load, LoadSink, Loader, Namespace, Place, forge::Rng, programs,
};
use limiter_user::policy::image::NODE_NAME;
use tempfile::TempDir;

use super::{
    arms::{Arm, Programs},
    figures::{Estimate, median, shuffled},
};
use crate::{
    foreign::run,
    images::{Draft, HOUR, window},
    lab::in_lab,
};

/// Rounds of measuring, in each of which every arm has its turn; `LIMITER_COST_ROUNDS` says
/// otherwise.
const ROUNDS: usize = 7;
/// Measurements in a turn, of which the median counts.
const TIMES: usize = 3;
/// How long each takes.
const TIME: Duration = Duration::from_millis(2);
/// And before it, so that what was just attached is warm.
const WARM: Duration = Duration::from_micros(400);
/// Far more than is ever paid: on a busy machine ratios are rough. The figures are printed.
const MOST: f64 = 1.5;
const LOADS: [(Load, &str); 3] = [
    (Load::Udp { bytes: 64 }, "UDP packet, 64 bytes"),
    (Load::Connects, "TCP connection"),
    (Load::Tcp, "64 KiB of a TCP stream"),
];
/// Where packets end that nobody reads.
const UNREAD_PORT: u16 = 5202;
/// The tenant who sends.
const UID: u32 = 2001;

/// The networks around a node, whose own is the calling thread's.
struct World {
    outside: Namespace,
    sink: LoadSink,
    _unread: UdpSocket,
    cgroup: Cgroup,
    users: Place,
    guests: Place,
    program: PathBuf,
    _directory: TempDir,
}

const UPLINK: &str = "up0";
const GUEST: &str = "guest0";

impl World {
    fn new() -> Self {
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
        Load::Udp { .. } | Load::Connects => (Duration::ZERO, WARM),
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
        Load::Udp { .. } | Load::Connects => Duration::ZERO,
    };
    (sent.cpu + taken).as_secs_f64() * 1e9 / sent.count.max(1) as f64
}

/// Lets every arm have its turn in every round; the costs of each.
fn measure(world: &World, from: &Place, v6: bool, load: Load, arms: &[Arm]) -> Vec<Vec<f64>> {
    let to: IpAddr = if v6 { "2001:db8:113::2" } else { "203.0.113.2" }
        .parse()
        .unwrap();
    let port = if matches!(load, Load::Udp { .. }) {
        UNREAD_PORT
    } else {
        LOAD_PORT
    };
    let mut loader = Loader::start(from, &world.program, SocketAddr::new(to, port), load);
    let mut rng = Rng::new(7);
    let mut costs = vec![Vec::new(); arms.len()];
    let rounds = env::var("LIMITER_COST_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    for _ in 0..rounds {
        for at in shuffled(&mut rng, arms.len()) {
            let turn: Vec<f64> =
                arms[at].attached(|| (0..TIMES).map(|_| send(world, &mut loader, load)).collect());
            costs[at].push(median(&turn));
        }
    }
    costs
}

/// Prints a row and looks at it.
fn report(text: &mut String, name: &str, arms: &[Arm], costs: &[Vec<f64>]) {
    *text += &format!("\n| {name} | {:.0} ns |", median(&costs[0]));
    for (arm, cost) in arms.iter().zip(costs).skip(1) {
        let pairs = cost.iter().zip(&costs[0]);
        let ratios: Vec<f64> = pairs.map(|(with, without)| with / without).collect();
        let ratio = Estimate::of(&ratios);
        *text += &format!(" {ratio} |");
        assert!(ratio.low < MOST, "{name}, {}: {ratio}", arm.name);
    }
}

fn heading(arms: &[Arm]) -> String {
    let mut text = String::from("\n| traffic |");
    for arm in arms {
        text += &format!(" {} |", arm.name);
    }
    text + "\n|---|" + &"---|".repeat(arms.len())
}

#[test]
fn unrelated_traffic_pays_next_to_nothing() {
    in_lab(|lab| {
        let draft = Draft::new()
            .tenant("alice", NODE_NAME, &[window(300, HOUR)])
            .uid(UID, "alice");
        lab.apply(&draft.0);
        let world = World::new();
        let programs = Programs::take(lab, world.cgroup.directory(), UPLINK, GUEST);
        for (who, place, arms) in [
            ("a user's", &world.users, programs.for_users()),
            ("a guest's", &world.guests, programs.for_guests()),
        ] {
            let mut text = heading(&arms);
            for (load, what) in LOADS {
                // How long a stream's pieces take does not hang on the family.
                for v6 in [false, true]
                    .into_iter()
                    .take(1 + usize::from(load != Load::Tcp))
                {
                    let family = if v6 { "IPv6" } else { "IPv4" };
                    let costs = measure(&world, place, v6, load, &arms);
                    report(&mut text, &format!("{who} {what}, {family}"), &arms, &costs);
                }
            }
            let _ = writeln!(std::io::stdout(), "{text}\n");
        }
    });
}
