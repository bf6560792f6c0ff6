//! Whose a process is, as the compiled policy says.

use std::collections::HashMap;

use crate::policy::image::{Holder, Image, TenantRef};

/// The owners of uids and cgroups, for looking many processes up.
pub(super) struct Owners<'a> {
    image: &'a Image,
    /// By path below the cgroup v2 mount.
    cgroups: HashMap<&'a str, TenantRef>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(image: &'a Image) -> Self {
        let cgroups = image
            .cgroups
            .iter()
            .map(|binding| (binding.path.as_str(), binding.tenant))
            .collect();
        Self { image, cgroups }
    }

    /// Whether cgroups matter at all.
    pub(super) fn claims_cgroups(&self) -> bool {
        !self.cgroups.is_empty()
    }

    /// The tenant of a process of the node's own network namespace: nobody for the MTA's user,
    /// even in a tenant's cgroup; else whose the nearest cgroup is, else whose the uid is.
    pub(super) fn tenant(&self, uid: u32, cgroup: &str) -> Option<&'a str> {
        let by_uid = self.holder(uid);
        if by_uid == Some(Holder::Mta) {
            return None;
        }
        let tenant = self.by_cgroup(cgroup).or(match by_uid {
            Some(Holder::Tenant(tenant)) => Some(tenant),
            _ => None,
        })?;
        let tenant = self.image.tenants.get(tenant)?;
        Some(tenant.name.as_str())
    }

    fn holder(&self, uid: u32) -> Option<Holder> {
        let after = self
            .image
            .uids
            .partition_point(|binding| binding.range.first <= uid);
        let binding = self.image.uids.get(after.checked_sub(1)?)?;
        (uid <= binding.range.last).then_some(binding.holder)
    }

    fn by_cgroup(&self, path: &str) -> Option<TenantRef> {
        let mut path = path;
        loop {
            if let Some(tenant) = self.cgroups.get(path) {
                return Some(*tenant);
            }
            path = path.rsplit_once('/')?.0;
        }
    }
}

/// The path of a process below the cgroup v2 mount, from its `/proc/PID/cgroup`.
pub(super) fn cgroup_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}
