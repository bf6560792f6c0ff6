//! The ladder of each host, from the first offence to the end.

use super::*;
use Sanction::{BlockSmtp, NullRoute, SuspendMail, SuspendNetwork, Terminate, Warn};
use Severity::{Critical, Minor, Moderate, Severe};

const HOUR: Span = Span::hours(1);
const DAY: Span = Span::days(1);

#[test]
fn mvmcloud_has_three_stages() {
    let mut world = World::shipped("mvmcloud");
    // The first: 24 hours, or contact.
    world.offence("alice", Moderate);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    let until = world.now().minus(Span::seconds(1)).plus(DAY);
    assert_eq!(world.until("alice", SuspendNetwork), Some(until));
    assert_eq!(
        world.told(),
        [
            "alice contact: sanctioned suspend_network",
            "alice operator: sanctioned suspend_network"
        ]
    );
    let mut other = world.clone();
    other.pass(Span(DAY.0 - 1_001));
    assert_eq!(other.suffers("alice"), [SuspendNetwork]);
    other.pass(Span(1));
    assert_eq!(other.suffers("alice"), [], "time alone lifts it");
    world.pass(HOUR).word("alice", Word::Acknowledgement);
    assert_eq!(
        world.suffers("alice"),
        [SuspendNetwork],
        "not what lifts it"
    );
    world.word("alice", Word::Contact);
    assert_eq!(world.standing("alice"), Standing::Good);
    assert_eq!(
        world.told(),
        [
            "alice contact: lifted suspend_network",
            "alice operator: lifted suspend_network"
        ]
    );

    // The second: 24 hours, and acknowledgement.
    world.pass(DAY).offence("alice", Severe);
    assert_eq!(
        world.until("alice", SuspendNetwork),
        None,
        "time alone does not"
    );
    world.word("alice", Word::Contact).pass(Span::days(3));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.word("alice", Word::Acknowledgement);
    assert_eq!(world.suffers("alice"), []);

    // The third: suspended, cancelled within 48 hours.
    world.pass(DAY).done();
    world.offence("alice", Moderate);
    for word in [Word::Contact, Word::Acknowledgement, Word::Review] {
        world.word("alice", word);
    }
    world.pass(Span::hours(47));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    let notes = world.done().into_iter().find_map(|action| match action {
        Action::Notify(notice) => match notice.event {
            NoticeEvent::Sanctioned { note, offence, .. } => Some((note, offence)),
            _ => None,
        },
        _ => None,
    });
    let (notes, offence) = notes.unwrap();
    assert_eq!(offence, 3);
    assert!(
        notes.iter().any(|note| note.contains("backup")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("refund")),
        "{notes:?}"
    );
    world.pass(HOUR);
    assert_eq!(world.told(), ["alice operator: proposed terminate"]);
    assert_eq!(
        world.suffers("alice"),
        [SuspendNetwork],
        "until it is confirmed"
    );
    world.word("alice", Word::Confirm(Terminate));
    assert_eq!(world.standing("alice"), Standing::Terminated);
    world.pass(Span::days(4_000));
    assert_eq!(world.standing("alice"), Standing::Terminated);
}

#[test]
fn mvmcloud_suspends_who_gets_it_blacklisted_at_once() {
    let mut world = World::shipped("mvmcloud");
    world.hear(listing("alice", "zen 192.0.2.1"));
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.word("alice", Word::Contact).pass(DAY);
    assert_eq!(
        world.suffers("alice"),
        [SuspendNetwork],
        "it waits for a person"
    );
    world.word("alice", Word::Confirm(Terminate));
    assert_eq!(world.standing("alice"), Standing::Terminated);
}

#[test]
fn ix_cm_goes_by_severity() {
    let mut world = World::shipped("ix-cm");
    world.hear(complaint("alice", "c1"));
    assert_eq!(world.suffers("alice"), [Warn]);
    assert_eq!(world.told(), ["alice contact: sanctioned warn"]);
    // Repeated after that: for good.
    let mut again = world.clone();
    again.pass(Span::days(2));
    assert_eq!(again.standing("alice"), Standing::Good);
    again.hear(complaint("alice", "c2"));
    assert_eq!(again.suffers("alice"), [SuspendNetwork], "meanwhile");
    again.word("alice", Word::Confirm(Terminate));
    assert_eq!(again.standing("alice"), Standing::Terminated);
    // Moderate: 7 to 30 days.
    for id in ["c2", "c3", "c4", "c5"] {
        world.hear(complaint("alice", id));
    }
    assert_eq!(world.suffers("alice"), [Warn, SuspendMail]);
    let since = world.now().minus(Span::seconds(1));
    let until = since.plus(Span::days(30));
    assert_eq!(world.until("alice", SuspendMail), Some(until));
    world.word("alice", Word::Review);
    assert_eq!(
        world.until("alice", SuspendMail),
        Some(since.plus(Span::days(7)))
    );
    world.pass(Span::days(6));
    assert_eq!(world.suffers("alice"), [SuspendMail]);
    world.pass(DAY);
    assert_eq!(world.suffers("alice"), []);
}

