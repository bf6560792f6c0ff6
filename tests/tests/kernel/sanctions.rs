//! Sanctions: inherited, ending on time with nobody there, touching nobody else, and whole again
//! after an agent was killed half-way.

use std::{thread, time::Duration};

use limiter_common::{
    owner::Owner,
    sanction::{self, Sanction, Sanctions, WITHOUT_END},
    settings::flags,
};
use limiter_user::{
    kernel::{
        LayerNeeds, SanctionError, Wanted,
        attach::{Place, Side},
        clock,
        interfaces::sync_interfaces,
        maps::name_key,
    },
    policy::image::{DEFAULT_NAME, NODE_NAME},
};

use crate::{
    foreign::{INGRESS, index, program_at, run_on},
    images::Draft,
    lab::{Lab, in_lab},
    senders::Senders,
};

/// A reseller with two customers, one of whom has a domain, and a neighbour.
fn draft() -> Draft {
    Draft::new()
        .tenant("reseller", NODE_NAME, &[])
        .tenant("alice", "reseller", &[])
        .tenant("domain", "alice", &[])
        .tenant("bob", "reseller", &[])
        .tenant("neighbour", NODE_NAME, &[])
        .uid(2001, "alice")
        .uid(2002, "bob")
        .uid(2003, "neighbour")
        .uid(2004, "domain")
}

/// Whether the users of these uids get out to port 25.
fn gets_out(lab: &Lab, uid: u32) -> bool {
    let mut senders = Senders::fork(lab.cgroup(), &[uid], 3);
    senders.start();
    match senders.finish() {
        (3, 0) => true,
        (0, 3) => false,
        mixed => panic!("{mixed:?}"),
    }
}

fn in_force(lab: &Lab, name: &str) -> Sanctions {
    let index = lab.index(name);
    lab.loaded().maps.tenants.get(index).unwrap().sanctions
}

fn strongest(lab: &Lab, name: &str) -> Option<Sanction> {
    in_force(lab, name).strongest(now_s())
}

fn now_s() -> u32 {
    sanction::seconds(clock::monotonic_ns())
}

fn told(lab: &Lab) -> u32 {
    lab.loaded().maps.settings.get(0).unwrap().flags
        & (flags::SANCTIONS | flags::SUSPENSIONS | flags::NULL_ROUTES)
}

fn put(lab: &mut Lab, name: &str, sanction: Sanction, seconds: Option<u64>) {
    let (mirror, kernel) = lab.both();
    let length = seconds.map(Duration::from_secs);
    mirror.sanction(name, sanction, length, kernel).unwrap();
}

fn lift(lab: &mut Lab, name: &str) -> Vec<Sanction> {
    let (mirror, kernel) = lab.both();
    mirror.reinstate(name, None, kernel).unwrap().lifted
}

fn tidy(lab: &mut Lab) -> Vec<String> {
    let (mirror, kernel) = lab.both();
    let ended = mirror.tidy_sanctions(clock::monotonic_ns(), kernel);
    let ended = ended.unwrap().into_iter();
    ended
        .map(|it| format!("{} {}", it.tenant, it.sanction.as_str()))
        .collect()
}

#[test]
fn a_sanction_holds_below_and_nowhere_else() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        assert_eq!(told(lab), 0);
        put(lab, "reseller", Sanction::BlockSmtp, None);
        put(lab, "alice", Sanction::SuspendNetwork, Some(3_600));
        for (uid, out) in [(2001, false), (2002, false), (2004, false), (2003, true)] {
            assert_eq!(gets_out(lab, uid), out, "uid {uid}");
        }
        assert_eq!(strongest(lab, "domain"), Some(Sanction::SuspendNetwork));
        assert_eq!(strongest(lab, "bob"), Some(Sanction::BlockSmtp));
        assert_eq!(in_force(lab, "neighbour"), Sanctions::NONE);
        assert_eq!(in_force(lab, DEFAULT_NAME), Sanctions::NONE);
        assert_eq!(told(lab), flags::SANCTIONS | flags::SUSPENSIONS);

        let domain = lab.index("domain");
        let named = lab.loaded().maps.sanctions_in_force(domain, now_s());
        let named: Vec<_> = named
            .unwrap()
            .into_iter()
            .map(|it| (it.sanction, it.owner, it.until_s == WITHOUT_END))
            .collect();
        let (alice, reseller) = (lab.index("alice"), lab.index("reseller"));
        assert_eq!(
            named,
            [
                (Sanction::SuspendNetwork, alice, false),
                (Sanction::BlockSmtp, reseller, true)
            ]
        );

        // A reload changes nothing about it.
        let changes = lab.apply(&draft().0);
        assert!(!changes.any(), "{changes}");
        assert!(!gets_out(lab, 2002));
        lab.assert_sound();
    });
}

