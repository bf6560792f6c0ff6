//! What was wrong counts no more.

use super::*;

fn ladder(text: &str) -> Ladder {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rule.yaml");
    std::fs::write(&path, format!("policy: rule\n{text}")).unwrap();
    let loaded = load_ladder(&path);
    let faults: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    loaded.ladder.unwrap_or_else(|| panic!("{faults:#?}"))
}

fn void(tenant: &str, case: u32) -> Signal {
    Signal::Void {
        tenant: tenant.to_owned(),
        policy: "rule".to_owned(),
        case,
        by: "root".to_owned(),
    }
}

fn withdrawn(tenant: &str, id: &str) -> Signal {
    Signal::Withdrawn {
        tenant: tenant.to_owned(),
        complaint: id.to_owned(),
        by: "root".to_owned(),
    }
}

const TWICE: &str = "
offences:
  - {when: {operator: minor}, severity: minor}
  - {when: {customers: {offences: 2, severity: minor, in: 24h}}, severity: moderate}
forget_after: 365d
steps:
  - {offence: 1, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
  - {offence: 2, sanction: suspend_network, lift: {any: [review]}, tell: [operator]}
";

#[test]
fn a_closed_case_that_was_wrong_counts_no_more() {
    let mut world = World::new([ladder(TWICE)]);
    world.offence("bob", Severity::Minor);
    world.word("bob", Word::Reinstate);
    let mut counting = world.clone();
    counting.offence("bob", Severity::Minor);
    assert_eq!(counting.suffers("bob"), [Sanction::SuspendNetwork]);

    world.hear(void("bob", 1));
    assert!(world.state.records["bob"].ladders["rule"].closed[0].is_void());
    world.offence("bob", Severity::Minor);
    assert_eq!(
        world.suffers("bob"),
        [Sanction::BlockSmtp],
        "it is the first"
    );
    // An open case and one that there is not are left alone.
    let before = world.state.records["bob"].ladders.clone();
    world.hear(void("bob", 2)).hear(void("bob", 9));
    assert_eq!(world.state.records["bob"].ladders, before);
}

#[test]
fn an_offence_that_was_wrong_counts_no_more_above_either() {
    let mut world = World::new([ladder(TWICE)]);
    world.offence("bob", Severity::Minor);
    world.word("bob", Word::Reinstate);
    let mut counting = world.clone();
    counting.offence("carol", Severity::Minor);
    assert!(!counting.suffers("reseller").is_empty());

    world.hear(void("bob", 1));
    world.offence("carol", Severity::Minor);
    assert!(world.suffers("reseller").is_empty());
}

#[test]
fn an_open_case_that_was_wrong_counts_no_more_above_either() {
    let mut world = World::new([ladder(TWICE)]);
    world.offence("bob", Severity::Minor);
    let mut reviewed = world.clone();
    reviewed.word("bob", Word::Review);
    reviewed.offence("carol", Severity::Minor);
    assert!(!reviewed.suffers("reseller").is_empty());

    world.word("bob", Word::Acquit);
    assert!(world.state.records["bob"].ladders["rule"].closed[0].is_void());
    world.offence("carol", Severity::Minor);
    assert!(world.suffers("reseller").is_empty());
    // What is told of the reseller's record does not name it either.
    let record = &world.state.records["reseller"];
    let told = record.ladders["rule"]
        .evidence
        .without(&record.voided, "rule");
    let listed: Vec<&str> = told.customers.listed.iter().map(String::as_str).collect();
    assert_eq!(
        (told.customers.total, &listed[..]),
        (1, &["carol 1: minor"][..])
    );
}

#[test]
fn a_complaint_that_was_wrong_counts_no_more() {
    let mut world = World::new([ladder(
        "
offences:
  - {when: {complaints: {at_least: 2, in: 24h}}, severity: minor}
forget_after: 365d
steps:
  - {severity: minor, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
complaints: {act_within: 24h}
",
    )]);
    world.hear(complaint("bob", "one"));
    let mut counting = world.clone();
    counting.hear(complaint("bob", "two"));
    assert_eq!(counting.suffers("bob"), [Sanction::BlockSmtp]);

    world.hear(withdrawn("bob", "one"));
    world.hear(complaint("bob", "two"));
    assert!(world.suffers("bob").is_empty());
    world.pass(Span::hours(25));
    let told = world.told();
    assert_eq!(told, ["bob operator: overdue act"], "of the other one only");
    // It is known, and does not come back.
    world.hear(complaint("bob", "one"));
    world.hear(complaint("bob", "three"));
    assert!(world.suffers("bob").is_empty());
}

#[test]
fn what_refused_attempts_cannot_lead_to_is_not_announced() {
    let text = |refused: &str| {
        format!(
            "
offences:
  - {{when: {{violations: {{at_least: 5, in: 1h}}}}, severity: minor}}
  - {{when: {{operator: severe}}, severity: severe}}
refused_attempts: {refused}
steps:
  - {{severity: minor, sanction: block_smtp, lift: {{any: [review]}}, tell: [operator]}}
  - {{severity: severe, sanction: null_route, meanwhile: suspend_network, tell: [operator]}}
"
        )
    };
    let next = |refused: &str| {
        let mut world = World::new([ladder(&text(refused))]);
        world.offence("bob", Severity::Severe);
        let record = &world.state.records["bob"];
        let next = record.next(&world.book, "bob", world.now()).into_iter();
        let next = next.map(|it| (it.sanction, it.meanwhile, it.already));
        next.collect::<Vec<_>>()
    };
    let severe = (Sanction::NullRoute, Some(Sanction::SuspendNetwork), true);
    assert_eq!(next("warn"), [(Sanction::Warn, None, true), severe]);
    assert_eq!(next("punish"), [(Sanction::BlockSmtp, None, true), severe]);
}

/// A case was closed; then, at one moment, something graver is heard of the time before, and
/// something new that does not count.
#[test]
fn what_is_new_is_not_hidden_by_what_is_graver_and_late() {
    let mut world = World::new([ladder(
        "
offences:
  - {when: {violations: {at_least: 5, in: 1h}}, severity: minor}
  - {when: {operator: moderate}, severity: moderate}
  - {when: {operator: severe}, severity: severe}
refused_attempts: warn
steps:
  - {severity: minor, sanction: block_smtp, lift: {any: [review]}, tell: [operator]}
  - {offence: 1, sanction: suspend_mail, lift: {any: [review]}, tell: [operator]}
",
    )]);
    let happened = world.now();
    world.offence("bob", Severity::Moderate);
    world.word("bob", Word::Review);
    world.pass(Span::hours(1));
    let new = refused("bob", 9);
    let late = offence("bob", Severity::Severe, happened);
    let mut other = world.clone();
    world.step(&new);
    world.step(&late);
    other.step(&late);
    other.step(&new);
    assert_eq!(world.state, other.state);
    assert!(world.suffers("bob").contains(&Sanction::Warn));
}
