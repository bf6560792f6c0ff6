//! Notices that never happened, to try templates on: one that knows everything and one that knows
//! as little as can be, of every event and for every audience.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Kind, view};
use crate::{
    notice::{
        evidence::{EvidenceKind, EvidenceLine},
        facts::{Context, Facts},
    },
    offence::{
        Audience, Condition, How, Lift, Moment, Notice, NoticeEvent, Pending, Sanction, Severity,
    },
};

/// What a template of this kind may have to speak of.
pub(super) fn views(kind: Kind) -> Vec<Value> {
    let mut views: Vec<Value> = all()
        .iter()
        .filter(|facts| kind == Kind::Digest || Kind::of(facts) == kind)
        .map(view::of)
        .collect();
    if kind == Kind::Digest {
        for view in &mut views {
            view["count"] = 2.into();
            view["notices"] = json!([{"subject": "a", "body": "b"}, {"subject": "c", "body": "d"}]);
        }
    }
    views
}

/// Notices of every kind.
pub(super) fn all() -> Vec<Facts> {
    let mut found = Vec::new();
    for rich in [true, false] {
        for event in events(rich) {
            for to in [Audience::Contact, Audience::Parent, Audience::Operator] {
                found.push(facts(to, event.clone(), rich));
            }
        }
    }
    let undelivered: Vec<Facts> = found
        .iter()
        .map(|facts| facts.undelivered("owner@example.org", "550 unknown", facts.time))
        .collect();
    found.extend(undelivered);
    found
}

/// One notice.
pub(in crate::notice) fn facts(to: Audience, event: NoticeEvent, rich: bool) -> Facts {
    let operator = ["abuse@host.example".to_owned()];
    let now = Timestamp::UNIX_EPOCH;
    let evidence = [EvidenceLine {
        first: Some(now),
        last: Some(now),
        from: vec!["/usr/bin/php".to_owned(), "203.0.113.7".to_owned()],
        ..EvidenceLine::new(EvidenceKind::Violation, "attempts to send", 120)
    }];
    let notice = Notice {
        to,
        tenant: "alice".to_owned(),
        policy: rich.then(|| "hostup".to_owned()),
        case: rich.then_some(3),
        event,
    };
    let context = Context {
        id: "web-17-1",
        sequence: 1,
        node: "web-17",
        parent: rich.then_some("reseller-7"),
        operator: if rich { &operator } else { &[] },
        evidence: if rich { &evidence } else { &[] },
        at: Moment(0),
        time: now,
    };
    Facts {
        in_place_of: rich.then_some(Audience::Contact),
        evidence_more: usize::from(rich),
        ..Facts::new(&notice, &context)
    }
}

fn events(rich: bool) -> Vec<NoticeEvent> {
    let later = rich.then_some(Moment(86_400_000));
    let mut events: Vec<NoticeEvent> = Sanction::WORDS
        .iter()
        .flat_map(|(_, sanction)| {
            let sanction = *sanction;
            [
                NoticeEvent::Sanctioned {
                    sanction,
                    severity: rich.then_some(Severity::Severe),
                    offence: u32::from(rich),
                    until: later,
                    lift: if rich {
                        Lift::All([Condition::Time, Condition::Review].into())
                    } else {
                        Lift::Any([].into())
                    },
                    note: if rich {
                        vec!["A note.".to_owned()]
                    } else {
                        Vec::new()
                    },
                    then: later.map(|at| (Sanction::Terminate, at)),
                    pending: None,
                },
                NoticeEvent::Sanctioned {
                    sanction,
                    severity: None,
                    offence: 0,
                    until: None,
                    lift: Lift::Any([].into()),
                    note: Vec::new(),
                    then: None,
                    pending: Some(Pending {
                        sanction: Sanction::Terminate,
                        deadline: later,
                    }),
                },
                NoticeEvent::Proposed {
                    sanction,
                    deadline: later,
                    meanwhile: rich.then_some(Sanction::BlockSmtp),
                    observed: !rich,
                },
            ]
        })
        .collect();
    let hows = [
        How::Rule,
        How::Reinstated,
        How::Acquitted,
        How::Rejected,
        How::Superseded,
    ];
    let still = if rich {
        vec![Sanction::Warn, Sanction::SuspendMail]
    } else {
        Vec::new()
    };
    events.extend(hows.into_iter().flat_map(|how| {
        [
            NoticeEvent::Lifted {
                sanction: Sanction::BlockSmtp,
                how,
                still: still.clone(),
            },
            NoticeEvent::Dropped {
                sanction: Sanction::Terminate,
                how,
                still: still.clone(),
            },
        ]
    }));
    events.push(NoticeEvent::Undecided {
        sanction: Sanction::NullRoute,
    });
    events.push(NoticeEvent::Overdue {
        complaint: "c-17".to_owned(),
        clock: "acknowledge".to_owned(),
    });
    events.push(NoticeEvent::Unassigned {
        complaint: "c-18".to_owned(),
        why: "2 tenants sent from the shared address at that time".to_owned(),
        waiting: 2,
    });
    events
}
