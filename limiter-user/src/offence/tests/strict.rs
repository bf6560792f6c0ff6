//! All five in one file, and all at once on one tenant.

use super::*;
use Sanction::{BlockSmtp, NullRoute, SuspendMail, SuspendNetwork, Terminate, Warn};
use Severity::{Critical, Moderate, Severe};

#[test]
fn the_strict_file_takes_the_strictest() {
    let mut world = World::shipped("strict");
    world.hear(refused("alice", 100));
    assert_eq!(world.suffers("alice"), [Warn]);
    world.pass(Span::days(2)).offence("alice", Moderate);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    assert_eq!(world.until("alice", SuspendNetwork), None);
    let mut forgotten = world.clone();
    forgotten.word("alice", Word::Review).pass(Span::days(400));
    assert_eq!(
        forgotten.suffers("alice"),
        [SuspendNetwork],
        "time alone lifts nothing"
    );
    world.word("alice", Word::Review);
    world.word("alice", Word::Acknowledgement);
    world.pass(Span::days(6));
    assert_eq!(world.suffers("alice"), [SuspendNetwork], "7 days at least");
    world.pass(Span::days(1));
    assert_eq!(world.suffers("alice"), []);
    world.pass(Span::days(1)).done();
    world.offence("alice", Moderate);
    world.word("alice", Word::Confirm(Terminate));
    assert!(world.charged().iter().any(|(bill, ..)| bill == "reseller"));
    assert_eq!(world.standing("alice"), Standing::Terminated);
    world
        .offence("bob", Severe)
        .word("bob", Word::Confirm(Terminate));
    assert_eq!(world.standing("bob"), Standing::Terminated);
    world
        .offence("carol", Critical)
        .word("carol", Word::Confirm(NullRoute));
    world.word("carol", Word::Confirm(Terminate));
    assert_eq!(world.suffers("carol"), [NullRoute, Terminate]);
}

#[test]
fn of_several_policies_the_strictest_holds_in_each_dimension() {
    let all = ["mvmcloud", "ix-cm", "hostup", "crux"].map(shipped);
    let mut world = World::new(all);
    world.offence("shop", Moderate);
    // mvmcloud: 24 h or contact; ix-cm: 7 to 30 days; hostup and crux: until somebody looks.
    assert_eq!(
        world.suffers("shop"),
        [BlockSmtp, SuspendMail, SuspendNetwork]
    );
    world.word("shop", Word::Contact);
    assert_eq!(world.suffers("shop"), [BlockSmtp, SuspendMail]);
    world.word("shop", Word::Acknowledgement);
    assert_eq!(world.suffers("shop"), [BlockSmtp, SuspendMail]);
    world.word("shop", Word::Review).pass(Span::days(6));
    assert_eq!(world.suffers("shop"), [SuspendMail], "7 days are 7 days");
    world.pass(Span::days(1));
    assert_eq!(world.suffers("shop"), []);
    // One complaint, two policies that would charge for it: the higher amount, once.
    let mut cheaper = shipped("crux");
    cheaper.name = "cheaper".to_owned();
    cheaper.charges[0].cents = Some(1_000);
    let mut world = World::new([cheaper, shipped("crux")]);
    world.hear(complaint("shop", "c1"));
    let charged = world.charged();
    let sum: u64 = charged.iter().filter_map(|(_, cents, _)| *cents).sum();
    assert_eq!(sum, 300_000, "{charged:?}");
}
