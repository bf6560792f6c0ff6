//! The users of the node's MTA. What they send is neither refused nor counted by the kernel, so
//! nobody becomes one by accident.

use super::uids::{By, Claim};
use crate::{
    policy::{
        fault::Fault,
        image::Holder,
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
