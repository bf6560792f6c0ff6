use std::fs;

use super::*;
use crate::{
    notice::{
        evidence::{EvidenceKind, EvidenceLine},
        facts::Context,
    },
    offence::{Audience, Condition, How, Lift, Moment, Notice, NoticeEvent, Sanction},
};

#[test]
fn every_default_renders_for_every_notice() {
    for kind in Kind::ALL {
        let views = sample::views(*kind);
        assert!(!views.is_empty(), "{kind:?}");
        for view in views {
            let text = engine::render(kind.default_text(), &view);
            let text = text.unwrap_or_else(|bad| panic!("{kind:?}: {bad:?}"));
            assert!(!text.body.contains("none"), "{kind:?}: {}", text.body);
            assert!(!text.body.contains("\n\n\n"), "{kind:?}: {}", text.body);
            assert!(!text.subject.contains("none"), "{}", text.subject);
        }
    }
}

fn sanctioned(tenant: &str, from: &str) -> Facts {
    let notice = Notice {
        to: Audience::Contact,
        tenant: tenant.to_owned(),
        policy: Some("mvmcloud".to_owned()),
        case: Some(2),
        event: NoticeEvent::Sanctioned {
            sanction: Sanction::SuspendNetwork,
            severity: None,
            offence: 2,
            until: Some(Moment(1_000 + 86_400_000)),
            lift: Lift::All([Condition::Time, Condition::Acknowledgement].into()),
            note: vec!["We offer to clean the account for a fee.".to_owned()],
            then: Some((Sanction::Terminate, Moment(1_000 + 2 * 86_400_000))),
            pending: None,
        },
    };
    let evidence = [EvidenceLine {
        from: vec![from.to_owned()],
        ..EvidenceLine::new(EvidenceKind::Complaint, "valid complaints", 4)
    }];
    let context = Context {
        id: "n1",
        sequence: 1,
        node: "web-17",
        parent: None,
        operator: &["abuse@host.example".to_owned()],
        evidence: &evidence,
        at: Moment(1_000),
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    Facts::new(&notice, &context)
}

/// R34: what happened, the evidence, what to do, how to get the service back.
#[test]
fn the_customer_is_told_what_happened_and_how_to_get_back() {
    let (text, fault) = Templates::default().render(&sanctioned("alice", "php"));
    assert_eq!(fault, None);
    assert_eq!(text.subject, "alice (web-17): a suspension of the account");
    for said in [
        "since Sun 1 March 2026, 12:00 UTC",
        "cut off from the network",
        "We offer to clean the account for a fee.",
        "* 4 x valid complaints\n  php",
        "Take everybody who complained off your lists",
        "when all of these are true:\n- the time is over (Mon 2 March 2026, 12:00 UTC)\n- you have \
         acknowledged",
        "It holds until Mon 2 March 2026, 12:00 UTC at least.",
        "not lifted by Tue 3 March 2026, 12:00 UTC, the termination of the account follows",
        "How to reach us: abuse@host.example",
        "Reference: alice mvmcloud/2",
    ] {
        assert!(
            text.body.contains(said),
            "{said:?} is missing:\n{}",
            text.body
        );
    }
}

#[test]
fn hostile_values_stay_values() {
    let hostile =
        "{{ node }}\r\nBcc: everybody@example.org\r\n\r\n{% for x in range(9) %}\0\x1b[2J";
    let (text, fault) = Templates::default().render(&sanctioned(hostile, hostile));
    assert_eq!(fault, None);
    assert!(text.subject.contains("{{ node }}"), "{}", text.subject);
    assert!(!text.subject.contains(char::is_control));
    assert!(
        text.body.lines().all(|line| !line.starts_with("Bcc")),
        "{}",
        text.body
    );
    assert!(!text.body.contains(|c: char| c.is_control() && c != '\n'));
    let (text, _) = Templates::default().render(&sanctioned(&"ä".repeat(5_000), "x"));
    assert!(text.subject.chars().count() <= 180);
}

#[test]
fn a_file_takes_the_place_of_the_default_until_it_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::new(Some(directory.path().to_owned()));
    let file = directory.path().join("sanctioned.txt");
    let facts = sanctioned("alice", "php");
    let render = |text: &str| {
        fs::write(&file, text).unwrap();
        templates.render(&facts)
    };
    let (text, fault) = render("Subject: Hello\n {{ tenant }}\n\nUntil {{ until }}\n");
    assert_eq!((text.subject.as_str(), fault), ("Hello alice", None));
    assert_eq!(text.body, "Until Mon 2 March 2026, 12:00 UTC\n");

    for (bad, line, problem) in [
        ("Subject: a\n\n{{ tenent }}\n", 3, "undefined value"),
        ("Subject: a\n\n{% if %}\n", 3, "syntax error"),
        ("Hello\n\nb\n", 1, "does not start with"),
        ("Subject: a\nTo: b@example.org\n\nc\n", 2, "empty line"),
        ("Subject:\n\nb\n", 1, "subject is empty"),
        ("Subject: a\n\n", 0, "no text"),
        (
            "Subject: a\n\n{% include '/etc/passwd' %}\n",
            3,
            "syntax error",
        ),
        (
            "Subject: a\n\n{% for x in range(9999) %}{% for y in range(9999) %}x{% endfor %}{% endfor %}\n",
            3,
            "fuel",
        ),
        (
            "Subject: a\n\n{% for x in range(9999) %}{{ '0123456789' * 99 }}{% endfor %}\n",
            0,
            "longer than 128 KiB",
        ),
    ] {
        let (text, fault) = render(bad);
        let fault = fault.unwrap_or_else(|| panic!("{bad:?} is not refused"));
        assert!(fault.problem.contains(problem), "{bad:?}: {fault}");
        assert!(line == 0 || fault.line == line, "{bad:?}: {fault}");
        assert!(
            text.body.contains("How to get the service back"),
            "{}",
            text.body
        );
        let found = check(directory.path());
        assert_eq!(found.len(), 1, "{bad:?}: {found:?}");
        assert!(found[0].problem.contains(problem), "{found:?}");
    }
}

