//! What holds whatever happens: for all shipped policies at once, and any signals.

use proptest::prelude::*;

use super::*;
use crate::offence::Circumstances;

const TENANTS: [&str; 5] = ["reseller", "alice", "bob", "shop", "watched"];

/// What happens next, and how long before that nothing does.
#[derive(Clone, Debug)]
struct Event {
    wait: Span,
    signal: Signal,
}

fn tenant() -> impl Strategy<Value = String> {
    prop::sample::select(&TENANTS[..]).prop_map(str::to_owned)
}

fn severity() -> impl Strategy<Value = Severity> {
    let all: Vec<Severity> = Severity::WORDS.iter().map(|(_, word)| *word).collect();
    prop::sample::select(all)
}

fn sanction() -> impl Strategy<Value = Sanction> {
    let all: Vec<Sanction> = Sanction::WORDS.iter().map(|(_, word)| *word).collect();
    prop::sample::select(all)
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        3 => Just(Word::Contact),
        3 => Just(Word::Acknowledgement),
        3 => Just(Word::Review),
        2 => sanction().prop_map(Word::Confirm),
        1 => sanction().prop_map(Word::Reject),
        1 => sanction().prop_map(Word::Lift),
        1 => Just(Word::Reinstate),
        1 => Just(Word::Acquit),
    ]
}

/// When something happened: now, or up to ten days after the beginning.
fn happened() -> impl Strategy<Value = Moment> {
    prop_oneof![
        3 => Just(Moment(u64::MAX)),
        1 => (0..10 * 86_400_u64).prop_map(|s| START.plus(Span::seconds(s))),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        1 => Just(Signal::Tick),
        4 => (tenant(), 1..400_u64, any::<bool>(), 0..40_u8, happened()).prop_map(
            |(tenant, count, refused, host, happened)| Signal::Violations {
                tenant,
                reason: "limit".to_owned(),
                count,
                refused,
                source: Some(std::net::IpAddr::from([192, 0, 2, host])),
                happened,
                around: Circumstances {
                    last: Some(happened.plus(Span::seconds(u64::from(host)))),
                    from: [format!("uid {host}")].into(),
                    ports: [u16::from(host)].into(),
                },
            }
        ),
        // An address and a moment stand for themselves, whatever is heard with them.
        3 => (tenant(), prop::collection::btree_map(0..40_u8, happened(), 1..20)).prop_map(
            |(tenant, sources)| sources_of(&tenant, sources)
        ),
        2 => (tenant(), 1..3_000_u64).prop_map(|(tenant, messages)| sent(&tenant, messages)),
        2 => (tenant(), 0..100_u64, 0..100_u64, happened()).prop_map(
            |(tenant, hard, soft, happened)| Signal::Bounces { tenant, hard, soft, happened }
        ),
        // An id stands for one complaint: the same one is the same in everything.
        4 => (0..60_u16).prop_map(|id| {
            let tenant = TENANTS[usize::from(id) % TENANTS.len()];
            complaint(tenant, &format!("complaint {id}"))
        }),
        1 => (0..10_u16).prop_map(|id| {
            let tenant = TENANTS[usize::from(id) % TENANTS.len()];
            listing(tenant, &format!("listing {id}"))
        }),
        3 => (tenant(), severity(), happened())
            .prop_map(|(tenant, severity, happened)| offence(&tenant, severity, happened)),
        1 => (tenant(), sanction(), prop::option::of(1..100_u64)).prop_map(
            |(tenant, sanction, hours)| Signal::Suspend {
                tenant,
                sanction,
                length: hours.map(Span::hours),
                reason: format!("{hours:?}"),
                by: "root".to_owned(),
            }
        ),
        1 => (0..60_u16).prop_map(|id| Signal::Withdrawn {
            tenant: TENANTS[usize::from(id) % TENANTS.len()].to_owned(),
            complaint: format!("complaint {id}"),
            by: "root".to_owned(),
        }),
        1 => (tenant(), prop::sample::select(&["mvmcloud", "ix-cm", "hostup", "crux", "strict"][..]), 1..4_u32)
            .prop_map(|(tenant, policy, case)| Signal::Void {
                tenant,
                policy: policy.to_owned(),
                case,
                by: "root".to_owned(),
            }),
        5 => (tenant(), word()).prop_map(|(tenant, word)| say(&tenant, word)),
    ]
}

