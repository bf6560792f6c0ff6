//! Running a row, and holding what happens against what the row says.

use std::{
    collections::HashMap,
    fmt::{self, Write},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use limiter_tests::{
    Agent, Attempt, Load, LoadSink, PacketAttempt, Seen, Traffic, WrittenChecksums,
    disguise::Disguise,
    guest::node_packets,
    machine, mx,
    orders::{How, Report},
    packets::{Ended, Link, PacketReport},
    wait,
};
use serde_json::Value;

use super::{
    rows::{Proof, Row, Sees, Stop, Way, Who},
    world::{Tracking, World},
};

/// How long whoever is stopped waits for an answer that does not come.
const STOPPED: Duration = Duration::from_millis(300);
/// How long whoever gets through may take, on a busy machine.
const THROUGH: Duration = Duration::from_secs(5);
/// How quickly a refusal has to come, on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);
/// A tenant's refusals of a kind are told once in this time.
const TOLD: Duration = Duration::from_millis(1_050);

/// How far apart two readings of the clock are at most: the node's clock is read when the event is.
const CLOCKS: Duration = Duration::from_millis(10);

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It gets through.
    Through,
    /// It is stopped because its tenant may not.
    Stopped(Stop),
    /// It is stopped because the tenant's limit is reached.
    Limited(Stop),
}

/// What happened.
struct Happened {
    ended: Ended,
    taken: Duration,
    /// Everything else that is known, for messages.
    details: String,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ended,
            taken,
            details,
        } = self;
        write!(f, "{ended:?} after {taken:?}: {details}")
    }
}

/// Runs the rows, each by the tenant of its kind that was idle for longest. All failures are told.
pub fn run(world: &World, agent: Option<&Agent>, rows: &[Row], expect: impl Fn(&Row) -> Expect) {
    let mut turns: HashMap<String, Instant> = HashMap::new();
    let mut failures = String::new();
    let only = std::env::var("LIMITER_TEST_ROW").unwrap_or_default();
    let rows = rows.iter().filter(|row| world.can_try(row));
    for row in rows.filter(|row| row.name().contains(&only)) {
        let idle = |number: &usize| turns.get(&world.tenant(row, *number)).copied();
        let number = (0..world.room(row))
            .min_by_key(|number| idle(number))
            .expect("somebody");
        let expect = expect(row);
        if agent.is_some()
            && expect != Expect::Through
            && let Some(before) = idle(&number)
        {
            thread::sleep(TOLD.saturating_sub(before.elapsed()));
        }
        let result = catch_unwind(AssertUnwindSafe(|| one(world, agent, row, number, expect)));
        turns.insert(world.tenant(row, number), Instant::now());
        if let Err(panic) = result {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let name = row.name();
            writeln!(failures, "{name}:\n    {}", text.unwrap_or("?")).expect("a string");
            if let Some(agent) = agent {
                let tenant = world.tenant(row, number);
                let (known, told) = (agent.tenant(&tenant), agent.events(&["--tenant", &tenant]));
                writeln!(failures, "    {known}\n    told: {}", told.len()).expect("a string");
            }
        }
    }
    assert!(failures.is_empty(), "rows that failed:\n{failures}");
}

/// Runs a row by one of the tenants of its kind.
pub fn one(world: &World, agent: Option<&Agent>, row: &Row, number: usize, expect: Expect) {
    let tenant = world.tenant(row, number);
    let since = Timestamp::now();
    let mark = world.capture.mark();
    let unreadable_before = world.capture.unreadable();
    let patience = machine::patience(match (expect, row.proof) {
        (Expect::Through, Proof::Session) => THROUGH,
        _ => STOPPED,
    });
    let marker = format!("row-{mark}-{tenant}.example");
    let (happened, name) = send(world, row, number, patience, &marker);
    let traffic = world.capture.since(mark);
    let unreadable = world.capture.unreadable() - unreadable_before;
    match expect {
        Expect::Through => got_through(row, &happened, &traffic, unreadable, &name),
        Expect::Stopped(stop) | Expect::Limited(stop) => {
            let limited = matches!(expect, Expect::Limited(_));
            was_stopped(stop, &happened, &traffic, unreadable, &name);
            if let Some(agent) = agent {
                told(agent, &tenant, since, world, row, number, stop, limited);
            }
        }
    }
}

fn got_through(row: &Row, happened: &Happened, traffic: &Traffic, unreadable: usize, name: &str) {
    match row.proof {
        Proof::Session => {
            assert_eq!(happened.ended, Ended::Served, "{happened}");
            // Fragments may cut the name in two.
            let whole = traffic.holds(name.as_bytes()) || traffic.later_fragments() > 0;
            assert!(whole, "served, and not seen outside: {happened}");
        }
        Proof::Packets => {
            // Of what is no packet at all no port and no flag can be told: only where it goes.
            let server = mx(row.v6).ip();
            let of_row = |seen: &&Seen| {
                seen.to.ip() == server && seen.protocol != ICMPV6 && seen.to.port() != 9
            };
            let arrived = traffic.frames().iter().filter(of_row).count();
            assert!(
                arrived + unreadable > 0,
                "nothing arrives outside: {happened}"
            );
        }
    }
}

