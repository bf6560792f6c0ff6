//! Programs on interfaces: attached, found again by a later agent, mended, and gone without a
//! trace, beside programs of others.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use limiter_common::{flow::interface_flags, owner::Owner, verdict::Layer};
use limiter_user::kernel::{
    LayerState, Wanted,
    attach::{How, Place, Side, pinned_layers},
    pins::Pins,
    sync_interfaces,
};

use crate::{
    foreign::{self, EGRESS, INGRESS, index, run, tcx_links},
    lab::{Lab, in_lab},
};

fn place(name: &str, side: Side) -> Place {
    Place {
        index: index(name),
        name: name.to_owned(),
        ethernet: true,
        side,
    }
}

/// A guest at `v1` and an uplink at `v0`.
fn wanted() -> Wanted {
    Wanted {
        guests: vec![place("v1", Side::Ingress)],
        uplinks: vec![place("v0", Side::Egress)],
        ..Wanted::default()
    }
}

/// Attaches what is wanted, where nothing is wrong.
fn attach(lab: &mut Lab, wanted: &Wanted) -> Vec<LayerState> {
    let outcome = lab.kernel().reconcile(wanted);
    assert_eq!(outcome.repaired, Vec::<String>::new());
    assert_eq!(outcome.problems, Vec::<String>::new());
    for state in &outcome.layers {
        assert!(state.attached, "{state}: {:?}", state.problem);
    }
    outcome.layers
}

/// Looks after everything; what was mended, which is all there was to do.
fn mended(lab: &mut Lab, wanted: &Wanted) -> String {
    let outcome = lab.kernel().reconcile(wanted);
    assert_eq!(outcome.problems, Vec::<String>::new());
    for state in &outcome.layers {
        assert!(state.attached, "{state}: {:?}", state.problem);
    }
    assert!(!outcome.repaired.is_empty(), "it was not noticed");
    attach(lab, wanted);
    outcome.repaired.join("\n")
}

fn how(layers: &[LayerState], layer: Layer) -> Vec<(How, String)> {
    layers
        .iter()
        .filter(|state| state.layer == layer)
        .map(|state| (state.how, state.target.clone()))
        .collect()
}

fn filters(name: &str, side: &str) -> String {
    run(&format!("tc filter show dev {name} {side}"))
}

fn qdiscs(name: &str) -> String {
    run(&format!("tc qdisc show dev {name}"))
}

/// Runs `body` where classic filters are used although the kernel has TCX.
fn without_tcx(body: impl FnOnce()) {
    // SAFETY: one lab at a time, and nothing else in this test program reads the environment.
    unsafe { std::env::set_var("LIMITER_TEST_NO_TCX", "1") };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    // SAFETY: as above.
    unsafe { std::env::remove_var("LIMITER_TEST_NO_TCX") };
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn links_are_taken_over_and_leave_no_trace() {
    in_lab(|lab| {
        let mut wanted = wanted();
        wanted.socket = true;
        wanted.mailbox = true;
        let layers = attach(lab, &wanted);
        assert_eq!(how(&layers, Layer::Guest), [(How::Tcx, "v1".to_owned())]);
        assert_eq!(how(&layers, Layer::Uplink), [(How::Tcx, "v0".to_owned())]);
        let guest = tcx_links(index("v1"), INGRESS);
        let uplink = tcx_links(index("v0"), EGRESS);
        assert_eq!((guest.len(), uplink.len()), (1, 1));
        // Nothing changes by looking.
        assert_eq!(attach(lab, &wanted), layers);

        // The agent goes; a later one takes the very same links.
        lab.stop();
        assert_eq!(tcx_links(index("v1"), INGRESS), guest);
        let pins = Pins::new(lab.pin_dir());
        let told = pinned_layers(&pins);
        let mut names: Vec<String> = told.iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "limiter_connect4",
                "limiter_connect6",
                "limiter_guest at v1 (TCX)",
                "limiter_mailbox",
                "limiter_socket",
                "limiter_uplink at v0 (TCX)",
            ]
        );
        assert!(told.iter().all(|state| state.attached));
        lab.start();
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v1"), INGRESS), guest);
        assert_eq!(tcx_links(index("v0"), EGRESS), uplink);

        // What is not wanted any more goes.
        wanted.socket = false;
        wanted.guests.clear();
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v1"), INGRESS), [0_u32; 0]);
        assert!(!pins.link("limiter_socket").exists());
        assert!(pins.link("limiter_mailbox").exists());
        // Also when the one who attached it is gone.
        lab.stop();
        lab.start();
        wanted.mailbox = false;
        wanted.uplinks.clear();
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v0"), EGRESS), [0_u32; 0]);
        assert!(!pins.link("limiter_mailbox").exists());
        lab.assert_sound();
    });
}

