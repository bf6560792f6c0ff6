//! What people are told when something ends.

use super::*;
use Sanction::{BlockSmtp, NullRoute, SuspendNetwork, Terminate};
use Severity::{Critical, Moderate, Severe};

/// All notices since the last call.
fn notices(world: &mut World) -> Vec<Notice> {
    let done = world.done().into_iter();
    done.filter_map(|action| match action {
        Action::Notify(notice) => Some(*notice),
        _ => None,
    })
    .collect()
}

/// Alice, once reinstated, with two proposals: each suspends her meanwhile.
fn twice_proposed() -> World {
    let mut world = World::shipped("hostup");
    world.offence("alice", Moderate).word("alice", Word::Review);
    world.pass(Span::hours(1)).done();
    world.offence("alice", Critical);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world
}

#[test]
fn what_another_proposal_still_asks_for_is_not_lifted() {
    let mut world = twice_proposed();
    world.done();
    world.word("alice", Word::Reject(NullRoute));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    assert_eq!(world.told(), ["alice operator: dropped null_route"]);
    world.word("alice", Word::Reject(Terminate));
    assert_eq!(world.suffers("alice"), []);
    assert_eq!(
        world.told(),
        [
            "alice operator: dropped terminate",
            "alice contact: lifted suspend_network",
            "alice parent: lifted suspend_network",
            "alice operator: lifted suspend_network",
        ]
    );
}

#[test]
fn whoever_heard_of_the_first_reason_hears_of_the_last_ones_end() {
    let mut world = World::shipped("hostup");
    world.offence("alice", Moderate).offence("alice", Severe);
    world.hear(Signal::Suspend {
        tenant: "alice".to_owned(),
        sanction: SuspendNetwork,
        length: Some(Span::days(2)),
        reason: "found out".to_owned(),
        by: "root".to_owned(),
    });
    world.done();
    // The operator's own goes by time; the case's holds on.
    world.pass(Span::days(3));
    assert_eq!(world.told(), [""; 0]);
    world.word("alice", Word::Lift(SuspendNetwork));
    let told = notices(&mut world);
    assert_eq!(told.len(), 3, "{told:#?}");
    for notice in told {
        assert_eq!(
            notice.event,
            NoticeEvent::Lifted {
                sanction: SuspendNetwork,
                how: How::Reinstated,
                still: vec![BlockSmtp],
            },
            "what still holds is said"
        );
    }
}

#[test]
fn what_holds_meanwhile_is_provisional_and_the_rest_is_not() {
    let mut world = twice_proposed();
    let pending = |notices: Vec<Notice>| -> Vec<Option<Pending>> {
        let events = notices.into_iter().filter_map(|notice| match notice.event {
            NoticeEvent::Sanctioned { pending, until, .. } => {
                assert_eq!(until, None);
                Some(pending)
            }
            _ => None,
        });
        events.collect()
    };
    let found = pending(notices(&mut world));
    assert!(!found.is_empty());
    for one in found {
        let one = one.unwrap();
        assert!([NullRoute, Terminate].contains(&one.sanction));
        assert!(one.deadline.is_some());
    }
    world.word("alice", Word::Confirm(Terminate));
    assert_eq!(pending(notices(&mut world)), [None; 3]);
}

#[test]
fn a_review_is_an_operators_doing_and_time_is_not() {
    let how = |world: &mut World| {
        let told = notices(world).into_iter();
        let hows: BTreeSet<How> = told
            .filter_map(|notice| match notice.event {
                NoticeEvent::Lifted { how, .. } => Some(how),
                _ => None,
            })
            .collect();
        hows.into_iter().collect::<Vec<_>>()
    };
    let mut world = World::shipped("hostup");
    world.offence("alice", Moderate).word("alice", Word::Review);
    assert_eq!(how(&mut world), [How::Reinstated]);
    let mut world = World::shipped("mvmcloud");
    world.offence("alice", Moderate).pass(Span::days(2));
    assert_eq!(how(&mut world), [How::Rule]);
}

#[test]
fn an_operators_own_sanction_ends_by_time_only_if_it_has_one() {
    for length in [None, Some(Span::days(1))] {
        let mut world = World::new([]);
        world.hear(Signal::Suspend {
            tenant: "alice".to_owned(),
            sanction: Terminate,
            length,
            reason: "a word for the record".to_owned(),
            by: "root".to_owned(),
        });
        let told = notices(&mut world);
        let [notice] = told.as_slice() else {
            panic!("{told:#?}");
        };
        let NoticeEvent::Sanctioned { lift, .. } = &notice.event else {
            panic!("{notice:#?}");
        };
        let Lift::Any(conditions) = lift else {
            panic!("{lift:?}");
        };
        assert!(conditions.contains(&Condition::Review));
        assert_eq!(conditions.contains(&Condition::Time), length.is_some());
        assert!(!format!("{notice:?}").contains("a word for the record"));
    }
}