fn was_stopped(stop: Stop, happened: &Happened, traffic: &Traffic, unreadable: usize, name: &str) {
    let arrived = traffic
        .clone()
        .only(|seen| seen.to.port() == 25 && !seen.reset);
    assert_eq!(
        (arrived.reached(25), traffic.bytes_to(25)),
        (0, 0),
        "it reaches the outside: {:?} {happened}",
        arrived.frames().first().map(|seen| (seen.from, seen.to)),
    );
    assert!(
        !traffic.holds(name.as_bytes()),
        "its words reach the outside: {happened}"
    );
    // What nobody can read may be anything, and nothing else here sends such frames.
    assert_eq!(
        unreadable, 0,
        "frames that are no IP reach the outside: {happened}"
    );
    let saw = match stop.sees {
        Sees::Eperm => happened.ended == Ended::NotPermitted,
        Sees::Refused => happened.ended == Ended::Refused,
        Sees::Nothing => happened.ended != Ended::Served,
    };
    assert!(
        saw,
        "the {} layer lets it see {happened}, not {:?}",
        stop.layer, stop.sees
    );
    if stop.sees != Sees::Nothing {
        assert!(
            happened.taken < machine::patience(AT_ONCE),
            "at once, and not: {happened}"
        );
    }
}

/// Waits for the event, and holds every field against what has to be known there. What sums up an
/// earlier row's packets may come only now, and has the time of that row.
#[expect(clippy::too_many_arguments, reason = "what an event is compared with")]
fn told(
    agent: &Agent,
    tenant: &str,
    since: Timestamp,
    world: &World,
    row: &Row,
    number: usize,
    stop: Stop,
    limited: bool,
) {
    let event = wait::until("the event", wait::SOON, || {
        let mut events = agent.events(&["--tenant", tenant]).into_iter();
        events.find(|event| {
            let time = event["time"].as_str().and_then(|time| time.parse().ok());
            // The last packet of the row before may come that close; a reset answers no such packet.
            let before = stop.sees != Sees::Nothing && event["reason"] == "unparsable";
            !before && time.is_some_and(|time: Timestamp| time >= since - CLOCKS)
        })
    });
    let is = |key: &str, value: Value| assert_eq!(event[key], value, "{key} in {event:#}");
    is("layer", stop.layer.into());
    is("verdict", "denied".into());
    match (limited, stop.sees) {
        (true, _) => is("reason", "limit".into()),
        // What cannot be read is refused as such.
        (false, Sees::Nothing) => {
            let reason = &event["reason"];
            // What is going to be written over is not known.
            let known = !matches!(row.way, Way::Offload(_));
            assert!(
                reason == "unparsable" || (known && reason == "direct_smtp"),
                "{event:#}"
            );
        }
        (false, _) => is("reason", "direct_smtp".into()),
    }
    let to = &event["destination"];
    if event["reason"] == "direct_smtp" {
        assert_eq!(to["port"], 25, "{event:#}");
        assert_eq!(to["address"], mx(row.v6).ip().to_string(), "{event:#}");
    }
    match row.who {
        Who::User => is("uid", World::uid(number).into()),
        Who::Shop => is("uid", SHOPS_UID.into()),
        // Whose sockets they are is known at the uplink, too, and not told by whom.
        Who::Macvlan => {}
        // As the node numbers them: a container's own numbers are nobody's.
        Who::Container | Who::Addressed | Who::Bridged => {
            assert_ne!(event["uid"], Value::from(0), "{event:#}");
        }
        Who::Machine | Who::BridgedMachine | Who::Macvtap => is("uid", Value::Null),
    }
    if ["guest", "uplink"].contains(&stop.layer) {
        is("pid", Value::Null);
        let interface = match row.who {
            Who::User | Who::Shop | Who::Macvlan | Who::Macvtap => "eth0",
            who => world.guest(who, number).interface(),
        };
        is("interface", interface.into());
    }
}

const ICMPV6: u8 = 58;

/// The uid of whoever is in a shop's cgroup: nobody claims it.
const SHOPS_UID: u32 = 54_321;