#[test]
fn ix_cm_terminates_and_charges_for_a_blacklisting() {
    let mut world = World::shipped("ix-cm");
    world.hear(listing("alice", "zen 192.0.2.1"));
    world.hear(listing("alice", "zen 192.0.2.1"));
    let plus = ["delisting", "remediation", "overhead", "legal fees"].map(str::to_owned);
    assert_eq!(
        world.charged(),
        [("alice".to_owned(), Some(1_500), plus.to_vec())],
        "once an incident"
    );
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.word("alice", Word::Confirm(Terminate));
    assert_eq!(world.standing("alice"), Standing::Terminated);
    let mut world = World::shipped("ix-cm");
    world
        .offence("bob", Severe)
        .word("bob", Word::Confirm(Terminate));
    assert_eq!(world.standing("bob"), Standing::Terminated);
}

#[test]
fn ix_cm_hears_of_bounces_and_answers_within_three_days() {
    let mut world = World::shipped("ix-cm");
    let bounces = |hard| Signal::Bounces {
        tenant: "alice".to_owned(),
        hard,
        soft: 5,
        happened: START,
    };
    world.hear(sent("alice", 199)).hear(bounces(100));
    assert_eq!(world.suffers("alice"), [], "too little mail to say so");
    let mut world = World::shipped("ix-cm");
    world.hear(sent("alice", 400)).hear(bounces(15));
    assert_eq!(world.suffers("alice"), [], "5 % is allowed");
    world.hear(bounces(0));
    assert_eq!(world.suffers("alice"), [Warn]);
    world.hear(complaint("alice", "c1")).told();
    world.pass(Span::hours(71));
    assert_eq!(world.told(), ["alice contact: lifted warn"]);
    world.pass(HOUR);
    assert_eq!(world.told(), ["alice operator: overdue answer"]);
}

#[test]
fn hostup_goes_by_severity_and_deadline() {
    let mut world = World::shipped("hostup");
    world.hear(refused("alice", 99));
    assert_eq!(world.suffers("alice"), []);
    world.hear(refused("alice", 1));
    assert_eq!(world.suffers("alice"), [Warn]);
    assert_eq!(world.told(), ["alice contact: sanctioned warn"]);
    world.hear(refused("alice", 1_000_000)).pass(Span::days(2));
    assert_eq!(
        world.standing("alice"),
        Standing::Good,
        "a warning is all that refusals bring"
    );

    // Moderate: above 0.1 % of at least a thousand.
    world
        .hear(sent("alice", 999))
        .hear(complaint("alice", "c0"));
    assert_eq!(world.suffers("alice"), [], "one of too few says nothing");
    world
        .hear(sent("alice", 1_001))
        .hear(complaint("alice", "c1"));
    assert_eq!(world.suffers("alice"), [], "0.1 % is allowed");
    world.hear(complaint("alice", "c2"));
    assert_eq!(world.suffers("alice"), [BlockSmtp]);
    assert_eq!(world.until("alice", BlockSmtp), None);
    world.word("alice", Word::Contact).pass(Span::days(100));
    assert_eq!(world.suffers("alice"), [BlockSmtp], "pending review");
    world.word("alice", Word::Review);
    assert_eq!(world.suffers("alice"), []);

    // A repeat after reinstatement.
    world.pass(DAY).done();
    world.offence("alice", Minor);
    assert_eq!(
        world.told(),
        [
            "alice operator: proposed terminate",
            "alice contact: sanctioned suspend_network",
            "alice parent: sanctioned suspend_network",
            "alice operator: sanctioned suspend_network"
        ]
    );
    world.pass(HOUR);
    assert_eq!(world.told(), ["alice operator: undecided terminate"]);
    world.word("alice", Word::Confirm(Terminate));
    assert_eq!(world.standing("alice"), Standing::Terminated);
}

#[test]
fn hostup_cuts_off_the_severe_and_null_routes_the_critical() {
    let mut world = World::shipped("hostup");
    world.offence("alice", Severe);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    assert_eq!(
        world.charged(),
        [("alice".to_owned(), None, vec!["remediation".to_owned()])]
    );
    world.offence("bob", Critical);
    assert_eq!(
        world.suffers("bob"),
        [SuspendNetwork],
        "until it is confirmed"
    );
    world.word("bob", Word::Confirm(NullRoute));
    assert_eq!(world.suffers("bob"), [NullRoute]);
    assert!(
        world
            .told()
            .contains(&"bob operator: proposed terminate".to_owned())
    );
    world.word("bob", Word::Confirm(Terminate));
    assert_eq!(world.suffers("bob"), [NullRoute, Terminate]);
    assert_eq!(world.standing("bob"), Standing::Terminated);
    // Escalation of what is open.
    world.offence("alice", Critical);
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    world.word("alice", Word::Confirm(NullRoute));
    assert_eq!(world.suffers("alice"), [SuspendNetwork, NullRoute]);
}