#[test]
fn who_is_new_inherits_and_who_leaves_does_not_keep_it() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        put(lab, "alice", Sanction::SuspendMail, None);
        let changed = Draft::new()
            .tenant("reseller", NODE_NAME, &[])
            .tenant("alice", "reseller", &[])
            .tenant("new", "alice", &[])
            .tenant("neighbour", NODE_NAME, &[])
            .tenant("domain", "neighbour", &[])
            .tenant("bob", "alice", &[])
            .uid(2001, "alice")
            .uid(2002, "bob")
            .uid(2004, "domain")
            .uid(2005, "new");
        lab.apply(&changed.0);
        assert_eq!(strongest(lab, "new"), Some(Sanction::SuspendMail));
        assert_eq!(strongest(lab, "bob"), Some(Sanction::SuspendMail));
        assert_eq!(in_force(lab, "domain"), Sanctions::NONE);
        assert!(!gets_out(lab, 2005) && !gets_out(lab, 2002));
        assert!(gets_out(lab, 2004));
        assert_eq!(lift(lab, "new"), [], "it has none of its own");
        assert!(!gets_out(lab, 2005));
        assert_eq!(lift(lab, "alice"), [Sanction::SuspendMail]);
        for uid in [2001, 2002, 2004, 2005] {
            assert!(gets_out(lab, uid), "uid {uid}");
        }
        assert_eq!(told(lab), flags::SANCTIONS, "cleared later");
        assert!(tidy(lab).is_empty());
        assert_eq!(told(lab), 0);
    });
}

#[test]
fn a_sanction_ends_on_time_with_nobody_there() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        put(lab, "alice", Sanction::BlockSmtp, Some(2));
        let until_s = in_force(lab, "alice").until_s[0];
        put(lab, "bob", Sanction::NullRoute, None);
        // The agent goes.
        lab.stop();
        assert!(!gets_out(lab, 2001));
        assert!(gets_out(lab, 2003));
        assert!(now_s() < until_s, "this machine is too slow");
        while clock::monotonic_ns() < u64::from(until_s) * 1_000_000_000 + 10_000_000 {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(gets_out(lab, 2001));
        assert!(!gets_out(lab, 2002), "another's goes on");

        lab.start();
        lab.apply(&draft().0);
        assert!(!gets_out(lab, 2002));
        assert_eq!(tidy(lab), ["alice block_smtp"]);
        assert!(tidy(lab).is_empty(), "told once");
        assert_eq!(
            told(lab),
            flags::SANCTIONS | flags::SUSPENSIONS | flags::NULL_ROUTES
        );
        let (mirror, _) = lab.both();
        let all = LayerNeeds {
            socket: true,
            edge: true,
            sanctions: true,
        };
        assert_eq!(mirror.layer_needs(None), all);
        lift(lab, "bob");
        tidy(lab);
        assert_eq!(told(lab), 0);
        let (mirror, _) = lab.both();
        assert_eq!(mirror.layer_needs(None), LayerNeeds::default());
        assert!(mirror.layer_needs(Some(Sanction::BlockSmtp)).socket);
        assert!(!mirror.layer_needs(Some(Sanction::BlockSmtp)).edge);
        lab.assert_sound();
    });
}

#[test]
fn each_sanction_keeps_its_own_end() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        put(lab, "alice", Sanction::SuspendNetwork, Some(1));
        put(lab, "alice", Sanction::BlockSmtp, Some(3_600));
        let until_s = in_force(lab, "alice").until_s[2];
        while now_s() < until_s {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(strongest(lab, "alice"), Some(Sanction::BlockSmtp));
        assert_eq!(tidy(lab), ["alice suspend_network"]);
        assert_eq!(told(lab), flags::SANCTIONS);
        assert!(!gets_out(lab, 2001));
        // The last word counts, also where it is shorter.
        put(lab, "alice", Sanction::BlockSmtp, None);
        assert_eq!(in_force(lab, "alice").until_s[0], WITHOUT_END);
        put(lab, "alice", Sanction::BlockSmtp, Some(60));
        assert!(in_force(lab, "alice").until_s[0] <= now_s() + 61);
    });
}

#[test]
fn killed_between_steps_the_next_start_makes_it_right() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let own = Sanctions {
            until_s: [0, 0, WITHOUT_END, 0],
        };
        // Killed after the own sanction was written, and before it was in force.
        let alice = lab.index("alice");
        lab.kernel().maps.sanctions.set(alice, own).unwrap();
        lab.stop();
        lab.start();
        lab.apply(&draft().0);
        assert!(!gets_out(lab, 2001) && !gets_out(lab, 2004));
        assert!(gets_out(lab, 2002));
        assert_eq!(told(lab), flags::SANCTIONS | flags::SUSPENSIONS);

        // Killed after it was taken back, and before that was in force.
        lab.kernel()
            .maps
            .sanctions
            .set(alice, Sanctions::NONE)
            .unwrap();
        lab.stop();
        assert!(!gets_out(lab, 2001), "until the next start");
        lab.start();
        lab.apply(&draft().0);
        assert!(gets_out(lab, 2001) && gets_out(lab, 2004));
        tidy(lab);
        assert_eq!(told(lab), 0);

        // Killed while a sanctioned tenant was removed: whoever gets its index has nothing of it.
        put(lab, "alice", Sanction::SuspendNetwork, None);
        let names = &mut lab.kernel().maps.names;
        names.remove(&name_key("alice")).unwrap();
        lab.stop();
        lab.start();
        let replaced = Draft::new()
            .tenant("reseller", NODE_NAME, &[])
            .tenant("carol", "reseller", &[])
            .uid(2001, "carol");
        lab.apply(&replaced.0);
        assert_eq!(lab.index("carol"), alice, "the same index");
        assert_eq!(in_force(lab, "carol"), Sanctions::NONE);
        assert!(gets_out(lab, 2001));
        lab.stop();
        lab.start();
        lab.apply(&replaced.0);
        assert!(gets_out(lab, 2001), "nor after the next start");
        lab.assert_sound();
    });
}

