//! Random frames, right and damaged, against a parser of somebody else's and a receiver that takes
//! everything.

use etherparse::{Ipv6ExtensionSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};
use limiter_common::packet::Kind;
use limiter_tests::forge::{self, Overlap, Receiver, Rng};

use crate::{GUARDED, inside, is_held, read};

/// A million in half a minute; code that is not optimised takes ten times as long.
const FRAMES: u64 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lines(frames: &[&[u8]]) -> String {
    let lines: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
    lines.join("\n")
}

fn start(name: &str) -> (Rng, u64) {
    let (seed, count) = (forge::seed(), forge::count(FRAMES));
    println!("{name}: {count} frames, LIMITER_FUZZ_SEED={seed}");
    (Rng::new(seed), count)
}

fn gets_mail(frames: &[&[u8]], overlap: Overlap, ends_tunnels: bool) -> bool {
    let ports = Receiver::ports_of(frames, overlap, ends_tunnels);
    GUARDED.iter().any(|port| ports.contains(port))
}

#[test]
fn no_frame_brings_mail_past_it() {
    let (mut rng, count) = start("single frames");
    let (mut held, mut mail, mut tunnelled) = (0_u64, 0_u64, 0_u64);
    for number in 0..count {
        let mut frame = forge::frame(&mut rng);
        if number % 8 != 0 {
            forge::mutate(&mut rng, &mut frame);
        }
        let packet = read(&frame);
        let all = [&frame[..]];
        held += u64::from(is_held(&packet));
        if gets_mail(&all, Overlap::Last, false) {
            mail += 1;
            assert!(is_held(&packet), "{packet:?}\n{}", hex(&frame));
        } else if gets_mail(&all, Overlap::Last, true) {
            tunnelled += 1;
            let inner = inside(&frame);
            let known = is_held(&inner) || is_held(&packet);
            assert!(known, "{packet:?}\n{inner:?}\n{}", hex(&frame));
        }
        let lax = LaxSlicedPacket::from_ethernet(&frame).ok();
        let strict = SlicedPacket::from_ethernet(&frame).ok();
        let seen = [
            lax.and_then(|packet| packet.transport),
            strict.and_then(|packet| packet.transport),
        ];
        for transport in seen.into_iter().flatten() {
            if let TransportSlice::Tcp(tcp) = transport {
                let same =
                    packet.kind == Kind::Tcp && packet.destination_port == tcp.destination_port();
                assert!(
                    same || packet.kind == Kind::Unresolved,
                    "{packet:?}\n{}",
                    hex(&frame)
                );
            }
        }
    }
    println!("{held} held, {mail} of them mail; {tunnelled} with mail in tunnels; 0 missed");
    let enough = count / 50;
    assert!(mail > enough && tunnelled > enough / 4, "too few try");
}

#[test]
fn no_fragments_bring_mail_past_it() {
    let (mut rng, count) = start("fragments");
    let (mut seen, mut mail, mut tunnelled) = (0, 0_u64, 0_u64);
    while seen < count {
        let mut frames = forge::fragments(&mut rng);
        seen += frames.len() as u64;
        if rng.once_in(3) {
            let at = rng.below(frames.len());
            forge::mutate(&mut rng, &mut frames[at]);
        }
        let all: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        mail += u64::from(gets_mail(&all, Overlap::Last, false));
        let passed: Vec<&[u8]> = all
            .iter()
            .copied()
            .filter(|frame| !is_held(&read(frame)))
            .collect();
        for order in orders(passed.len()) {
            let frames: Vec<&[u8]> = order.iter().map(|at| passed[*at]).collect();
            for overlap in [Overlap::First, Overlap::Last] {
                let missed = gets_mail(&frames, overlap, false);
                assert!(!missed, "{overlap:?}\n{}", lines(&frames));
            }
        }
        // The node itself ends the tunnels that are looked into: it is Linux, and takes no overlaps.
        tunnelled += u64::from(gets_mail(&all, Overlap::Refused, true));
        let passed: Vec<&[u8]> = passed
            .into_iter()
            .filter(|frame| !is_held(&inside(frame)))
            .collect();
        let missed = gets_mail(&passed, Overlap::Refused, true);
        assert!(!missed, "{}", lines(&passed));
    }
    println!("{mail} sets would bring mail, {tunnelled} with tunnels; 0 missed");
    assert!(mail > seen / 200 && tunnelled > seen / 200, "too few try");
}

#[test]
fn nothing_plain_is_held() {
    let (mut rng, count) = start("plain frames");
    for _ in 0..count {
        let (frame, port) = forge::plain(&mut rng);
        let packet = read(&frame);
        let context = || format!("{packet:?}\n{}", hex(&frame));
        match port {
            Some(port) => {
                assert_eq!(packet.kind, Kind::Tcp, "{}", context());
                assert_eq!(packet.destination_port, port, "{}", context());
                assert!(!packet.truncated, "{}", context());
            }
            None => assert!(
                matches!(packet.kind, Kind::Other | Kind::Foreign),
                "{}",
                context()
            ),
        }
    }
}

/// Whatever a strict parser reads as something else is something else.
#[test]
fn what_is_sound_is_read_soundly() {
    let (mut rng, count) = start("sound frames");
    let mut sound = 0_u64;
    for _ in 0..count {
        let mut frame = forge::frame(&mut rng);
        if rng.once_in(2) {
            forge::mutate(&mut rng, &mut frame);
        }
        let Ok(strict) = SlicedPacket::from_ethernet(&frame) else {
            continue;
        };
        if fragment_headers(&strict) > 1 {
            continue;
        }
        let packet = read(&frame);
        match strict.transport {
            Some(
                TransportSlice::Udp(_) | TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_),
            ) => {
                sound += 1;
                assert_eq!(packet.kind, Kind::Other, "{packet:?}\n{}", hex(&frame));
            }
            Some(TransportSlice::Tcp(tcp)) => {
                sound += 1;
                assert_eq!(packet.kind, Kind::Tcp, "{packet:?}\n{}", hex(&frame));
                assert_eq!(packet.destination_port, tcp.destination_port());
            }
            _ => {}
        }
    }
    println!("{sound} sound");
    assert!(sound > count / 20, "too few are sound");
}

/// How many fragment headers there are: behind a second one nothing is read, on purpose.
fn fragment_headers(packet: &SlicedPacket<'_>) -> usize {
    let Some(NetSlice::Ipv6(ip)) = &packet.net else {
        return 0;
    };
    let extensions = ip.extensions().clone().into_iter();
    extensions
        .filter(|part| matches!(part, Ipv6ExtensionSlice::Fragment(_)))
        .count()
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(count - 1) {
        for at in 0..=shorter.len() {
            let mut order = shorter.clone();
            order.insert(at, count - 1);
            all.push(order);
        }
    }
    all
}
