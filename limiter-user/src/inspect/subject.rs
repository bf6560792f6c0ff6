//! Who a question of `explain` is about: the identities that the kernel would see.

use std::{
    ffi::CString,
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use limiter_common::{
    abi::DENSE_UIDS,
    address::{self, Address},
    flow::interface_flags,
    owner::Owner,
    verdict::Layer,
};

use super::View;
use crate::{
    control::node::NodeError,
    kernel::{KernelError, identities::wire_address},
    report::explain::Subject,
};

/// The identities that the kernel would see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The uid, if it is known.
    pub uid: Option<u32>,
    /// The cgroup below the mount, if it is known.
    pub cgroup: Option<String>,
    /// The interface it comes in by, if it is a guest: its name and index.
    pub interface: Option<(String, u32)>,
    /// The address it sends from, if that is what is known of it.
    pub from: Option<IpAddr>,
    /// Whether it is in another network namespace than the node's: uids mean nothing there.
    pub foreign: bool,
    /// The layer that decides about it.
    pub layer: Layer,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            uid: None,
            cgroup: None,
            interface: None,
            from: None,
            foreign: false,
            layer: Layer::Connect,
        }
    }
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
            Subject::Interface(name) => Ok(Self {
                interface: Some((name.clone(), interface_index(name)?)),
                foreign: true,
                layer: Layer::Guest,
                ..Self::default()
            }),
            Subject::From(from) => Ok(Self {
                from: Some(from.to_canonical()),
                foreign: true,
                layer: Layer::Uplink,
                ..Self::default()
            }),
        }
    }
}

/// The index of an interface in this network namespace: the node's own.
fn interface_index(name: &str) -> Result<u32, NodeError> {
    let missing = || NodeError::NotFound {
        what: format!("there is no interface {name:?} on the node (`ip link` lists them)"),
    };
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: a terminated string; the call keeps no reference to it.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
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
        ..Identity::default()
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
        if let Some(found) = by_uid {
            return Ok(found);
        }
        if let Some((name, index)) = &identity.interface
            && let Some(found) = self.find_interface(name, *index)?
        {
            return Ok(found);
        }
        if let Some(from) = identity.from
            && let Some(found) = self.find_address(from)?
        {
            return Ok(found);
        }
        Ok(Found {
            owner: Owner::NOBODY,
            by: match (identity.uid, identity.foreign) {
                (Some(uid), true) => format!(
                    "nobody claims it: default (uid {uid} of another network namespace is not \
                     the node's uid {uid})"
                ),
                _ => "nobody claims it: default".to_owned(),
            },
        })
    }

    fn find_interface(&self, name: &str, index: u32) -> Result<Option<Found>, KernelError> {
        let info = self.maps.interfaces.get(&index)?;
        let owner = Owner::from_wire(info.map_or(0, |info| info.owner));
        Ok((owner != Owner::NOBODY).then(|| Found {
            owner,
            by: format!("interface {name}"),
        }))
    }

    /// Whether what comes in by an interface is judged there.
    pub(super) fn is_watched(&self, index: u32) -> Result<bool, KernelError> {
        let info = self.maps.interfaces.get(&index)?;
        Ok(info.is_some_and(|info| info.flags & interface_flags::JUDGED != 0))
    }

    fn find_address(&self, from: IpAddr) -> Result<Option<Found>, KernelError> {
        let key = wire_address(from);
        let Some(wire) = self.maps.addresses.get(128, key)? else {
            return Ok(None);
        };
        let owner = Owner::from_wire(wire);
        if owner == Owner::NOBODY {
            return Ok(None);
        }
        // The widest prefix of the same owner around the one that matched.
        let mut bits = 128;
        while bits > 0 && self.maps.addresses.get(bits - 1, key)? == Some(wire) {
            bits -= 1;
        }
        Ok(Some(Found {
            owner,
            by: format!("address {}", prefix(key, bits)),
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

/// A prefix of so many bits, as people write it.
fn prefix(address: Address, bits: u32) -> String {
    let kept = u128::from_be_bytes(address) & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    let network = kept.to_be_bytes();
    match (address::as_v4(&network), bits) {
        (Some(v4), 128) => IpAddr::from(v4).to_string(),
        (Some(v4), 96..) => format!("{}/{}", IpAddr::from(v4), bits - 96),
        (_, 128) => IpAddr::from(network).to_string(),
        _ => format!("{}/{bits}", IpAddr::from(network)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_as_people_write_them() {
        let v4 = address::from_v4([203, 0, 113, 7]);
        assert_eq!(prefix(v4, 128), "203.0.113.7");
        assert_eq!(prefix(v4, 120), "203.0.113.0/24");
        assert_eq!(prefix(v4, 96), "0.0.0.0/0");
        assert_eq!(prefix(v4, 0), "::/0");
        let v6 = wire_address(IpAddr::from([0x2001, 0xdb8, 7, 1, 0, 0, 0, 9]));
        assert_eq!(prefix(v6, 128), "2001:db8:7:1::9");
        assert_eq!(prefix(v6, 48), "2001:db8:7::/48");
    }

    #[test]
    fn an_interface_that_is_not_there_is_said() {
        let error = Identity::of(&Subject::Interface("nosuch0".to_owned())).unwrap_err();
        assert!(error.to_string().contains("nosuch0"), "{error}");
        let nul = Subject::Interface("a\0b".to_owned());
        assert!(matches!(
            Identity::of(&nul),
            Err(NodeError::NotFound { .. })
        ));
    }

    #[test]
    fn who_sends_from_an_address_is_judged_on_the_way_out() {
        let mapped = Subject::From("::ffff:203.0.113.7".parse().unwrap());
        let identity = Identity::of(&mapped).unwrap();
        assert_eq!(identity.from, Some(IpAddr::from([203, 0, 113, 7])));
        assert_eq!(identity.layer, Layer::Uplink);
        assert!(identity.foreign);
    }
}