#[test]
fn there_is_always_a_program_while_agents_come_and_go() {
    in_lab(|lab| {
        let wanted = wanted();
        attach(lab, &wanted);
        let (guest, uplink) = (index("v1"), index("v0"));
        let done = AtomicBool::new(false);
        let (looks, gaps) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            // A thread made here is in the same network namespace.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let there = [tcx_links(guest, INGRESS), tcx_links(uplink, EGRESS)];
                    looks.fetch_add(1, Ordering::Relaxed);
                    if there.iter().any(Vec::is_empty) {
                        gaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..3 {
                lab.stop();
                lab.start();
                attach(lab, &wanted);
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(gaps.load(Ordering::Relaxed), 0);
        assert!(looks.load(Ordering::Relaxed) > 1_000, "{looks:?}");
    });
}

#[test]
fn classic_filters_are_found_again_and_leave_no_trace() {
    in_lab(|lab| {
        without_tcx(|| {
            let wanted = wanted();
            let layers = attach(lab, &wanted);
            assert_eq!(how(&layers, Layer::Guest), [(How::Clsact, "v1".to_owned())]);
            assert_eq!(
                how(&layers, Layer::Uplink),
                [(How::Clsact, "v0".to_owned())]
            );
            let before = filters("v1", "ingress");
            assert_eq!(before.matches("handle ").count(), 1, "{before}");
            assert!(before.contains("limiter_guest"), "{before}");
            assert!(before.contains("direct-action"), "{before}");
            let handle = |text: &str| -> String {
                let (_, rest) = text.split_once("handle ").unwrap();
                rest.split_whitespace().next().unwrap().to_owned()
            };
            assert!(filters("v0", "egress").contains("limiter_uplink"));
            assert_eq!(attach(lab, &wanted), layers);

            lab.stop();
            lab.start();
            attach(lab, &wanted);
            let after = filters("v1", "ingress");
            assert_eq!(after.matches("handle ").count(), 1, "{after}");
            assert_eq!(handle(&after), handle(&before));
            assert_ne!(after, before, "the program is the new one");

            lab.stop();
            let pins = Pins::new(lab.pin_dir());
            let told = pinned_layers(&pins);
            assert_eq!(how(&told, Layer::Guest), [(How::Clsact, "v1".to_owned())]);
            lab.start();
            attach(lab, &Wanted::default());
            assert!(!qdiscs("v0").contains("clsact") && !qdiscs("v1").contains("clsact"));
        });
        // One that has TCX takes over from filters, and the other way round.
        let wanted = wanted();
        without_tcx(|| drop(attach(lab, &wanted)));
        lab.stop();
        lab.start();
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v1"), INGRESS).len(), 1);
        assert!(!qdiscs("v0").contains("clsact") && !qdiscs("v1").contains("clsact"));
        lab.stop();
        lab.start();
        without_tcx(|| drop(attach(lab, &wanted)));
        assert_eq!(tcx_links(index("v1"), INGRESS), [0_u32; 0]);
        assert!(filters("v1", "ingress").contains("limiter_guest"));
        attach(lab, &Wanted::default());
    });
}

#[test]
fn others_are_left_alone() {
    in_lab(|lab| {
        let pass = foreign::program(foreign::CLASSIFIER, -1);
        let before = foreign::attach_tcx(&pass, index("v1"), INGRESS);
        let theirs = tcx_links(index("v1"), INGRESS);
        let wanted = wanted();
        attach(lab, &wanted);
        let pass = foreign::program(foreign::CLASSIFIER, -1);
        let after = foreign::attach_tcx(&pass, index("v1"), INGRESS);
        let all = tcx_links(index("v1"), INGRESS);
        assert_eq!(all.len(), 3);
        assert_eq!(all[1], theirs[0], "ours comes before it");
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v1"), INGRESS), all);
        attach(lab, &Wanted::default());
        assert_eq!(tcx_links(index("v1"), INGRESS), all[1..]);
        drop((before, after));
        lab.stop();
        lab.start();

        without_tcx(|| {
            // Filters of theirs, before and after ours; the discipline is theirs too.
            run("tc qdisc add dev v1 clsact");
            run("tc filter add dev v1 ingress prio 7 u32 match u32 0 0");
            let theirs = filters("v1", "ingress");
            attach(lab, &wanted);
            let both = filters("v1", "ingress");
            let ours_at = both.find("limiter_guest").unwrap();
            assert!(ours_at < both.find("u32").unwrap(), "{both}");
            attach(lab, &Wanted::default());
            assert_eq!(filters("v1", "ingress"), theirs);
            // The first place is taken: ours comes next, and says so.
            run("tc filter add dev v1 ingress prio 1 protocol ip u32 match u32 0 0");
            let theirs = filters("v1", "ingress");
            let layers = attach(lab, &wanted);
            let guest = layers.iter().find(|state| state.layer == Layer::Guest);
            let problem = guest.unwrap().problem.clone().unwrap();
            assert!(problem.contains("comes first"), "{problem}");
            attach(lab, &Wanted::default());
            assert_eq!(filters("v1", "ingress"), theirs);
            assert!(!qdiscs("v0").contains("clsact"), "ours goes with us");
            // A discipline that was ours and is used by others stays.
            attach(lab, &wanted);
            run("tc filter add dev v0 egress prio 9 u32 match u32 0 0");
            attach(lab, &Wanted::default());
            assert!(filters("v0", "egress").contains("u32"));
        });
    });
}

#[test]
fn the_edge_is_in_the_driver_or_above_it_or_a_classifier() {
    in_lab(|lab| {
        let mut wanted = wanted();
        wanted.edge = true;
        run("ip link add d0 type bridge");
        wanted.uplinks.push(place("d0", Side::Egress));
        run("ip tuntap add tun9 mode tun");
        let mut bare = place("tun9", Side::Egress);
        bare.ethernet = false;
        wanted.uplinks.push(bare);
        let edge = |layers: &[LayerState]| {
            let mut all = how(layers, Layer::Mailbox);
            all.sort_by_key(|(_, name)| name.clone());
            all.into_iter().map(|(how, _)| how).collect::<Vec<_>>()
        };
        // A bridge has no XDP of its own, a tun device no Ethernet headers.
        let expected = [How::XdpGeneric, How::Tcx, How::XdpNative];
        assert_eq!(edge(&attach(lab, &wanted)), expected);
        assert!(run("ip link show v0").contains("xdp "));
        assert!(run("ip link show d0").contains("xdpgeneric"));
        lab.stop();
        assert!(run("ip link show v0").contains("xdp "), "pinned");
        lab.start();
        assert_eq!(edge(&attach(lab, &wanted)), expected);

        wanted.edge = false;
        attach(lab, &wanted);
        assert!(!run("ip link show v0").contains("xdp"));
        assert!(!run("ip link show d0").contains("xdp"));
        // Somebody else was there first.
        let theirs = foreign::attach_xdp(&foreign::program(foreign::XDP, 2), index("v0"));
        wanted.edge = true;
        let layers = attach(lab, &wanted);
        assert_eq!(edge(&layers), [How::XdpGeneric, How::Tcx, How::Tcx]);
        let state = layers
            .iter()
            .find(|state| state.layer == Layer::Mailbox && state.target == "v0");
        let problem = state.unwrap().problem.clone().unwrap();
        assert!(problem.contains("not by the driver"), "{problem}");
        drop(theirs);
        attach(lab, &Wanted::default());
    });
}

#[test]
fn what_somebody_takes_away_comes_back() {
    in_lab(|lab| {
        let wanted = Wanted {
            socket: true,
            ..wanted()
        };
        attach(lab, &wanted);
        let guest = index("v1");
        // By force.
        let link = tcx_links(guest, INGRESS)[0];
        foreign::detach(link);
        assert_eq!(tcx_links(guest, INGRESS), [0_u32; 0]);
        let said = mended(lab, &wanted);
        assert!(
            said.contains("limiter_guest") && said.contains("v1"),
            "{said}"
        );
        assert_eq!(tcx_links(guest, INGRESS).len(), 1);
        // Its pin: nothing stops for a moment.
        let link = tcx_links(guest, INGRESS);
        let pins = Pins::new(lab.pin_dir());
        let pin = pins.link(&format!("guest-{guest}"));
        fs::remove_file(&pin).unwrap();
        assert_eq!(tcx_links(guest, INGRESS), link);
        assert!(mended(lab, &wanted).contains("removed the pin"));
        assert!(pin.exists());
        // Something else in its place.
        fs::remove_file(&pin).unwrap();
        fs::rename(pins.link("limiter_socket"), &pin).unwrap();
        mended(lab, &wanted);
        lab.stop();
        assert_eq!(tcx_links(guest, INGRESS), link, "the right one is pinned");
        lab.start();
        attach(lab, &wanted);
        assert_eq!(tcx_links(guest, INGRESS), link);
        // All pins.
        fs::remove_dir_all(lab.pin_dir()).unwrap();
        assert_eq!(tcx_links(guest, INGRESS), link);
        let said = mended(lab, &wanted);
        assert!(
            said.contains("maps") && said.contains("limiter_connect4"),
            "{said}"
        );
        lab.stop();
        assert_eq!(tcx_links(guest, INGRESS), link, "pinned again");
        lab.start();
        assert!(lab.kernel().adopted);
        attach(lab, &wanted);
        // The directory under another name, and what is detached is detached there too.
        let moved = lab
            .pin_dir()
            .with_extension("")
            .with_file_name("limiter-ktest-moved");
        fs::rename(lab.pin_dir(), &moved).unwrap();
        mended(lab, &wanted);
        lab.stop();
        Pins::new(lab.pin_dir()).remove_all().unwrap();
        let left = tcx_links(guest, INGRESS);
        fs::remove_dir_all(&moved).unwrap();
        assert_eq!(left, [0_u32; 0], "also where it is pinned twice");
    });
}

#[test]
fn classic_filters_come_back_too() {
    in_lab(|lab| {
        without_tcx(|| {
            let wanted = wanted();
            attach(lab, &wanted);
            run("tc filter del dev v1 ingress");
            mended(lab, &wanted);
            assert!(filters("v1", "ingress").contains("limiter_guest"));
            run("tc qdisc del dev v1 clsact");
            run("tc qdisc del dev v0 clsact");
            let said = mended(lab, &wanted);
            assert!(said.contains("v1") && said.contains("v0"), "{said}");
            assert!(filters("v1", "ingress").contains("limiter_guest"));
            assert!(filters("v0", "egress").contains("limiter_uplink"));
            attach(lab, &Wanted::default());
            assert!(!qdiscs("v1").contains("clsact"));
        });
    });
}

#[test]
fn interfaces_that_go_are_forgotten() {
    in_lab(|lab| {
        run("ip link add g0 type veth peer name g1");
        let mut wanted = wanted();
        wanted.guests.push(place("g0", Side::Ingress));
        attach(lab, &wanted);
        let pin = Pins::new(lab.pin_dir()).link(&format!("guest-{}", index("g0")));
        assert!(pin.exists());
        run("ip link del g0");
        // Not told yet that it is gone: the others are looked after all the same.
        let layers = attach(lab, &wanted);
        assert_eq!(how(&layers, Layer::Guest), [(How::Tcx, "v1".to_owned())]);
        wanted.guests.pop();
        attach(lab, &wanted);
        assert!(!pin.exists());
        // Gone while nobody looked.
        run("ip link add g0 type veth peer name g1");
        wanted.guests.push(place("g0", Side::Ingress));
        let pin = Pins::new(lab.pin_dir()).link(&format!("guest-{}", index("g0")));
        attach(lab, &wanted);
        lab.stop();
        run("ip link del g0");
        wanted.guests.pop();
        lab.start();
        attach(lab, &wanted);
        assert!(!pin.exists());
    });
}

#[test]
fn a_layer_left_out_for_a_test_is_said_loudly() {
    in_lab(|lab| {
        attach(lab, &wanted());
        // SAFETY: one lab at a time, and nothing else in this test program reads the environment.
        unsafe { std::env::set_var("LIMITER_TEST_WITHOUT_LAYER", "guest, socket") };
        let outcome = lab.kernel().reconcile(&wanted());
        // SAFETY: as above.
        unsafe { std::env::remove_var("LIMITER_TEST_WITHOUT_LAYER") };
        let guest = outcome
            .layers
            .iter()
            .find(|state| state.layer == Layer::Guest)
            .unwrap();
        assert!(!guest.attached);
        let problem = guest.problem.clone().unwrap();
        assert!(problem.contains("LIMITER_TEST_WITHOUT_LAYER"), "{problem}");
        assert_eq!(tcx_links(index("v1"), INGRESS), [0_u32; 0]);
        assert_eq!(tcx_links(index("v0"), EGRESS).len(), 1);
        attach(lab, &wanted());
    });
}

#[test]
fn two_hundred_interfaces_are_looked_at_in_no_time() {
    in_lab(|lab| {
        for number in 0..100 {
            let peer = number + 100;
            run(&format!(
                "ip link add g{number} type veth peer name g{peer}"
            ));
        }
        let wanted = Wanted {
            guests: (0..200)
                .map(|number| place(&format!("g{number}"), Side::Ingress))
                .collect(),
            ..wanted()
        };
        let start = std::time::Instant::now();
        attach(lab, &wanted);
        let attached = start.elapsed();
        let start = std::time::Instant::now();
        attach(lab, &wanted);
        let looked = start.elapsed();
        println!("200 interfaces: attached in {attached:?}, looked at in {looked:?}");
        assert!(looked.as_millis() < 100, "{looked:?}");
        lab.stop();
        lab.start();
        without_tcx(|| {
            attach(lab, &wanted);
            let start = std::time::Instant::now();
            attach(lab, &wanted);
            let looked = start.elapsed();
            println!("classic filters: looked at in {looked:?}");
            assert!(looked.as_millis() < 200, "{looked:?}");
        });
        attach(lab, &Wanted::default());
    });
}

#[test]
fn an_unmounted_file_system_is_mounted_again() {
    in_lab(|lab| {
        let mount = Path::new("/tmp").join(format!("limiter-bpf-{}", std::process::id()));
        fs::create_dir(&mount).unwrap();
        // SAFETY: takes flags only, and changes this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        run("mount --make-rprivate /");
        run(&format!("mount -t bpf bpf {}", mount.display()));
        lab.stop();
        lab.move_pins(&mount.join("limiter"));
        lab.start();
        let wanted = wanted();
        attach(lab, &wanted);
        let link = tcx_links(index("v1"), INGRESS);
        run(&format!("umount -l {}", mount.display()));
        let said = mended(lab, &wanted);
        assert!(said.contains("unmounted"), "{said}");
        assert_eq!(tcx_links(index("v1"), INGRESS), link);
        lab.stop();
        lab.start();
        assert!(lab.kernel().adopted, "the maps are pinned again");
        attach(lab, &wanted);
        assert_eq!(tcx_links(index("v1"), INGRESS), link);
        // Somebody else's directory in the place of ours is refused; what holds goes on holding.
        fs::remove_dir_all(lab.pin_dir()).unwrap();
        fs::create_dir(lab.pin_dir()).unwrap();
        std::os::unix::fs::chown(lab.pin_dir(), Some(65534), Some(65534)).unwrap();
        let outcome = lab.kernel().reconcile(&wanted);
        assert!(
            outcome.problems[0].contains("65534"),
            "{:?}",
            outcome.problems
        );
        assert!(outcome.layers.iter().all(|state| state.attached));
        assert_eq!(tcx_links(index("v1"), INGRESS), link);
        lab.stop();
        run(&format!("umount -l {}", mount.display()));
        fs::remove_dir(&mount).unwrap();
    });
}

#[test]
fn the_map_of_interfaces_is_kept_in_step() {
    in_lab(|lab| {
        let owner = Owner::tenant(7);
        let mut sync = |owners: &[(u32, Owner)], judged: &[u32], covered: &[u32]| {
            let set = |of: &[u32]| of.iter().copied().collect();
            let maps = &mut lab.kernel().maps;
            sync_interfaces(maps, owners, &set(judged), &set(covered), &set(&[])).unwrap();
            let mut all: Vec<(u32, u32, u32)> = maps
                .interfaces
                .entries()
                .unwrap()
                .iter()
                .map(|(index, info)| (*index, info.owner, info.flags))
                .collect();
            all.sort_unstable();
            all
        };
        let mine = owner.to_wire();
        assert_eq!(
            sync(&[(4, owner)], &[4], &[2]),
            [
                (2, 0, interface_flags::COVERED),
                (4, mine, interface_flags::JUDGED)
            ]
        );
        assert_eq!(sync(&[(4, owner)], &[], &[]), [(4, mine, 0)]);
        assert_eq!(sync(&[], &[], &[]), []);
    });
}