/// Makes the attempt. What happened, and the name that it used.
fn send(
    world: &World,
    row: &Row,
    number: usize,
    patience: Duration,
    marker: &str,
) -> (Happened, String) {
    let packets = |attempt: PacketAttempt, disguises: &[Disguise]| {
        let attempt = attempt.patience(patience);
        let attempt = disguises.iter().fold(attempt, |attempt, disguise| {
            attempt.disguised(disguise.clone())
        });
        let attempt = if disguises.is_empty() {
            attempt.message()
        } else {
            attempt
        };
        let report = attempt.make();
        (by_packets(&report), attempt.name().to_owned())
    };
    let made = || match row.who {
        Who::User => node_packets(world.node, row.v6).by(World::uid(number), None),
        Who::Shop => node_packets(world.node, row.v6).by(SHOPS_UID, Some(world.shop(number))),
        who => world.guest(who, number).packets(row.v6),
    };
    let device = || "eth0".to_owned();
    match &row.way {
        Way::Packets(disguises) => packets(made(), disguises),
        Way::Bypass => packets(
            made().link(Link::Packet {
                device: device(),
                bypass: true,
            }),
            &[],
        ),
        Way::Raw(disguises) => packets(made().link(Link::Raw { device: device() }), disguises),
        Way::Offload(offload) => {
            let _written = WrittenChecksums::on(world.node.inside(), "eth0");
            packets(made().offloading(*offload), &[])
        }
        Way::Forged => packets(made().forging(world.other(row.v6)), &[]),
        Way::Tunnel => {
            let guest = world.guest(row.who, number);
            let (IpAddr::V4(from), IpAddr::V4(to)) = (guest.forger(false), guest.gateway(false))
            else {
                unreachable!("IPv4 was asked for");
            };
            let tunnel = Disguise::Vxlan {
                from,
                to,
                inside: [2, 0, 0x5e, 0x10, 0, 0x42],
                network: 42,
            };
            packets(made(), &[tunnel])
        }
        Way::Socket(how) => by_kernel(world, row, number, *how, 25, false, patience, marker),
        Way::Mapped => by_kernel(world, row, number, How::Plain, 25, true, patience, marker),
        Way::Rewritten(port) => {
            let on_node = [Who::User, Who::Shop].contains(&row.who);
            let _tracking = (on_node && *port == 2526).then(|| Tracking::start(world.node));
            by_kernel(
                world,
                row,
                number,
                How::Plain,
                *port,
                false,
                patience,
                marker,
            )
        }
    }
}

/// What has nothing to do with mail passes, whoever sends it.
pub fn unrelated(world: &World) {
    let sink = LoadSink::listen(world.node.outside());
    for v6 in [false, true] {
        for (who, guest) in world.guests() {
            let mut web = mx(v6);
            web.set_port(80);
            let name = guest.interface();
            let patience = machine::patience(THROUGH);
            let report = guest.packets(v6).to(web).patience(patience).make();
            assert_eq!(report.ended, Ended::Served, "{name} to the web: {report:?}");
            if who.has_kernel() {
                let place = guest.root();
                let udp = Load::Udp { bytes: 100 };
                let time = Duration::from_millis(5);
                let rate = sink.measure(place.namespace(), mx(v6).ip(), udp, time);
                assert!(rate.arrived > 0, "{name} by UDP: {rate:?}");
            }
        }
    }
}

fn by_packets(report: &PacketReport) -> Happened {
    Happened {
        ended: report.ended,
        taken: report.taken(),
        details: format!("{report:?}"),
    }
}

#[expect(clippy::too_many_arguments, reason = "what a row says of an attempt")]
fn by_kernel(
    world: &World,
    row: &Row,
    number: usize,
    how: How,
    port: u16,
    mapped: bool,
    patience: Duration,
    marker: &str,
) -> (Happened, String) {
    let sender = match row.who {
        Who::User => world.node.sender(World::uid(number)),
        Who::Shop => {
            let place = world.node.user(SHOPS_UID).in_cgroup(world.shop(number));
            world.node.sender_at(place)
        }
        who => world.guest(who, number).sender(),
    };
    let mut to = mx(row.v6);
    to.set_port(port);
    let attempt: Attempt = sender.attempt(to).how(how).say(marker);
    let attempt = if mapped { attempt.mapped() } else { attempt };
    let report = attempt.start().go().finish_within(patience);
    let taken = report.as_ref().map_or(patience, |report| {
        Duration::from_nanos(report.slowest_failure_ns)
    });
    let ended = match &report {
        Some(Report { connected: 1, .. }) => Ended::Served,
        Some(report) => match report.errno() {
            Some(libc::EPERM) => Ended::NotPermitted,
            Some(libc::ECONNREFUSED) => Ended::Refused,
            Some(libc::ECONNRESET) => Ended::Reset,
            _ => Ended::Silence,
        },
        None => Ended::Silence,
    };
    let happened = Happened {
        ended,
        taken,
        details: format!("{report:?}"),
    };
    (happened, marker.to_owned())
}
