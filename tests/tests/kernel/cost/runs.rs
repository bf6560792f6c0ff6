//! The programs alone: `BPF_PROG_TEST_RUN`, by turns with an empty program of the same kind.
//!
//! What that can and cannot say: the kernel builds one packet and runs a program on it again and
//! again, so caches are warm, and most of what an empty program costs is the loop itself: look at
//! the difference. The packet has a socket of its family, with the packet's addresses and no
//! protocol, in no cgroup that anybody claims: the uplink and socket programs see what an ordinary
//! socket sends, and nothing that was forwarded. Its checksum is done, and it came in nowhere.
//! The edge's program is measured all the time, and attached only while something is blocked, null-routed or locked.
//! `connect` programs cannot be run like that at all. [`super::traffic`] has the rest.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
};

use ipnet::IpNet;
use limiter_common::{
    address,
    sanction::Sanction,
    settings::flags::{BLOCKED, SANCTIONS, SUSPENSIONS},
};
use limiter_tests::forge::{
    Rng,
    build::{IPV4, IPV6, Part, ethernet, ipv4, ipv6, tcp, udp},
};
use limiter_user::{
    kernel::{
        Wanted,
        attach::{Place, Side},
    },
    policy::{image::NODE_NAME, prefix_set::PrefixSet},
};

use super::figures::{median, shuffled};
use crate::{
    foreign::{self, CGROUP_SKB, CLASSIFIER, EGRESS, INGRESS, SOCKET, XDP, index, run_often},
    images::Draft,
    lab::{Lab, in_lab},
};

const XDP_PASS: i32 = 2;
/// Runs in a batch: a fraction of a millisecond.
const RUNS: u32 = 4_000;
/// Batches of each program on each packet; the median counts.
const BATCHES: usize = 61;
/// Bytes of payload.
const PAYLOAD: usize = 512;
/// How many prefixes are blocked.
const MILLION: usize = 1_000_000;
/// Far more than is ever paid for an unrelated packet while nobody is suspended, ns.
const MOST: f64 = 500.0;

/// A layer's program, and an empty one of the same kind.
struct Layer {
    name: &'static str,
    program: OwnedFd,
    empty: OwnedFd,
    passes: u32,
}

/// Packets that are nobody's business.
fn packets() -> [(&'static str, Vec<u8>); 5] {
    const ELSEWHERE: [u8; 4] = [203, 0, 113, 5];
    let data = [0x55; PAYLOAD];
    let mut segment = tcp(443, &data);
    // PSH, ACK.
    segment[13] = 0x18;
    let opening = tcp(443, &[]);
    let datagram = udp(443, &data);
    let four = |protocol, content: &[u8]| {
        let packet = ipv4(&[], protocol, ELSEWHERE, Part::default(), content);
        ethernet(&[], IPV4, &packet)
    };
    let six = |protocol, content: &[u8]| ethernet(&[], IPV6, &ipv6(protocol, content));
    [
        ("TCP 443, IPv4", four(6, &segment)),
        ("TCP 443, IPv6", six(6, &segment)),
        ("UDP 443, IPv4", four(17, &datagram)),
        ("UDP 443, IPv6", six(17, &datagram)),
        ("TCP 443 SYN, IPv4", four(6, &opening)),
    ]
}

fn layers(lab: &Lab) -> [Layer; 4] {
    let classifier = |name, interface, hook| Layer {
        name,
        program: foreign::program_at(index(interface), hook),
        empty: foreign::program(CLASSIFIER, -1),
        passes: u32::MAX,
    };
    [
        classifier("guest", "v1", INGRESS),
        classifier("uplink", "v0", EGRESS),
        Layer {
            name: "socket",
            program: foreign::cgroup_program(lab.cgroup(), SOCKET),
            empty: foreign::program_for(CGROUP_SKB, SOCKET, 1),
            passes: 1,
        },
        Layer {
            name: "edge, in",
            program: foreign::xdp_program("v0"),
            empty: foreign::program(XDP, XDP_PASS),
            passes: 2,
        },
    ]
}

/// Nanoseconds of an empty program, and of the layer's beyond it: for each layer, packet by packet.
fn measure(layers: &[Layer], rng: &mut Rng) -> Vec<Vec<(f64, f64)>> {
    // The kernel takes the link-layer header away for programs that do not see it.
    let frames: Vec<Vec<u8>> = packets().into_iter().map(|(_, frame)| frame).collect();
    let pairs = layers.len() * frames.len();
    let mut found = vec![(Vec::new(), Vec::new()); pairs];
    for _ in 0..BATCHES {
        for at in shuffled(rng, pairs) {
            let layer = &layers[at / frames.len()];
            let frame = &frames[at % frames.len()];
            let run = |program| {
                let (verdict, took) = run_often(program, frame, RUNS);
                assert_eq!(verdict, layer.passes, "{}", layer.name);
                took.as_secs_f64() * 1e9 / f64::from(RUNS)
            };
            let (empty, full) = if rng.once_in(2) {
                let empty = run(&layer.empty);
                (empty, run(&layer.program))
            } else {
                let full = run(&layer.program);
                (run(&layer.empty), full)
            };
            found[at].0.push(empty);
            found[at].1.push(full - empty);
        }
    }
    found
        .chunks(frames.len())
        .map(|row| {
            row.iter()
                .map(|(empty, more)| (median(empty), median(more)))
                .collect()
        })
        .collect()
}

fn place(name: &str, side: Side) -> Place {
    Place {
        index: index(name),
        name: name.to_owned(),
        ethernet: true,
        side,
    }
}

/// Addresses all over IPv4, none of them one that the packets here have.
fn scattered() -> PrefixSet {
    let host = |n: usize| {
        let bits = u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b1);
        let host = Ipv4Addr::from_bits(bits);
        (host.octets()[0] != 203).then(|| IpNet::from(IpAddr::V4(host)))
    };
    PrefixSet::merged((0..).filter_map(host).take(MILLION))
}

