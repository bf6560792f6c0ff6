//! The users of the node's MTA. What they send is neither refused nor counted by the kernel, so
//! nobody becomes one by accident.

use super::uids::{By, Claim};
use crate::{
    policy::{
        fault::Fault,
        image::{Holder, ImageTenant, UidBinding},
        model::{Origin, Policy, UidRange},
    },
    system::Users,
};

/// The users that are taken for the MTA's where `mta.users` names none, if they exist: those under
/// which a mail server opens its connections to other hosts.
///
/// Not among them: the users of submission programs and queues, which open none (`smmsp`, `smtpq`,
/// `qmails`); users that other programs run under as well (`mail`, `daemon`, `nobody`); and
/// sendmail, which sends as root unless `RunAsUser` is set, since root is never the MTA.
pub const KNOWN_MTA_USERS: &[&str] = &[
    // Postfix, everywhere: smtp(8) runs as mail_owner.
    "postfix",
    // Exim on Debian and its children.
    "Debian-exim",
    // Exim on Red Hat and its children, SUSE, Arch and Alpine.
    "exim",
    // Exim under cPanel.
    "mailnull",
    // OpenSMTPD: Debian; as published, and Void; Red Hat, Arch and Alpine.
    "opensmtpd",
    "_smtpd",
    "smtpd",
    // qmail and its heirs: qmail-remote.
    "qmailr",
    // Courier: courieresmtp.
    "courier",
];

/// Above this uid a user is a customer that may have chosen its name, not a part of the system
/// (SYS_UID_MAX of login.defs(5) everywhere).
pub const LAST_SYSTEM_UID: u32 = 999;

/// A user of the MTA.
pub(super) struct MtaUser<'a> {
    name: &'a str,
    uid: u32,
}

/// The users of the MTA: those the policy names, or else the known ones that exist.
pub(super) fn users<'a>(
    policy: &'a Policy,
    users: &Users,
    origin: &Origin,
    faults: &mut Vec<Fault>,
) -> Vec<MtaUser<'a>> {
    let mut found = Vec::new();
    let Some(named) = &policy.node.mta.users else {
        for &name in KNOWN_MTA_USERS {
            match users.uid_of(name) {
                None | Some(0) => {}
                Some(uid) if uid > LAST_SYSTEM_UID => faults.push(Fault::warning(
                    origin,
                    format!(
                        "mta.users: the user {name} is not taken for the MTA, since its uid {uid} \
                         is not one of the system's (1-{LAST_SYSTEM_UID})"
                    ),
                    "if it is the MTA, name it in mta.users; if not, name those that are",
                )),
                Some(uid) => found.push(MtaUser { name, uid }),
            }
        }
        return found;
    };
    for name in named {
        match users.uid_of(name) {
            None => faults.push(Fault::warning(
                origin,
                format!("mta.users: there is no user {name}"),
                "it is bound when it appears; this list replaces the built-in one, so an MTA that runs \
                 as another user is not exempt",
            )),
            Some(0) => faults.push(Fault::error(
                origin,
                format!("mta.users: the user {name} has uid 0"),
                "users other than root: the MTA's own, which everything else that runs as root is not",
            )),
            Some(uid) => found.push(MtaUser { name, uid }),
        }
    }
    found
}

/// What the MTA claims: its uids. The sub-uid ranges of its users are not the MTA.
pub(super) fn claims<'a>(users: &[MtaUser<'a>], origin: &'a Origin) -> Vec<Claim<'a>> {
    users
        .iter()
        .map(|&MtaUser { name, uid }| Claim {
            range: UidRange {
                first: uid,
                last: uid,
            },
            holder: Holder::Mta,
            by: By::MtaUser(name),
            origin,
            of_account: false,
        })
        .collect()
}

/// Says which users of `services.filters` and `services.lists` are not what they are named for. A tenant's
/// stays a tenant's, whatever the lists say.
pub(super) fn check_programs(
    policy: &Policy,
    users: &Users,
    bindings: &[UidBinding],
    tenants: &[ImageTenant],
    origin: &Origin,
    faults: &mut Vec<Fault>,
) {
    let services = &policy.node.services;
    for (key, names) in [("filters", &services.filters), ("lists", &services.lists)] {
        for name in names {
            let Some(uid) = users.uid_of(name) else {
                faults.push(Fault::warning(
                    origin,
                    format!("services.{key}: there is no user {name}"),
                    "it is known when it appears",
                ));
                continue;
            };
            let whose = bindings
                .iter()
                .find(|it| (it.range.first..=it.range.last).contains(&uid));
            let why = match whose.map(|it| it.holder) {
                _ if uid == 0 => "has uid 0".to_owned(),
                Some(Holder::Mta) => "is one of the mail server's own".to_owned(),
                Some(Holder::Tenant(tenant)) => match tenants.get(tenant) {
                    Some(tenant) => format!("is {}'s", tenant.name),
                    None => continue,
                },
                None => continue,
            };
            faults.push(Fault::error(
                origin,
                format!("services.{key}: the user {name} {why}"),
                "a user that the program has for itself",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::compile::{
            compile_what_holds,
            testing::{located, policy, tenant},
        },
        system::System,
    };

    #[test]
    fn programs_that_hand_mail_on_have_users_of_their_own() {
        let mut policy = policy();
        let names = ["amavis", "gone", "toor", "postfix"];
        policy.node.mta.users = Some(vec!["postfix".to_owned()]);
        policy.node.services.filters = names.map(str::to_owned).to_vec();
        policy.node.services.lists = vec!["alice".to_owned()];
        let mut alice = tenant("alice");
        alice.matches.users = vec![located("alice".to_owned())];
        policy.tenants = vec![alice];
        let mut users = Users::default();
        for (name, uid) in [
            ("toor", 0),
            ("postfix", 109),
            ("amavis", 120),
            ("alice", 2_001),
        ] {
            users.insert(name, uid);
        }
        let system = System {
            users,
            ..System::default()
        };
        let (_, faults) = compile_what_holds(&policy, &system);
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let about: Vec<&str> = faults
            .iter()
            .filter_map(|fault| Some(fault.split_once("services.")?.1.split_once(';')?.0))
            .collect();
        assert_eq!(
            about,
            [
                "filters: there is no user gone",
                "filters: the user toor has uid 0",
                "filters: the user postfix is one of the mail server's own",
                "lists: the user alice is alice's",
            ],
            "{faults:?}"
        );
    }
}
