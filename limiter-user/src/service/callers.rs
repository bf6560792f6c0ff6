//! Who may ask.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    policy::{
        compile::LAST_SYSTEM_UID,
        image::{Holder, Image},
        services::Services,
    },
    system::Users,
};

/// The user of Dovecot's processes that ask.
const DOVECOT: &str = "dovecot";

/// The users that may ask, as they come and go.
#[derive(Debug, Default)]
pub struct Callers(RwLock<Arc<BTreeSet<u32>>>);

impl Callers {
    /// These, and root.
    #[must_use]
    pub fn new(uids: BTreeSet<u32>) -> Self {
        let callers = Self::default();
        callers.change(uids);
        callers
    }

    /// From now on these, and root.
    pub fn change(&self, mut uids: BTreeSet<u32>) {
        uids.insert(0);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(uids);
    }

    /// All who may ask.
    #[must_use]
    pub fn all(&self) -> Arc<BTreeSet<u32>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this user may.
    #[must_use]
    pub fn may(&self, uid: u32) -> bool {
        self.all().contains(&uid)
    }
}

/// Who may ask by this configuration: those it names, or else the users of the MTA and of Dovecot, as
/// far as they exist.
#[must_use]
pub fn allowed(services: &Services, image: &Image, users: &Users) -> BTreeSet<u32> {
    if let Some(named) = &services.allowed_users {
        return named.iter().filter_map(|name| users.uid_of(name)).collect();
    }
    let mta = image
        .uids
        .iter()
        .filter(|binding| binding.holder == Holder::Mta)
        .flat_map(|binding| binding.range.first..=binding.range.last);
    // One above is a customer who chose its name.
    let dovecot = users.uid_of(DOVECOT).filter(|uid| *uid <= LAST_SYSTEM_UID);
    mta.chain(dovecot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::compile::{compile_what_holds, testing},
        system::System,
    };

    fn users() -> Users {
        let mut users = Users::default();
        for (name, uid) in [
            ("root", 0),
            ("postfix", 102),
            ("Debian-exim", 2_001),
            ("dovecot", 110),
            ("alice", 2_002),
        ] {
            users.insert(name, uid);
        }
        users
    }

    fn allowed_by(services: &Services) -> BTreeSet<u32> {
        let mut policy = testing::policy();
        policy.node.mta.users = None;
        let system = System {
            users: users(),
            ..System::default()
        };
        let (image, _) = compile_what_holds(&policy, &system);
        allowed(services, &image, &users())
    }

    #[test]
    fn the_mail_programs_of_the_node_may_ask() {
        // Not the customer who called himself Debian-exim.
        assert_eq!(allowed_by(&Services::default()), BTreeSet::from([102, 110]));
        let named = Services {
            allowed_users: Some(vec!["alice".to_owned(), "gone".to_owned()]),
            ..Services::default()
        };
        assert_eq!(allowed_by(&named), BTreeSet::from([2_002]));
    }

    #[test]
    fn root_may_always() {
        let callers = Callers::new(BTreeSet::from([102]));
        assert!(callers.may(0) && callers.may(102) && !callers.may(2_001));
        callers.change(BTreeSet::new());
        assert!(callers.may(0) && !callers.may(102));
    }
}