fn wait() -> impl Strategy<Value = Span> {
    prop_oneof![
        2 => Just(Span(0)),
        2 => (0..5_000_u64).prop_map(Span),
        2 => (0..100_000_u64).prop_map(Span::seconds),
        1 => (0..60_u64).prop_map(Span::days),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (wait(), signal()).prop_map(|(wait, signal)| Event { wait, signal });
    prop::collection::vec(event, 1..40)
}

fn world(policy: usize) -> World {
    const EACH: [&str; 5] = ["mvmcloud", "ix-cm", "hostup", "crux", "strict"];
    match EACH.get(policy) {
        Some(name) => World::shipped(name),
        None => World::new(EACH.map(shipped)),
    }
}

/// A state without what only says when it was last looked at.
fn lasting(world: &World) -> State {
    let mut state = world.state.clone();
    state.clock = Clock::default();
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// `World::check` after each step: the kernel does what is recorded, nothing contradicts.
    #[test]
    fn nothing_ends_before_its_rule(policy in 0..6_usize, events in events()) {
        let mut world = world(policy);
        for Event { wait, signal } in events {
            let before = world.clone();
            world.jump(wait);
            world.step(&signal);
            world.pass(Span(1));
            ends_by_rule(&before, &world);
        }
    }

    /// Everything that is heard at one moment, in any order.
    #[test]
    fn the_order_within_a_moment_does_not_matter(
        policy in 0..6_usize,
        past in events(),
        (one, other) in prop::collection::vec(signal(), 2..8)
            .prop_flat_map(|signals| (Just(signals.clone()), Just(signals).prop_shuffle())),
    ) {
        let mut first = world(policy);
        for Event { wait, signal } in past {
            first.jump(wait);
            first.step(&signal);
        }
        first.pass(Span(7));
        let mut second = first.clone();
        for (world, signals) in [(&mut first, one), (&mut second, other)] {
            for signal in &signals {
                world.step(signal);
            }
            world.pass(Span(1));
        }
        prop_assert_eq!(&first.state, &second.state);
        prop_assert_eq!(&first.kernel, &second.kernel);
    }

    /// How often the engine looks at the clock does not matter, nor that it was written and read.
    #[test]
    fn a_replay_gives_the_same(policy in 0..6_usize, events in events()) {
        let mut first = world(policy);
        let mut again = first.clone();
        let mut seldom = first.clone();
        for Event { wait, signal } in &events {
            for world in [&mut first, &mut again] {
                world.pass(*wait);
                world.step(signal);
            }
            let text = serde_json::to_string(&again.state).unwrap();
            again.state = serde_json::from_str(&text).unwrap();
            seldom.jump(*wait);
            seldom.step(signal);
        }
        prop_assert_eq!(&first.state, &again.state);
        prop_assert_eq!(&first.actions, &again.actions);
        for world in [&mut first, &mut seldom] {
            world.pass(Span::days(1));
        }
        prop_assert_eq!(lasting(&first), lasting(&seldom));
        prop_assert_eq!(&first.kernel, &seldom.kernel);
    }

    /// The wall clock jumps about, within a boot: nothing changes.
    #[test]
    fn a_jumping_clock_changes_nothing(
        policy in 0..6_usize,
        events in events(),
        jumps in prop::collection::vec(0..4_000_000_000_000_u64, 40),
    ) {
        let mut honest = world(policy);
        let mut forged = honest.clone();
        // The first signal makes the record, and the clock the engine's.
        for world in [&mut honest, &mut forged] {
            world.step(&refused("alice", 1));
        }
        for (Event { wait, signal }, jump) in events.into_iter().zip(jumps) {
            honest.jump(wait);
            honest.step(&signal);
            forged.jump(wait);
            forged.reading.wall = Moment(jump);
            forged.step(&signal);
        }
        prop_assert_eq!(lasting(&honest), lasting(&forged));
        prop_assert_eq!(honest.kernel, forged.kernel);
    }

    /// Reboots, with whatever clock: nothing ends earlier than without them.
    #[test]
    fn a_reboot_ends_nothing_early(
        policy in 0..6_usize,
        past in events(),
        wall in 0..1_000_000_u64,
        up in 0..100_000_u64,
    ) {
        let mut world = world(policy);
        // While nothing is recorded, the wall clock is taken over.
        world.step(&refused("alice", 1));
        world.step(&say("alice", Word::Contact));
        for Event { wait, signal } in past {
            world.jump(wait);
            world.step(&signal);
        }
        world.pass(Span(1));
        let before = world.clone();
        world.reading.boot = "second".to_owned();
        world.reading.up = Span(up);
        // Behind, by anything; the time since the boot did pass.
        world.reading.wall = world.reading.wall.minus(Span::seconds(wall));
        let mut trusting = world.clone();
        trusting.step(&Signal::Tick);
        ends_by_rule(&before, &trusting);
        prop_assert!(trusting.now() <= before.now().plus(Span(up)));
        world.reading.trusted = false;
        world.step(&Signal::Tick);
        prop_assert_eq!(world.now(), before.now().plus(Span(up)));
        ends_by_rule(&before, &world);
    }
}

/// Whatever ended between the two had a reason to.
fn ends_by_rule(before: &World, after: &World) {
    for (tenant, record) in &before.state.records {
        for (name, kept) in &record.ladders {
            let now = &after.state.records[tenant].ladders[name];
            for hold in kept.open.iter().flat_map(|case| &case.holds) {
                if hold.is_open() && hold.suffered().is_some() {
                    let all = now.open.iter().chain(&now.closed);
                    let same = all
                        .flat_map(|case| &case.holds)
                        .filter(|other| other.step == hold.step)
                        .filter(|other| other.severity >= hold.severity);
                    assert!(
                        same.clone().any(|other| may_be(hold, other, after.now())),
                        "{tenant} {name}: {hold:#?} became {:#?}",
                        same.collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

/// Whether `hold` may have become `other` by `now`.
fn may_be(hold: &Hold, other: &Hold, now: Moment) -> bool {
    let Status::Ended { at, how } = other.status else {
        return true;
    };
    if at > now || at < hold.since {
        return false;
    }
    let (Lift::Any(conditions) | Lift::All(conditions)) = &hold.step.lift;
    let by_time_alone = conditions
        .iter()
        .all(|condition| *condition == Condition::Time);
    match how {
        How::Rule => {
            !conditions.contains(&Condition::Never)
                && other.not_before.is_none_or(|earliest| at >= earliest)
                && (!by_time_alone || other.until.is_some_and(|until| at >= until))
                && (!matches!(hold.step.lift, Lift::All(_))
                    || !conditions.contains(&Condition::Time)
                    || other.until.is_some_and(|until| at >= until))
        }
        How::Superseded => hold.step.sanction == Sanction::Warn,
        How::Rejected => !other.forced,
        How::Reinstated | How::Acquitted => true,
    }
}
