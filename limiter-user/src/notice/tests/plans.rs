//! Who is told.

use crate::{
    notice::{Channel, Contacts, Facts, Planned, plan, template::sample},
    offence::{Audience, Condition, How, Lift, NoticeEvent, Sanction},
    policy::notices::{ExecSettings, Notices, WebhookSettings},
};

fn notice(to: Audience) -> Facts {
    let event = NoticeEvent::Lifted {
        sanction: Sanction::BlockSmtp,
        how: How::Rule,
        still: Vec::new(),
    };
    Facts {
        in_place_of: None,
        ..sample::facts(to, event, true)
    }
}

fn settings() -> Notices {
    Notices {
        operator: vec!["ops@host.example".to_owned()],
        ..Notices::default()
    }
}

fn mails(planned: &[Planned]) -> Vec<(&str, Audience, Option<Audience>)> {
    let mails = planned.iter().filter_map(|planned| match &planned.channel {
        Channel::Mail { to } => Some((
            to.as_str(),
            planned.facts.audience,
            planned.facts.in_place_of,
        )),
        _ => None,
    });
    mails.collect()
}

#[test]
fn whoever_has_no_address_is_stood_in_for_and_that_is_said() {
    let tenant = ["a@alice.example".to_owned(), "b@alice.example".to_owned()];
    let parent = ["r@reseller.example".to_owned()];
    let told = |to, tenant: &[String], parent: &[String]| {
        let contacts = Contacts {
            tenant,
            parent,
            domains: &[],
        };
        let planned = plan(&[notice(to)], &settings(), |_| contacts);
        let mails = mails(&planned).into_iter();
        mails
            .map(|(to, audience, instead)| (to.to_owned(), audience, instead))
            .collect::<Vec<_>>()
    };
    use Audience::{Contact, Operator, Parent};
    assert_eq!(
        told(Contact, &tenant, &parent),
        [
            ("a@alice.example".to_owned(), Contact, None),
            ("b@alice.example".to_owned(), Contact, None)
        ]
    );
    assert_eq!(
        told(Contact, &[], &parent),
        [("r@reseller.example".to_owned(), Parent, Some(Contact))]
    );
    let operator = |instead| [("ops@host.example".to_owned(), Operator, instead)];
    assert_eq!(told(Contact, &[], &[]), operator(Some(Contact)));
    assert_eq!(told(Parent, &tenant, &[]), operator(Some(Parent)));
    assert_eq!(told(Operator, &tenant, &parent), operator(None));
}

#[test]
fn machines_hear_of_an_event_once_and_nobody_gets_it_twice() {
    let settings = Notices {
        webhook: Some(WebhookSettings {
            url: "http://127.0.0.1/".to_owned(),
            key_file: None,
            timeout: WebhookSettings::TIMEOUT,
        }),
        exec: Some(ExecSettings {
            path: "/bin/true".into(),
            user: ExecSettings::USER.to_owned(),
            timeout: ExecSettings::TIMEOUT,
        }),
        ..settings()
    };
    let notices = [
        notice(Audience::Contact),
        notice(Audience::Parent),
        notice(Audience::Operator),
    ];
    assert_eq!(notices[0].event_id, notices[2].event_id);
    // The owner is the operator too, and writes it in another way.
    let tenant = ["Ops@Host.example".to_owned()];
    let contacts = |_: &Facts| Contacts {
        tenant: &tenant,
        parent: &[],
        domains: &[],
    };
    let planned = plan(&notices, &settings, contacts);
    let count = |channel: &Channel| planned.iter().filter(|p| p.channel == *channel).count();
    assert_eq!(count(&Channel::Webhook), 1);
    assert_eq!(count(&Channel::Exec), 1);
    assert_eq!(
        mails(&planned),
        [("Ops@Host.example", Audience::Contact, None)]
    );
    assert_eq!(planned.len(), 3);
    // Another event is another event.
    let other = Facts {
        event_id: "other".to_owned(),
        ..notice(Audience::Contact)
    };
    let planned = plan(&[notices[0].clone(), other], &settings, contacts);
    assert_eq!(planned.len(), 6);
    assert!(plan(&notices, &Notices::off(), contacts).is_empty());
}

/// A mailbox that is suspended is read by nobody.
#[test]
fn whoever_cannot_read_its_mail_now_is_told_by_others_too() {
    let event = |sanction| NoticeEvent::Sanctioned {
        sanction,
        severity: None,
        offence: 1,
        until: None,
        lift: Lift::Any([Condition::Contact].into()),
        note: Vec::new(),
        then: None,
        pending: None,
    };
    let own = ["me@mail.Alice.example".to_owned()];
    let domains = ["alice.example".to_owned()];
    let told = |sanction, tenant: &[String]| {
        let facts = Facts {
            in_place_of: None,
            ..sample::facts(Audience::Contact, event(sanction), true)
        };
        let contacts = Contacts {
            tenant,
            parent: &[],
            domains: &domains,
        };
        let planned = plan(&[facts], &settings(), |_| contacts);
        let mails = mails(&planned).into_iter();
        mails
            .map(|(_, audience, instead)| (audience, instead))
            .collect::<Vec<_>>()
    };
    let contact = (Audience::Contact, None);
    let operator = (Audience::Operator, Some(Audience::Contact));
    assert_eq!(told(Sanction::BlockSmtp, &own), [contact]);
    assert_eq!(told(Sanction::SuspendMail, &own), [contact, operator]);
    let elsewhere = ["me@notalice.example".to_owned()];
    assert_eq!(told(Sanction::SuspendMail, &elsewhere), [contact]);
}

#[test]
fn a_parent_that_is_none_is_not_told_and_nobody_in_its_place() {
    let orphan = Facts {
        parent: None,
        ..notice(Audience::Parent)
    };
    let planned = plan(&[orphan], &settings(), |_| Contacts::default());
    assert_eq!(mails(&planned), []);
    let planned = plan(&[notice(Audience::Parent)], &settings(), |_| {
        Contacts::default()
    });
    assert_eq!(mails(&planned).len(), 1, "it has one, without an address");
}