#[test]
fn a_removed_tenant_leaves_nothing_behind() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        put(lab, "neighbour", Sanction::SuspendNetwork, None);
        let index = lab.index("neighbour");
        let mut without = draft();
        without.0.tenants.pop();
        without.0.uids.retain(|binding| binding.range.first != 2003);
        assert_eq!(lab.apply(&without.0).removed, 1);
        let left = lab.loaded().maps.sanctions.get(index).unwrap();
        assert_eq!(left, Sanctions::NONE);
        lab.apply(&without.tenant("dave", NODE_NAME, &[]).uid(2006, "dave").0);
        assert_eq!(lab.index("dave"), index);
        assert!(gets_out(lab, 2006));
    });
}

#[test]
fn who_cannot_be_sanctioned() {
    in_lab(|lab| {
        lab.apply(&draft().0);
        let second = Some(Duration::from_secs(1));
        let (mirror, kernel) = lab.both();
        let mut attempt = |name: &str, sanction, length| {
            let refused = mirror.sanction(name, sanction, length, kernel);
            refused.unwrap_err()
        };
        let block = Sanction::BlockSmtp;
        assert!(matches!(
            attempt("mallory", block, second),
            SanctionError::UnknownTenant { .. }
        ));
        assert!(matches!(
            attempt(NODE_NAME, block, second),
            SanctionError::Node
        ));
        assert!(matches!(
            attempt(DEFAULT_NAME, Sanction::SuspendNetwork, second),
            SanctionError::Default { .. }
        ));
        for absurd in [Duration::ZERO, Duration::from_secs(1 << 40)] {
            assert!(matches!(
                attempt("alice", block, Some(absurd)),
                SanctionError::Length
            ));
        }
        assert_eq!(told(lab), 0, "nothing was touched");
        put(lab, DEFAULT_NAME, block, Some(60));
        assert_eq!(strongest(lab, DEFAULT_NAME), Some(block));
        assert_eq!(in_force(lab, "alice"), Sanctions::NONE);
    });
}

/// A frame of this type, from a guest to everybody.
fn frame(kind: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(kind.to_be_bytes());
    frame.resize(60, 0);
    frame
}

#[test]
fn what_is_no_ip_does_not_get_a_suspended_guest_out() {
    const LOOPBACK: u32 = 1;
    const ARP: u16 = 0x0806;
    const PASS: u32 = u32::MAX;
    const DROP: u32 = 2;
    in_lab(|lab| {
        lab.apply(&draft().0);
        let wanted = Wanted {
            guests: vec![Place {
                index: index("v1"),
                name: "v1".to_owned(),
                ethernet: true,
                side: Side::Ingress,
            }],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert_eq!(outcome.problems, Vec::<String>::new());
        let program = program_at(index("v1"), INGRESS);
        // Programs that are tried stand at the loopback interface.
        let owner = Owner::tenant(lab.index("alice"));
        let maps = &mut lab.kernel().maps;
        sync_interfaces(
            maps,
            &[(LOOPBACK, owner)],
            &[].into(),
            &[].into(),
            &[].into(),
        )
        .unwrap();
        let odd = [0x88b5, 0x8847, 0x88cc];
        let verdicts = |kinds: &[u16]| -> Vec<u32> {
            let run = |kind: &u16| run_on(&program, &frame(*kind)).unwrap().0;
            kinds.iter().map(run).collect()
        };
        assert_eq!(verdicts(&odd), [PASS; 3]);
        put(lab, "alice", Sanction::SuspendNetwork, None);
        assert_eq!(verdicts(&odd), [DROP; 3]);
        assert_eq!(verdicts(&[ARP]), [PASS]);
        assert_eq!(lift(lab, "alice"), [Sanction::SuspendNetwork]);
        assert_eq!(verdicts(&odd), [PASS; 3]);
        put(lab, "bob", Sanction::SuspendNetwork, None);
        assert_eq!(verdicts(&odd), [PASS; 3]);
        lab.assert_sound();
    });
}
