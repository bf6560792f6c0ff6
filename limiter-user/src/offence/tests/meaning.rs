//! What the parts of a policy mean.

use super::*;
use Sanction::{BlockSmtp, SuspendNetwork, Terminate};
use Severity::{Minor, Moderate, Severe};

#[test]
fn an_old_offence_stops_counting() {
    let mut world = World::shipped("mvmcloud");
    world.offence("alice", Moderate).pass(Span::days(366));
    world.offence("alice", Moderate);
    let record = &world.state.records["alice"].ladders["mvmcloud"];
    assert_eq!(record.open.as_ref().unwrap().offence(), 1);
    world.pass(Span::days(300)).offence("alice", Moderate);
    let record = &world.state.records["alice"].ladders["mvmcloud"];
    assert_eq!(record.open.as_ref().unwrap().offence(), 2);
}

#[test]
fn what_happened_before_the_end_of_a_case_is_no_new_offence() {
    let mut world = World::shipped("mvmcloud");
    world.offence("alice", Moderate);
    let then = world.now();
    world.word("alice", Word::Contact).pass(Span::hours(1));
    world.hear(offence("alice", Moderate, then));
    assert_eq!(
        world.suffers("alice"),
        [],
        "it belongs to the case that is closed"
    );
    let kept = &world.state.records["alice"].ladders["mvmcloud"];
    assert_eq!(kept.closed[0].evidence.words.total, 2);
    // Unless it is graver than the case was.
    let mut world = World::shipped("hostup");
    world.offence("alice", Moderate);
    let then = world.now();
    world.word("alice", Word::Review).pass(Span::hours(1));
    world.hear(offence("alice", Severe, then));
    assert_eq!(
        world.suffers("alice"),
        [SuspendNetwork],
        "no repeat: the same offence"
    );
    let kept = &world.state.records["alice"].ladders["hostup"];
    assert_eq!(kept.open.as_ref().unwrap().offence(), 1);
}

#[test]
fn who_is_acquitted_has_no_record() {
    let mut world = World::shipped("hostup");
    world.offence("alice", Moderate).word("alice", Word::Acquit);
    assert_eq!(world.suffers("alice"), []);
    world.pass(Span::days(1)).offence("alice", Moderate);
    assert_eq!(
        world.suffers("alice"),
        [BlockSmtp],
        "no repeat after reinstatement"
    );
}

#[test]
fn who_is_reinstated_against_the_ladder_keeps_the_record() {
    let mut world = World::shipped("hostup");
    world
        .offence("alice", Moderate)
        .word("alice", Word::Reinstate);
    assert_eq!(world.suffers("alice"), []);
    world.pass(Span::days(1)).offence("alice", Minor);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    // And a proposal that nobody wants goes away with what held meanwhile.
    world.word("alice", Word::Reject(Terminate));
    assert_eq!(world.suffers("alice"), []);
}

#[test]
fn who_is_observed_suffers_nothing() {
    let mut world = World::shipped("hostup");
    world.offence("watched", Moderate);
    assert_eq!(world.suffers("watched"), []);
    assert_eq!(world.told(), ["watched operator: proposed block_smtp"]);
    world.word("watched", Word::Confirm(BlockSmtp));
    assert_eq!(world.suffers("watched"), [BlockSmtp]);
}

#[test]
fn an_operators_own_word_needs_no_policy() {
    let mut world = World::new([]);
    let suspend = |hours| Signal::Suspend {
        tenant: "watched".to_owned(),
        sanction: SuspendNetwork,
        length: Some(Span::hours(hours)),
        reason: "compromised".to_owned(),
        by: "root".to_owned(),
    };
    world.hear(suspend(2)).hear(suspend(1));
    let until = world.now().plus(Span::hours(1)).minus(Span::seconds(1));
    assert_eq!(
        world.until("watched", SuspendNetwork),
        Some(until),
        "the last word holds"
    );
    world.pass(Span::hours(1));
    assert_eq!(world.suffers("watched"), []);
    world
        .hear(suspend(5))
        .word("watched", Word::Lift(BlockSmtp));
    assert_eq!(world.suffers("watched"), [SuspendNetwork], "another one");
    world.word("watched", Word::Lift(SuspendNetwork));
    assert_eq!(world.suffers("watched"), []);
    world.hear(suspend(5)).word("watched", Word::Reinstate);
    assert_eq!(world.suffers("watched"), []);
}

#[test]
fn what_no_policy_speaks_of_is_said() {
    let mut world = World::new([]);
    world.offence("alice", Severe);
    let tenant = "alice".to_owned();
    assert_eq!(world.done(), [Action::NoPolicy { tenant }]);
}

#[test]
fn a_policy_that_is_gone_ends_no_sanction() {
    let mut world = World::shipped("mvmcloud");
    world.offence("alice", Moderate);
    world.book = book([]);
    world.pass(Span::hours(23));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.pass(Span::hours(1));
    assert_eq!(world.suffers("alice"), []);
}

/// Mail that went out counts by when it went out, not by when it was heard of; that it went out is
/// otherwise nothing against anybody.
#[test]
fn mail_from_many_addresses_is_spread() {
    // hostup: 16 addresses in a day.
    let mut world = World::shipped("hostup");
    let begin = world.pass(Span(1)).now();
    let host = |host: u8, hours: u64| (host, begin.plus(Span::hours(hours)));
    world.pass(Span::hours(40));
    world.hear(sources_of("alice", (0..15).map(|it| host(it, 39))));
    assert_eq!(world.suffers("alice"), []);
    // Of the day before yesterday; and the same once more.
    world.hear(sources_of("alice", (20..40).map(|it| host(it, 1))));
    world.hear(sources_of("alice", (0..15).map(|it| host(it, 40))));
    assert_eq!(world.suffers("alice"), []);
    assert_eq!(world.suffers("reseller"), []);
    world.hear(sources_of("alice", [host(15, 20)]));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    assert_eq!(world.standing("bob"), Standing::Good);
    // What had gone out when the case was closed is of that case.
    let mut world = World::shipped("mvmcloud");
    let now = world.pass(Span(1)).now();
    world.hear(sources_of("alice", (0..20).map(|it| (it, now))));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.word("alice", Word::Contact);
    assert_eq!(world.suffers("alice"), []);
    world.hear(sources_of("alice", (0..20).map(|it| (it, now))));
    assert_eq!(world.suffers("alice"), []);
    let now = world.now();
    world.hear(sources_of("alice", (0..20).map(|it| (it, now))));
    let record = &world.state.records["alice"].ladders["mvmcloud"];
    assert_eq!(record.open.as_ref().unwrap().offence(), 2);
}

/// A reseller whose customers send has many addresses and accounts below, and nothing follows.
#[test]
fn customers_that_send_are_no_spread_of_their_reseller() {
    let mut world = World::shipped("strict");
    let now = world.pass(Span(1)).now();
    for tenant in ["alice", "bob", "shop"] {
        world.hear(sources_of(tenant, (0..8).map(|it| (it, now))));
    }
    for tenant in ["alice", "bob", "shop", "reseller"] {
        assert_eq!(world.standing(tenant), Standing::Good, "{tenant}");
    }
}
