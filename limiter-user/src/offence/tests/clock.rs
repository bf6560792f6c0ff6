//! Clocks that jump, and reboots.

use super::*;
use Sanction::SuspendNetwork;
use Severity::Moderate;

/// A tenant suspended for 24 hours, two seconds into them.
fn suspended() -> World {
    let mut world = World::shipped("mvmcloud");
    world.offence("alice", Moderate);
    world.pass(Span::seconds(1));
    world
}

fn reboot(world: &mut World, boot: &str, up: Span) {
    world.reading.boot = boot.to_owned();
    world.reading.up = up;
}

fn is_suspended(world: &World) -> bool {
    world.suffers("alice") == [SuspendNetwork]
}

#[test]
fn a_forged_clock_lifts_nothing_and_costs_nothing() {
    for (forged, back) in [(Span::days(3_650), true), (Span::days(3_650), false)] {
        let mut world = suspended();
        world.reading.wall = world.reading.wall.plus(forged);
        world.step(&Signal::Tick);
        assert!(is_suspended(&world));
        if back {
            world.reading.wall = world.reading.wall.minus(forged);
        }
        let left = Span(Span::days(1).0 - 2_001);
        world.jump(left);
        world.step(&Signal::Tick);
        assert!(is_suspended(&world));
        world.jump(Span(1));
        world.step(&Signal::Tick);
        assert!(!is_suspended(&world), "on time");
    }
}

#[test]
fn a_clock_set_back_holds_nobody_longer() {
    let mut world = suspended();
    world.reading.wall = Moment(0);
    world.jump(Span::days(1));
    world.step(&Signal::Tick);
    assert!(!is_suspended(&world));
}

#[test]
fn a_reboot_counts_as_time_where_the_clock_is_right() {
    let mut world = suspended();
    world.jump(Span::hours(23));
    reboot(&mut world, "second", Span::seconds(30));
    world.reading.trusted = false;
    world.step(&Signal::Tick);
    assert!(is_suspended(&world), "nobody vouches for the clock yet");
    world.reading.trusted = true;
    world.step(&Signal::Tick);
    assert!(is_suspended(&world));
    world.pass(Span::hours(1));
    assert!(!is_suspended(&world));
}

#[test]
fn a_reboot_with_a_dead_clock_lifts_nothing_early() {
    let mut world = suspended();
    let wall = world.reading.wall;
    // It wakes in 1970, and is set right later.
    reboot(&mut world, "second", Span::seconds(30));
    (world.reading.wall, world.reading.trusted) = (Moment(5), false);
    world.step(&Signal::Tick);
    assert!(is_suspended(&world));
    (world.reading.wall, world.reading.trusted) = (wall.plus(Span::hours(2)), true);
    world.step(&Signal::Tick);
    assert!(is_suspended(&world));
    assert_eq!(
        world.now(),
        wall.plus(Span::hours(2)),
        "the two hours passed"
    );
}

#[test]
fn a_record_from_another_machine_is_not_as_old_as_that_machine() {
    let mut world = suspended();
    let wall = world.reading.wall;
    reboot(&mut world, "another", Span::days(300));
    world.reading.wall = wall.plus(Span::hours(1));
    world.step(&Signal::Tick);
    assert!(is_suspended(&world));
    assert_eq!(world.now(), wall.plus(Span::hours(1)));
}

#[test]
fn set_back_before_a_reboot_and_right_after_it_credits_nothing_extra() {
    let mut world = suspended();
    let wall = world.reading.wall;
    world.reading.wall = wall.minus(Span::days(10));
    world.step(&Signal::Tick);
    reboot(&mut world, "second", Span::seconds(30));
    world.reading.wall = wall.plus(Span::seconds(60));
    world.step(&Signal::Tick);
    assert!(is_suspended(&world));
    assert_eq!(world.now(), wall.plus(Span::seconds(60)));
}

#[test]
fn set_forward_before_a_reboot_only_an_operator_credits_the_rest() {
    let mut world = suspended();
    let wall = world.reading.wall;
    world.reading.wall = wall.plus(Span::days(10));
    world.step(&Signal::Tick);
    reboot(&mut world, "second", Span::seconds(30));
    world.reading.wall = wall.plus(Span::days(2));
    world.step(&Signal::Tick);
    assert!(
        is_suspended(&world),
        "the downtime cannot be told from the forgery"
    );
    let by = "root".to_owned();
    world.step(&Signal::Settle { by });
    world.step(&Signal::Tick);
    assert!(!is_suspended(&world));
}

#[test]
fn what_was_due_during_a_downtime_happens_in_its_order() {
    let mut world = World::shipped("mvmcloud");
    for word in [Word::Contact, Word::Acknowledgement] {
        world.offence("alice", Moderate).pass(Span::days(1));
        world.word("alice", word).pass(Span::days(1));
    }
    world.offence("alice", Moderate);
    let due = world.now().minus(Span::seconds(1)).plus(Span::hours(48));
    let mut late = world.clone();
    late.jump(Span::days(30));
    reboot(&mut late, "second", Span::seconds(5));
    late.step(&Signal::Tick);
    let case = late.state.records["alice"].ladders["mvmcloud"].open.clone();
    let holds = case.unwrap().holds;
    let proposed = holds
        .iter()
        .find(|hold| hold.step.sanction == Sanction::Terminate);
    assert_eq!(proposed.unwrap().since, due);
}
