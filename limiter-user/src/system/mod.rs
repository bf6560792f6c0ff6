//! Facts about this machine that a policy needs before it can stand in the kernel (users, cgroups,
//! addresses, mounts), and a watcher that says when they change.
//!
//! Whoever follows the machine points the [`watch::Watcher`] at the policy first and takes the
//! [`System::snapshot`] afterwards: what changes in between is then reported, never missed.

pub mod addresses;
pub mod cgroups;
pub mod clock;
pub mod durable;
pub mod interfaces;
pub mod mounts;
pub mod namespace;
pub mod patience;
pub mod pattern;
pub mod sealed;
pub mod sessions;
pub mod socket_file;
#[cfg(test)]
pub(crate) mod testing;
pub mod users;
pub mod watch;

use std::{io, net::IpAddr, path::PathBuf};

pub use self::{
    cgroups::{Cgroup, Cgroups},
    mounts::MountError,
    users::Users,
};
use crate::policy::model::{Origin, Policy};

/// Where the facts are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The users: `/etc/passwd`.
    pub passwd: PathBuf,
    /// Their sub-uid ranges: `/etc/subuid`. It may be missing.
    pub subuid: PathBuf,
    /// Where the cgroup v2 tree is mounted.
    pub cgroup_mount: PathBuf,
}

impl Sources {
    /// The sources of this machine.
    ///
    /// # Errors
    /// When no cgroup v2 tree is mounted.
    pub fn find() -> Result<Self, MountError> {
        Ok(Self {
            passwd: PathBuf::from("/etc/passwd"),
            subuid: PathBuf::from("/etc/subuid"),
            cgroup_mount: mounts::find_cgroup2()?,
        })
    }
}

/// What the machine was like at one moment, as far as a policy asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// The users, with those the policy names and only the name service knows.
    pub users: Users,
    /// The cgroups that the policy's patterns match.
    pub cgroups: Cgroups,
    /// The addresses of the node's interfaces, IPv4 and IPv6, link-local ones included, without
    /// loopback: sorted, each once.
    pub own_addresses: Vec<IpAddr>,
    /// What was odd about the sources and has been left out.
    pub warnings: Vec<Warning>,
}

/// Something odd about a source, and what was done about it. It is never fatal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file and line, or the file alone.
    pub origin: Origin,
    /// What is odd.
    pub problem: String,
    /// What was done, or what to do.
    pub advice: String,
}

/// Why the machine could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// A source could not be read.
    #[error("cannot read {path}: {source}; the agent must run as root on the node itself", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The users are not all there.
    #[error("{path} names nobody with uid 0: it is being rewritten, or damaged", path = path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
    /// The interfaces' addresses could not be listed.
    #[error("cannot list the addresses of the node's interfaces (getifaddrs): {0}")]
    Addresses(#[source] io::Error),
}

impl System {
    /// Looks at the machine, as far as `policy` asks.
    ///
    /// It reads files, walks those cgroups that can match, and asks the name service for users
    /// that `/etc/passwd` does not know: it may block, call it where that is allowed.
    ///
    /// # Errors
    /// When the users, the cgroups or the addresses cannot be read at all. Single lines that make
    /// no sense, and a name service that does not answer, are [warnings](Self::warnings).
    pub fn snapshot(policy: &Policy, sources: &Sources) -> Result<Self, SystemError> {
        let mut warnings = Vec::new();
        let mut users = Users::read(&sources.passwd, &sources.subuid, &mut warnings)?;
        // Whoever rewrites it in place leaves it empty for a moment: nobody is gone then.
        if users.name_of(0).is_none() {
            return Err(SystemError::Incomplete {
                path: sources.passwd.clone(),
            });
        }
        users.complete(named_users(policy), &policy.places.config, &mut warnings);
        Ok(Self {
            users,
            cgroups: Cgroups::resolve(&sources.cgroup_mount, cgroup_patterns(policy))?,
            own_addresses: addresses::own_addresses().map_err(SystemError::Addresses)?,
            warnings,
        })
    }
}

/// The users that a policy names.
fn named_users(policy: &Policy) -> impl Iterator<Item = &str> {
    let mta = policy.node.mta.users.iter().flatten();
    let services = &policy.node.services;
    let callers = services.allowed_users.iter().flatten();
    let programs = services.filters.iter().chain(&services.lists);
    let tenants = policy
        .tenants
        .iter()
        .flat_map(|tenant| &tenant.matches.users)
        .map(|user| user.value.as_str());
    mta.chain(callers)
        .chain(programs)
        .map(String::as_str)
        .chain(tenants)
}

/// The cgroup patterns of a policy.
pub fn cgroup_patterns(policy: &Policy) -> impl Iterator<Item = &str> {
    policy
        .tenants
        .iter()
        .flat_map(|tenant| &tenant.matches.cgroups)
        .map(|cgroup| cgroup.value.as_str())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        policy::compile::testing::{located, policy, tenant},
        system::testing::TestCgroup,
    };

    #[test]
    fn a_snapshot_holds_what_the_policy_asks_for() {
        let Some(cgroup) = TestCgroup::make() else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            passwd: directory.path().join("passwd"),
            subuid: directory.path().join("subuid"),
            cgroup_mount: Sources::find().unwrap().cgroup_mount,
        };
        fs::write(
            &sources.passwd,
            "toor:x:0:0:::\nalice:x:2001:2001:::\nnonsense\n",
        )
        .unwrap();
        fs::write(&sources.subuid, "alice:100000:65536\n").unwrap();
        let mut policy = policy();
        let mut one = tenant("one");
        let pattern = format!("/{}*", cgroup.name);
        // The file knows no root; the name service does.
        one.matches.users = vec![located("root".to_owned()), located("alice".to_owned())];
        one.matches.cgroups = vec![located(pattern.clone())];
        policy.tenants.push(one);

        let system = System::snapshot(&policy, &sources).unwrap();
        assert_eq!(system.users.uid_of("alice"), Some(2001));
        assert_eq!(system.users.uid_of("root"), Some(0));
        assert_eq!(system.users.sub_uids_of(2001).len(), 1);
        assert_eq!(system.cgroups.matching(&pattern).len(), 1);
        assert_eq!(system.own_addresses, addresses::own_addresses().unwrap());
        assert_eq!(system.warnings.len(), 1);
        assert_eq!(system, System::snapshot(&policy, &sources).unwrap());

        cgroup.remove();
        let system = System::snapshot(&policy, &sources).unwrap();
        assert!(system.cgroups.matching(&pattern).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            passwd: directory.path().join("passwd"),
            subuid: directory.path().join("subuid"),
            cgroup_mount: directory.path().join("cgroup"),
        };
        let error = System::snapshot(&policy(), &sources).unwrap_err();
        assert!(error.to_string().contains("passwd"), "{error}");
        fs::write(&sources.passwd, "").unwrap();
        let error = System::snapshot(&policy(), &sources).unwrap_err();
        assert!(error.to_string().contains("being rewritten"), "{error}");
        fs::write(&sources.passwd, "root:x:0:0:::\n").unwrap();
        let error = System::snapshot(&policy(), &sources).unwrap_err();
        assert!(error.to_string().contains("/cgroup"), "{error}");
    }
}