#[test]
fn programs_on_unrelated_packets() {
    in_lab(|lab| {
        let mut draft = Draft::new()
            .tenant("alice", NODE_NAME, &[])
            .uid(2001, "alice");
        lab.apply(&draft.0);
        let wanted = Wanted {
            socket: true,
            edge: true,
            guests: vec![place("v1", Side::Ingress)],
            uplinks: vec![place("v0", Side::Egress)],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert!(outcome.layers.iter().all(|one| one.attached), "{outcome:?}");
        let layers = layers(lab);
        // The kernel knows by heart where XDP programs are that are attached somewhere; else it
        // would learn the empty one anew for every batch.
        let _known = foreign::attach_xdp(&layers[3].empty, index("v1"));
        let mut rng = Rng::new(1);

        let mut states = vec![("nobody suspended", measure(&layers, &mut rng))];
        for (name, sanction, flags) in [
            ("mail suspended", Sanction::SuspendMail, SANCTIONS),
            (
                "network suspended",
                Sanction::SuspendNetwork,
                SANCTIONS | SUSPENSIONS,
            ),
        ] {
            let (mirror, kernel) = lab.both();
            mirror.sanction("alice", sanction, None, kernel).unwrap();
            assert_eq!(flags_of(lab) & (SANCTIONS | SUSPENSIONS), flags);
            states.push((name, measure(&layers, &mut rng)));
        }
        let (mirror, kernel) = lab.both();
        mirror.reinstate("alice", None, kernel).unwrap();
        lab.set_flags(SANCTIONS | SUSPENSIONS, 0);

        draft.0.blocked = scattered();
        lab.apply(&draft.0);
        assert_eq!(flags_of(lab) & (SANCTIONS | SUSPENSIONS | BLOCKED), BLOCKED);
        let entries = lab.loaded().maps.blocked.get(128, address::from_v4([0; 4]));
        assert!(entries.unwrap().is_some(), "the million is there");
        states.push(("a million blocked", measure(&layers, &mut rng)));

        print(&layers, &states);
        for (at, layer) in layers.iter().enumerate() {
            for (of, (packet, ..)) in packets().iter().enumerate() {
                let more = states[0].1[at][of].1;
                assert!(more < MOST, "{} on {packet}: {more} ns", layer.name);
            }
        }
        lab.assert_sound();
    });
}

fn flags_of(lab: &Lab) -> u32 {
    lab.loaded().maps.settings.get(0).unwrap().flags
}

type Figures<'a> = [(&'a str, Vec<Vec<(f64, f64)>>)];

/// Prints the README's table, from the cheapest packet to the dearest, and one with every packet.
fn print(layers: &[Layer], states: &Figures) {
    let mut heads = String::new();
    for (name, _) in states {
        heads += &format!(" {name} |");
    }
    heads += &format!("\n|---|---|{}", "---|".repeat(states.len()));
    let mut text = format!("\n| layer | empty program |{heads}");
    for (at, layer) in layers.iter().enumerate() {
        let empty = states[0].1[at].iter().map(|(empty, _)| *empty);
        text += &format!("\n| {} | {} ns |", layer.name, span(empty));
        for (_, figures) in states {
            let more = figures[at].iter().map(|(_, more)| *more);
            text += &format!(" +{} ns |", span(more));
        }
    }
    text += &format!("\n\n| packet, layer | empty program |{heads}");
    for (of, (packet, ..)) in packets().iter().enumerate() {
        for (at, layer) in layers.iter().enumerate() {
            let empty = states[0].1[at][of].0;
            text += &format!("\n| {packet}, {} | {empty:.0} ns |", layer.name);
            for (_, figures) in states {
                let (empty, more) = figures[at][of];
                text += &format!(" +{more:.0} ns ({:.2}) |", (empty + more) / empty);
            }
        }
    }
    let _ = writeln!(std::io::stdout(), "{text}\n");
}

/// The least and the most of several figures.
fn span(figures: impl Iterator<Item = f64>) -> String {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let [least, .., most] = &figures[..] else {
        return String::new();
    };
    let [least, most] = [least, most].map(|figure| format!("{figure:.0}"));
    if least == most {
        return least;
    }
    format!("{least}–{most}")
}
