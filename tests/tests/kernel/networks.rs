//! Prefixes in the kernel: whose addresses are, what stays reachable, and what is blocked, also
//! while it changes.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use limiter_common::{
    address::{self, Address},
    blocked::{MAX_PREFIXES, bit_of},
    limit::Unit,
    owner::Owner,
    settings::flags,
    tenant,
    verdict::PortGroup,
    window::window_of,
};
use limiter_user::{
    kernel::{Changes, KernelError, maps::Maps, pins::Pins},
    policy::{
        image::{AddressBinding, ImageLimit, NODE_NAME},
        model::{Estimate, LoginLimit},
        prefix_set::PrefixSet,
    },
};

use crate::{
    images::{Draft, HOUR, window},
    lab::{NEEDS, in_lab},
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn wire(text: &str) -> Address {
    match text.parse().unwrap() {
        IpAddr::V4(v4) => address::from_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn binding(prefix: &str, tenant: usize) -> AddressBinding {
    AddressBinding {
        net: net(prefix),
        tenant,
        by: String::new(),
    }
}

fn two() -> Draft {
    Draft::new()
        .tenant("alice", NODE_NAME, &[])
        .tenant("bob", NODE_NAME, &[])
}

#[test]
fn the_narrowest_prefix_says_whose_an_address_is() {
    in_lab(|lab| {
        let mut draft = two();
        let (alice, bob) = (2, 3);
        draft.0.addresses = vec![
            binding("203.0.113.0/24", alice),
            binding("203.0.113.7/32", bob),
            binding("2001:db8:7::/64", bob),
            binding("198.51.100.9/32", alice),
        ];
        draft.0.own_addresses = ["203.0.113.1", "198.51.100.9", "192.0.2.1"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        draft.0.management = vec![net("192.0.2.0/24"), net("2001:db8:9::/48")];
        lab.apply(&draft.0);
        let owner = |maps: &Maps, text: &str| {
            let wire = maps.addresses.get(128, wire(text)).unwrap();
            wire.map_or(Owner::NOBODY, Owner::from_wire)
        };
        let (a, b) = (lab.index("alice"), lab.index("bob"));
        for (text, expected) in [
            ("203.0.113.9", Owner::tenant(a)),
            ("203.0.113.7", Owner::tenant(b)),
            ("203.0.114.7", Owner::NOBODY),
            ("2001:db8:7::1", Owner::tenant(b)),
            ("2001:db8:8::1", Owner::NOBODY),
            // The node's own: alice's only where she claims it alone.
            ("203.0.113.1", Owner::NOBODY),
            ("198.51.100.9", Owner::tenant(a)),
        ] {
            assert_eq!(owner(&lab.loaded().maps, text), expected, "{text}");
        }
        let managed =
            |maps: &Maps, text: &str| maps.management.get(128, wire(text)).unwrap().is_some();
        assert!(managed(&lab.loaded().maps, "192.0.2.200"));
        assert!(managed(&lab.loaded().maps, "2001:db8:9:1::1"));
        assert!(!managed(&lab.loaded().maps, "192.0.3.1"));

        // The next agent finds it all, and changes only what changed.
        lab.stop();
        lab.start();
        assert_eq!(lab.apply(&draft.0), Changes::default());
        draft.0.addresses.remove(1);
        draft.0.management.remove(0);
        assert_eq!(lab.apply(&draft.0).identities, 2);
        assert_eq!(owner(&lab.loaded().maps, "203.0.113.7"), Owner::tenant(a));
        assert!(!managed(&lab.loaded().maps, "192.0.2.200"));
    });
}

#[test]
fn more_prefixes_than_fit_change_nothing() {
    in_lab(|lab| {
        let few = two();
        lab.apply(&few.0);
        let refused = |lab: &mut crate::lab::Lab, draft: &Draft, expected: &str| {
            let error = lab.try_apply(&draft.0).unwrap_err();
            let KernelError::NoRoom { what, needed, room } = error else {
                panic!("{error}");
            };
            assert!(needed > room && what.starts_with(expected), "{what}");
        };
        let mut draft = two();
        let room = lab.loaded().maps.management.room();
        draft.0.management = hosts(0, room + 1).iter().collect();
        draft.0.enforce = false;
        refused(lab, &draft, "prefixes of `management`");
        let mut draft = two();
        draft.0.blocked = hosts(0, MAX_PREFIXES + 1);
        refused(lab, &draft, "blocked prefixes");
        assert_eq!(lab.apply(&few.0), Changes::default());
        assert!(lab.loaded().maps.management.entries().unwrap().is_empty());
        assert!(lab.loaded().maps.blocked.entries().unwrap().is_empty());
    });
}

#[test]
fn settings_say_what_the_policy_says_and_keep_what_others_set() {
    in_lab(|lab| {
        let others = flags::SANCTIONS | flags::SUSPENSIONS;
        lab.apply(&two().0);
        lab.set_flags(others | flags::NULL_ROUTES, others);
        let mut draft = two();
        draft.0.tenants[2].limits = vec![ImageLimit {
            unit: Unit::Recipients,
            groups: PortGroup::Submission.bit(),
            ..window(5, HOUR)
        }];
        draft = draft.tenant("child", "alice", &[]);
        draft.0.blocked = PrefixSet::merged([net("203.0.113.0/24")]);
        draft.0.mailbox = Some(LoginLimit {
            max: 30,
            window: Duration::from_secs(3_600),
            lock: Duration::from_secs(60),
        });
        lab.apply(&draft.0);
        let maps = &lab.loaded().maps;
        let settings = maps.settings.get(0).unwrap();
        let own = flags::ENFORCE
            | flags::RECORD_ALLOWED
            | flags::COUNTS_MAIL
            | flags::MAILBOX
            | flags::BLOCKED;
        assert_eq!(settings.flags, others | own);
        assert_eq!(settings.mailbox_max, 30);
        assert_eq!(window_of(settings.mailbox_width_ns), HOUR);
        assert_eq!(settings.mailbox_lock_ns, 60_000_000_000);
        let counts = |name: &str| {
            let tenant = maps.tenants.get(lab.index(name)).unwrap();
            tenant.flags & tenant::flags::COUNTS_MAIL != 0
        };
        assert!(counts("alice") && counts("child") && !counts("bob"));
        let before = settings.factors;
        draft.0.estimate = Estimate {
            reply_bytes_per_message: 512,
            ..Estimate::default()
        };
        lab.apply(&draft.0);
        assert_ne!(lab.loaded().maps.settings.get(0).unwrap().factors, before);
        lab.apply(&two().0);
        let settings = lab.loaded().maps.settings.get(0).unwrap();
        let policy = flags::COUNTS_MAIL | flags::MAILBOX | flags::BLOCKED;
        assert_eq!(settings.flags, (others | own) & !policy);
        assert_eq!(settings.factors, before);
        assert_eq!((settings.mailbox_max, settings.mailbox_lock_ns), (0, 0));
    });
}

/// Whether an address is blocked, asked as a program does: the filter, then the prefixes.
fn is_blocked(maps: &Maps, address: &Address) -> bool {
    let (bit, _) = bit_of(address);
    maps.blocked_filter.get(bit.word).unwrap() & bit.mask != 0
        && maps.blocked.get(128, *address).unwrap().is_some()
}

#[test]
fn what_is_blocked_before_and_after_is_blocked_all_the_while() {
    in_lab(|lab| {
        let shapes: Vec<PrefixSet> = [
            &["203.0.113.0/24", "2001:db8:7::/64"][..],
            &["203.0.0.0/16", "2001:db8::/20"],
            &["203.0.113.0/25", "203.0.113.128/25", "2001:db8:7::7/128"],
            &["128.0.0.0/1", "2000::/8"],
            &["203.0.113.7/32", "203.0.113.8/32", "2001:db8::/33"],
        ]
        .iter()
        .map(|texts| PrefixSet::merged(texts.iter().map(|text| net(text))))
        .collect();
        let with = |set: &PrefixSet, noise: usize| {
            let mut draft = two();
            // Others come and go around it.
            let noise: Vec<IpNet> = hosts(noise, 2_000).iter().collect();
            draft.0.blocked = PrefixSet::merged(set.iter().chain(noise));
            draft
        };
        lab.apply(&with(&shapes[0], 0).0);
        let pins = Pins::new(lab.pin_dir());
        let stop = AtomicBool::new(false);
        let asked = AtomicU64::new(0);
        let open = AtomicU64::new(0);
        let rounds = thread::scope(|scope| {
            for text in ["203.0.113.7", "2001:db8:7::7"] {
                let (pins, stop, asked, open) = (&pins, &stop, &asked, &open);
                scope.spawn(move || {
                    let maps = Maps::open(pins).unwrap();
                    let address = wire(text);
                    let short = limiter_common::blocked::SHORT_V6_WORD;
                    while !stop.load(Ordering::SeqCst) {
                        let flag = maps.settings.get(0).unwrap().flags & flags::BLOCKED != 0;
                        let (bit, v6) = bit_of(&address);
                        let passes = maps.blocked_filter.get(bit.word).unwrap() & bit.mask != 0
                            || (v6 && maps.blocked_filter.get(short).unwrap() != 0);
                        let entry = maps.blocked.get(128, address).unwrap().is_some();
                        asked.fetch_add(1, Ordering::SeqCst);
                        if !(flag && passes && entry) {
                            open.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            let start = Instant::now();
            let mut round = 0_usize;
            while start.elapsed() < Duration::from_secs(3) {
                round += 1;
                let set = &shapes[round * 3 % shapes.len()];
                lab.apply(&with(set, round * 1_000).0);
            }
            stop.store(true, Ordering::SeqCst);
            round
        });
        let (asked, open) = (asked.into_inner(), open.into_inner());
        assert!(
            rounds > 5 && asked > 1_000,
            "{rounds} reloads, asked {asked} times"
        );
        assert_eq!(open, 0, "of {asked} times in {rounds} reloads");
        // Nothing stays behind.
        lab.apply(&two().0);
        assert!(lab.loaded().maps.blocked.entries().unwrap().is_empty());
        let filter = lab.loaded().maps.blocked_filter.all().unwrap();
        assert!(filter.iter().all(|word| *word == 0));
    });
}

/// Different addresses, scattered all over.
fn hosts(first: usize, count: usize) -> PrefixSet {
    let host = |n: usize| {
        let bits = u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b1);
        IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(bits)))
    };
    PrefixSet::merged((first..first + count).map(host))
}

#[test]
fn a_million_prefixes() {
    const MILLION: usize = 1_000_000;
    in_lab(|lab| {
        let mut draft = two();
        draft.0.blocked = hosts(0, MILLION);
        let apply = |what: &str, draft: &Draft, lab: &mut crate::lab::Lab, expected: usize| {
            let start = Instant::now();
            assert_eq!(lab.apply(&draft.0).blocked, expected, "{what}");
            let _ = writeln!(std::io::stderr(), "{what}: {:?}", start.elapsed());
        };
        apply("1,000,000 written", &draft, lab, MILLION);
        let sample: Vec<Address> = draft
            .0
            .blocked
            .iter()
            .step_by(9_973)
            .map(|net| wire(&net.addr().to_string()))
            .collect();
        assert!(
            sample
                .iter()
                .all(|host| is_blocked(&lab.loaded().maps, host))
        );
        apply("nothing changed", &draft, lab, 0);
        // The same from files read again.
        draft.0.blocked = hosts(0, MILLION);
        apply("nothing changed, read again", &draft, lab, 0);
        draft.0.blocked = hosts(500, MILLION);
        apply("500 gone, 500 new", &draft, lab, 1_000);
        lab.stop();
        let start = Instant::now();
        lab.load(NEEDS).unwrap();
        let _ = writeln!(std::io::stderr(), "started again: {:?}", start.elapsed());
        apply("found by the next agent", &draft, lab, 0);
        // Old and new together are too many: what nobody wants goes first.
        draft.0.blocked = hosts(MILLION, MAX_PREFIXES - 1_000);
        apply(
            "others instead",
            &draft,
            lab,
            MILLION + MAX_PREFIXES - 1_000 - 1_000,
        );
        let found = lab.loaded().maps.blocked.entries().unwrap().len();
        assert_eq!(found, MAX_PREFIXES - 1_000);
        apply("all gone", &two(), lab, MAX_PREFIXES - 1_000);
        assert!(lab.loaded().maps.blocked.entries().unwrap().is_empty());
    });
}
