//! Who a question of `explain` is about: the identities that the kernel would see.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use limiter_common::{abi::DENSE_UIDS, owner::Owner};

use super::View;
use crate::{control::node::NodeError, kernel::KernelError, report::explain::Subject};

/// The identities that the kernel would see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The uid, if it is known.
    pub uid: Option<u32>,
    /// The cgroup below the mount, if it is known.
    pub cgroup: Option<String>,
    /// Whether it is in another network namespace than the node's: uids mean nothing there.
    pub foreign: bool,
}

/// Whose it is, and by which match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub owner: Owner,
    pub by: String,
}

impl Identity {
    pub(super) fn of(subject: &Subject) -> Result<Self, NodeError> {
        match subject {
            Subject::Uid(uid) => Ok(Self {
                uid: Some(*uid),
                ..Self::default()
            }),
            Subject::Cgroup(path) => Ok(Self {
                cgroup: Some(path.clone()),
                ..Self::default()
            }),
            Subject::Pid(pid) => of_process(*pid),
            Subject::Interface(_) | Subject::From(_) => Err(NodeError::Invalid {
                what: "this version judges connections by process (uid, cgroup), not by interface \
                       or address; ask with --uid, --pid or --cgroup"
                    .to_owned(),
            }),
        }
    }
}

fn of_process(pid: u32) -> Result<Identity, NodeError> {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NodeError::NotFound {
                what: format!("there is no process {pid}"),
            },
            _ => NodeError::Failed {
                what: format!("/proc/{pid}/{name}: {error}"),
                remedy: "ask as root".to_owned(),
            },
        })
    };
    let uid = read("status")?
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|uids| uids.split_whitespace().next()?.parse().ok());
    let cgroup = read("cgroup")?
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(ToOwned::to_owned);
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let foreign = namespace(&pid.to_string()) != namespace("self");
    Ok(Identity {
        uid,
        cgroup,
        foreign,
    })
}

impl View<'_> {
    /// Whose an identity is, in the order in which the kernel looks.
    pub(super) fn find(&self, identity: &Identity) -> Result<Found, NodeError> {
        let by_uid = match identity.uid {
            Some(uid) if !identity.foreign => self.find_uid(uid)?,
            _ => None,
        };
        if let Some(found) = &by_uid
            && found.owner == Owner::MTA
        {
            return Ok(found.clone());
        }
        if let Some(path) = &identity.cgroup
            && let Some(found) = self.find_cgroup(path)?
        {
            return Ok(found);
        }
        Ok(by_uid.unwrap_or_else(|| Found {
            owner: Owner::NOBODY,
            by: match (identity.uid, identity.foreign) {
                (Some(uid), true) => format!(
                    "nobody claims it: default (uid {uid} of another network namespace is not \
                     the node's uid {uid})"
                ),
                _ => "nobody claims it: default".to_owned(),
            },
        }))
    }

    fn find_uid(&self, uid: u32) -> Result<Option<Found>, KernelError> {
        let wire = if uid < DENSE_UIDS {
            Some(self.maps.uids.get(uid)?)
        } else {
            self.maps.uid_ranges.get(32, uid.to_be_bytes())?
        };
        let owner = Owner::from_wire(wire.unwrap_or(0));
        if owner == Owner::NOBODY {
            return Ok(None);
        }
        let binding = self.image.and_then(|image| {
            image
                .uids
                .iter()
                .find(|b| b.range.first <= uid && uid <= b.range.last)
        });
        let by = match binding {
            Some(binding) => format!("uid {uid} ({})", binding.by),
            None => format!("uid {uid}"),
        };
        Ok(Some(Found { owner, by }))
    }

    fn find_cgroup(&self, path: &str) -> Result<Option<Found>, NodeError> {
        let mut directory = self.cgroup_mount.join(path.trim_start_matches('/'));
        if !directory.is_dir() {
            return Err(NodeError::NotFound {
                what: format!(
                    "there is no cgroup {path} below {}",
                    self.cgroup_mount.display()
                ),
            });
        }
        let asked = directory.clone();
        while directory.starts_with(self.cgroup_mount) && directory != self.cgroup_mount {
            let id = inode(&directory)?;
            if let Some(wire) = self.maps.cgroups.get(&id)? {
                let shown = shown(&directory, self.cgroup_mount);
                let mut by = format!("cgroup {shown}");
                if let Some(image) = self.image
                    && let Some(binding) = image.cgroups.iter().find(|b| b.id == id)
                    && binding.by != by
                {
                    by = format!("{by} ({})", binding.by);
                }
                if directory != asked {
                    by = format!("{by}, the nearest that is claimed");
                }
                return Ok(Some(Found {
                    owner: Owner::from_wire(wire),
                    by,
                }));
            }
            if !directory.pop() {
                break;
            }
        }
        Ok(None)
    }
}

fn inode(directory: &PathBuf) -> Result<u64, NodeError> {
    fs::metadata(directory)
        .map(|metadata| metadata.ino())
        .map_err(|error| NodeError::Failed {
            what: format!("{}: {error}", directory.display()),
            remedy: "ask again; it may just have been removed".to_owned(),
        })
}

fn shown(directory: &Path, mount: &Path) -> String {
    let below = directory.strip_prefix(mount).unwrap_or(directory);
    format!("/{}", below.display())
}