#[test]
fn hostup_finds_snowshoe() {
    let mut world = World::shipped("hostup");
    for host in 1..=16 {
        let mut signal = violations("alice", 1, false);
        if let Signal::Violations { source, .. } = &mut signal {
            *source = Some(std::net::IpAddr::from([192, 0, 2, host]));
        }
        assert_eq!(world.suffers("alice"), [], "{host}");
        world.hear(signal);
    }
    assert_eq!(world.suffers("alice"), [SuspendNetwork]);
    assert_eq!(world.suffers("reseller"), [], "one offence of one customer");
    world.word("alice", Word::Confirm(NullRoute));
    assert_eq!(world.suffers("alice"), [NullRoute]);
    // Attempts alone are no more than a warning.
    let mut world = World::shipped("hostup");
    for host in 1..=100 {
        let mut signal = refused("alice", 1);
        if let Signal::Violations { source, .. } = &mut signal {
            *source = Some(std::net::IpAddr::from([192, 0, 2, host]));
        }
        world.hear(signal);
    }
    assert_eq!(world.suffers("alice"), [Warn]);
}

#[test]
fn hostup_holds_a_reseller_to_its_customers() {
    let mut world = World::shipped("hostup");
    for tenant in ["alice", "bob", "carol", "shop"] {
        world.offence(tenant, Moderate);
    }
    // The shop's stands on alice's record too, and both on the reseller's.
    assert_eq!(world.suffers("reseller"), []);
    world.word("alice", Word::Review).pass(DAY);
    world.offence("alice", Moderate);
    assert_eq!(world.suffers("reseller"), [BlockSmtp]);
    let record = &world.state.records["reseller"].ladders["hostup"];
    assert_eq!(record.evidence.customers.total, 5);
}

#[test]
fn hostup_counts_valid_complaints_only_and_keeps_its_clocks() {
    let mut world = World::shipped("hostup");
    world.hear(sent("alice", 1_000));
    for index in 0..50 {
        let Signal::Complaint(mut complaint) = complaint("alice", &format!("c{index}")) else {
            panic!();
        };
        complaint.parts.remove(&Part::Headers);
        world.hear(Signal::Complaint(complaint));
    }
    assert_eq!(world.suffers("alice"), []);
    let invalid = |action: &&Action| matches!(action, Action::InvalidComplaint { .. });
    assert_eq!(world.done().iter().filter(invalid).count(), 50);
    world.hear(complaint("alice", "valid"));
    world.pass(Span::hours(9));
    assert_eq!(world.told(), ["alice operator: overdue acknowledge"]);
    world.hear(Signal::Handled {
        tenant: "alice".to_owned(),
        complaint: "valid".to_owned(),
        clock: "act".to_owned(),
        by: "root".to_owned(),
    });
    world.pass(Span::days(9));
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn crux_suspends_a_domain_and_then_terminates_it_at_its_owners_cost() {
    let mut world = World::shipped("crux");
    world.hear(complaint("shop", "c1"));
    assert_eq!(world.suffers("shop"), [SuspendMail]);
    assert_eq!(world.suffers("alice"), [], "the domain alone");
    let done = world.done();
    let charge = |action: &Action| match action {
        Action::Charge { bill, cents, .. } => Some((bill.clone(), *cents)),
        _ => None,
    };
    assert_eq!(
        done.iter().find_map(charge),
        Some(("alice".to_owned(), Some(300_000))),
        "its owner pays for the complaint"
    );
    world.word("shop", Word::Acknowledgement).pass(DAY).done();
    world.hear(complaint("shop", "c2"));
    assert_eq!(world.suffers("shop"), [SuspendNetwork]);
    assert_eq!(world.charged().len(), 1, "the complaint");
    world.word("shop", Word::Confirm(Terminate));
    let plus = ["termination", "clean-up"].map(str::to_owned).to_vec();
    assert_eq!(world.charged(), [("alice".to_owned(), None, plus)]);
    assert_eq!(world.standing("shop"), Standing::Terminated);
    assert_eq!(world.standing("alice"), Standing::Good);
}

#[test]
fn crux_suspends_a_server_that_goes_on_without_further_notice() {
    let mut world = World::shipped("crux");
    world.offence("server", Moderate);
    assert_eq!(world.suffers("server"), [Warn]);
    world.pass(Span::days(2)).done();
    world.offence("server", Moderate);
    assert_eq!(world.suffers("server"), [SuspendNetwork]);
    assert_eq!(
        world.told(),
        ["server operator: sanctioned suspend_network"]
    );
    world.pass(Span::days(50)).word("server", Word::Review);
    assert_eq!(world.suffers("server"), []);
}
