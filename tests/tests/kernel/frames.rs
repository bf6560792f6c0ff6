//! The packet layers' programs, as the kernel runs them, against the host's reading of the same
//! frames: what they let go is nobody's mail, and they drop and change nothing else.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Instant,
};

use limiter_common::{
    address::{self, Address},
    packet::{Kind, Packet},
};
use limiter_tests::{
    forge::{self, Rng},
    machine,
};
use limiter_user::kernel::{
    Wanted,
    attach::{Place, Side},
};

use crate::{
    foreign::{self, EGRESS, INGRESS, index, run},
    images::Draft,
    lab::in_lab,
};

/// Frames in all, a third of them at each Ethernet layer and the rest at those without.
const FRAMES: u64 = 1_000_000;
/// `TC_ACT_UNSPEC`.
const PASS: u32 = u32::MAX;
/// The smallest that the kernel runs a program on.
const LEAST: usize = 15;

/// What the host expects of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Guest,
    Uplink,
}

/// Whether the layer is to let a packet go: mail to elsewhere and what could be such is refused,
/// unless nothing is in it.
fn is_let_go(packet: &Packet) -> bool {
    let is_mail = packet.kind == Kind::Unresolved
        || packet.kind == Kind::Tcp && matches!(packet.destination_port, 25 | 465 | 587);
    if !is_mail || stays(&packet.destination) {
        return true;
    }
    if packet.kind == Kind::Unresolved || packet.truncated {
        return false;
    }
    packet.destination_port != 25 || (!packet.opens() && packet.payload_len == 0)
}

fn stays(address: &Address) -> bool {
    let is_nowhere = *address == [0; 16] || *address == address::from_v4([0; 4]);
    !is_nowhere && (address::is_loopback(address) || *address == address::from_v4([192, 0, 2, 1]))
}

fn expected(layer: Layer, ethernet: bool, bytes: &[u8]) -> (bool, Packet) {
    let len = u32::try_from(bytes.len()).unwrap();
    let mut packet = if ethernet {
        Packet::of_frame(bytes, len)
    } else {
        Packet::of_ip(bytes, len)
    };
    if layer == Layer::Guest && packet.kind == Kind::Other && stays(&packet.destination) {
        let inner = packet.inside(bytes, len);
        if matches!(inner.kind, Kind::Tcp | Kind::Unresolved | Kind::Rest) {
            packet = inner;
        }
    }
    (is_let_go(&packet), packet)
}

/// An interface without link-layer headers, as long as it is held.
fn tun(name: &str) -> File {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const IFF_TUN: u16 = 1;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&IFF_TUN.to_ne_bytes());
    // SAFETY: the request is as long as the kernel's `ifreq`.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    run(&format!("ip link set {name} up"));
    file
}

fn place(name: &str, ethernet: bool, side: Side) -> Place {
    Place {
        index: index(name),
        name: name.to_owned(),
        ethernet,
        side,
    }
}

/// Runs all programs on random frames, `count` in all.
fn compare(programs: &[(Layer, bool, OwnedFd)], count: u64) {
    let mut rng = Rng::new(forge::seed());
    println!("{count} runs, LIMITER_FUZZ_SEED={}", forge::seed());
    let start = Instant::now();
    let (mut runs, mut refused, mut unfit) = (0_u64, 0_u64, 0_u64);
    while runs < count {
        let mut frame = match runs % 16 {
            0 => forge::plain(&mut rng).0,
            1..=3 => {
                let all = forge::fragments(&mut rng);
                all[rng.below(all.len())].clone()
            }
            _ => forge::frame(&mut rng),
        };
        if runs % 8 > 1 {
            forge::mutate(&mut rng, &mut frame);
        }
        for (layer, ethernet, program) in programs {
            let bytes = if *ethernet {
                &frame[..]
            } else {
                frame.get(14..).unwrap_or(&[])
            };
            if !(LEAST..2048).contains(&bytes.len()) {
                continue;
            }
            let Some((verdict, same)) = foreign::run_on(program, bytes) else {
                unfit += 1;
                continue;
            };
            let (goes, packet) = expected(*layer, *ethernet, bytes);
            let text = || -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
            assert_eq!(
                verdict == PASS,
                goes,
                "{layer:?} ethernet {ethernet}: verdict {verdict}\n{packet:?}\n{}",
                text()
            );
            assert!(same || !goes, "{layer:?} changed {packet:?}\n{}", text());
            runs += 1;
            refused += u64::from(!goes);
        }
    }
    println!(
        "{runs} runs, {refused} refused, {unfit} no packets, in {:?}",
        start.elapsed()
    );
    assert!(refused > runs / 20 && refused < runs / 10 * 9);
    assert!(unfit < runs / 10);
}

#[test]
fn the_kernel_reads_as_the_host_does() {
    in_lab(|lab| {
        let mut draft = Draft::new();
        draft.0.own_addresses = vec!["192.0.2.1".parse().unwrap()];
        lab.apply(&draft.0);
        let (_tun, _tun_too) = (tun("t0"), tun("t1"));
        let wanted = Wanted {
            guests: vec![
                place("v1", true, Side::Ingress),
                place("t1", false, Side::Ingress),
            ],
            uplinks: vec![
                place("v0", true, Side::Egress),
                place("t0", false, Side::Egress),
            ],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert_eq!(outcome.problems, Vec::<String>::new());
        let programs = [
            (Layer::Guest, true, ("v1", INGRESS)),
            (Layer::Uplink, true, ("v0", EGRESS)),
            (Layer::Guest, false, ("t1", INGRESS)),
            (Layer::Uplink, false, ("t0", EGRESS)),
        ]
        .map(|(layer, ethernet, (name, hook))| {
            (layer, ethernet, foreign::program_at(index(name), hook))
        });
        let frames = if machine::is_emulated() {
            FRAMES / 50
        } else {
            FRAMES
        };
        compare(&programs, forge::count(frames));
        lab.assert_sound();
    });
}
