//! The system's names of users and groups, best effort.

use nix::unistd::Group;

use crate::system::users::lookup_uid;

/// The name of the user `uid`, if the system knows one. May ask a directory service.
pub fn user_name(uid: u32) -> Option<String> {
    match lookup_uid(uid) {
        Ok(user) => Some(user?.name),
        Err(error) => {
            log::debug!("cannot look uid {uid} up: {error}");
            None
        }
    }
}

/// The id of the group `name`, if there is one.
pub fn group_id(name: &str) -> Option<u32> {
    match Group::from_name(name) {
        Ok(group) => Some(group?.gid.as_raw()),
        Err(error) => {
            log::debug!("cannot look the group {name} up: {error}");
            None
        }
    }
}