#[test]
fn check_finds_what_only_some_notices_would() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert_eq!(check(directory.path()), []);
    for kind in Kind::ALL {
        fs::write(path(kind.file()), kind.default_text()).unwrap();
    }
    assert_eq!(check(directory.path()), []);
    // `then` is null in some.
    fs::write(path("warned.txt"), "Subject: a\n\n{{ then.at }}\n").unwrap();
    fs::write(path("lifted.text"), "not looked at").unwrap();
    fs::write(path("liftd.txt"), "x").unwrap();
    fs::remove_file(path("overdue.txt")).unwrap();
    fs::create_dir(path("overdue.txt")).unwrap();
    fs::write(path("digest.txt"), vec![b'x'; 100_000]).unwrap();
    let found: Vec<String> = check(directory.path())
        .iter()
        .map(|fault| {
            fault
                .to_string()
                .replace(directory.path().to_str().unwrap(), "")
        })
        .collect();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("/digest.txt") && found[0].contains("larger than 64 KiB"));
    assert!(found[1].starts_with("/liftd.txt") && found[1].contains("did you mean lifted.txt?"));
    assert!(found[2].starts_with("/overdue.txt") && found[2].contains("is not a file"));
    assert!(
        found[3].starts_with("/warned.txt:3:1: warning: undefined"),
        "{}",
        found[3]
    );
    assert_eq!(check(&path("nowhere")).len(), 1);
}

#[test]
fn many_become_one() {
    let facts = [sanctioned("alice", "php"), sanctioned("alice", "perl")];
    let (text, fault) = Templates::default().digest(&facts);
    assert_eq!(fault, None);
    assert_eq!(text.subject, "alice (web-17): 2 notices");
    assert!(
        text.body.contains("php") && text.body.contains("perl"),
        "{}",
        text.body
    );
}

#[test]
fn what_is_provisional_is_not_final_and_what_still_holds_is_said() {
    let pending = NoticeEvent::Sanctioned {
        sanction: Sanction::SuspendNetwork,
        severity: None,
        offence: 1,
        until: None,
        lift: Lift::All([Condition::Never].into()),
        note: Vec::new(),
        then: None,
        pending: Some(crate::offence::Pending {
            sanction: Sanction::Terminate,
            deadline: Some(Moment(3_600_000)),
        }),
    };
    let (text, fault) =
        Templates::default().render(&sample::facts(Audience::Contact, pending, true));
    assert_eq!(fault, None);
    assert!(!text.body.contains("final"), "{}", text.body);
    for said in [
        "This is provisional",
        "Thu 1 January 1970, 01:00 UTC at the latest",
    ] {
        assert!(text.body.contains(said), "{said}: {}", text.body);
    }
    let over = |still: Vec<Sanction>| {
        let event = NoticeEvent::Lifted {
            sanction: Sanction::BlockSmtp,
            how: How::Reinstated,
            still,
        };
        let facts = sample::facts(Audience::Contact, event, true);
        Templates::default().render(&facts).0.body
    };
    let said = "What still holds: a suspension of mail";
    assert!(over(vec![Sanction::SuspendMail]).contains(said));
    assert!(!over(Vec::new()).contains("still holds"));
}

#[test]
fn an_operators_words_are_not_for_the_customer() {
    let lines = [EvidenceLine::new(
        EvidenceKind::Word,
        "found by us: severe: a liar (root)",
        0,
    )];
    let notice = |to| Notice {
        to,
        tenant: "alice".to_owned(),
        policy: None,
        case: None,
        event: NoticeEvent::Undecided {
            sanction: Sanction::Terminate,
        },
    };
    let context = Context {
        id: "1",
        sequence: 1,
        node: "web-17",
        parent: None,
        operator: &[],
        evidence: &lines,
        at: Moment(0),
        time: jiff::Timestamp::UNIX_EPOCH,
    };
    let says = |to| {
        Facts::new(&notice(to), &context).evidence[0]
            .what
            .contains("a liar")
    };
    assert!(says(Audience::Operator));
    assert!(!says(Audience::Contact) && !says(Audience::Parent));
}

#[test]
fn what_is_not_carried_out_and_was_not_refused_is_said() {
    let opened = Facts {
        opened_until: Some("2026-03-01T12:30:00Z".parse().unwrap()),
        ..sanctioned("alice", "php")
    };
    let (text, fault) = Templates::default().render(&opened);
    assert_eq!(fault, None);
    let words = "It is on record, and is not carried out before";
    assert!(text.body.contains(words), "{}", text.body);
    let (text, _) = Templates::default().render(&sanctioned("alice", "php"));
    assert!(!text.body.contains(words), "{}", text.body);
    let mut let_out = sanctioned("alice", "php");
    let line = EvidenceLine {
        let_out: 7,
        ..EvidenceLine::new(EvidenceKind::Violation, "attempts", 7)
    };
    let_out.evidence = vec![line.clone()];
    let (text, _) = Templates::default().render(&let_out);
    assert!(
        text.body.contains("* 7 x attempts (not refused)"),
        "{}",
        text.body
    );
    let_out.evidence = vec![EvidenceLine { let_out: 2, ..line }];
    let (text, _) = Templates::default().render(&let_out);
    assert!(
        text.body.contains("* 7 x attempts (2 not refused)"),
        "{}",
        text.body
    );
}
