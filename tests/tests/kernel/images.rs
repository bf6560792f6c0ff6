//! Compiled policies, written by hand.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use limiter_common::{
    limit::{Kind, Unit},
    verdict::{Permission, PortGroup},
};
use limiter_user::policy::{
    image::{
        CgroupBinding, DEFAULT_NAME, Holder, Image, ImageLimit, ImageTenant, NODE_NAME, UidBinding,
    },
    model::{Estimate, Exempt, UidRange},
    prefix_set::PrefixSet,
};

pub const SECOND: u64 = 1_000_000_000;
pub const HOUR: u64 = 3_600 * SECOND;

/// At most `max` connections to port 25 in any `span_ns`.
pub fn window(max: u32, span_ns: u64) -> ImageLimit {
    ImageLimit {
        unit: Unit::Connections,
        kind: Kind::Window,
        max,
        span_ns,
        groups: PortGroup::Smtp.bit(),
    }
}

/// One connection to port 25 every `every_ns`, `burst` at once.
pub fn pace(every_ns: u64, burst: u32) -> ImageLimit {
    ImageLimit {
        kind: Kind::Pace,
        max: burst,
        span_ns: every_ns,
        ..window(0, 0)
    }
}

/// A policy that grows.
pub struct Draft(pub Image);

impl Draft {
    /// An enforcing node without limits, and a default that may do nothing.
    pub fn new() -> Self {
        let mut draft = Self(Image {
            enforce: true,
            redirect4: None,
            redirect6: None,
            ports: vec![
                (25, PortGroup::Smtp),
                (465, PortGroup::Submission),
                (587, PortGroup::Submission),
            ],
            exempt: Vec::new(),
            own_addresses: Vec::new(),
            tenants: Vec::new(),
            uids: Vec::new(),
            cgroups: Vec::new(),
            addresses: Vec::new(),
            interfaces: Vec::new(),
            management: Vec::new(),
            blocked: PrefixSet::default(),
            mailbox: None,
            locks_clients: false,
            estimate: Estimate::default(),
        });
        draft.0.tenants.push(tenant(NODE_NAME, None, Vec::new()));
        let default = tenant(DEFAULT_NAME, Some(0), Vec::new());
        draft.0.tenants.push(ImageTenant {
            direct_smtp: Permission::Block,
            ..default
        });
        draft
    }

    /// Limits for the whole node.
    pub fn node(mut self, limits: &[ImageLimit]) -> Self {
        self.0.tenants[0].limits = limits.to_vec();
        self
    }

    /// A tenant below `parent` (the node's name for none) that may send, within limits.
    pub fn tenant(mut self, name: &str, parent: &str, limits: &[ImageLimit]) -> Self {
        let parent = self.place(parent);
        self.0
            .tenants
            .push(tenant(name, Some(parent), limits.to_vec()));
        self
    }

    /// What it may do at port 25 instead.
    pub fn direct_smtp(mut self, name: &str, permission: Permission) -> Self {
        let at = self.place(name);
        self.0.tenants[at].direct_smtp = permission;
        self
    }

    /// Its own exempt destinations.
    pub fn exempt(mut self, name: &str, exempt: Exempt) -> Self {
        let at = self.place(name);
        self.0.tenants[at].exempt.push(exempt);
        self
    }

    /// A uid of a tenant's. To be added in ascending order.
    pub fn uid(mut self, uid: u32, name: &str) -> Self {
        let holder = Holder::Tenant(self.place(name));
        self.0.uids.push(UidBinding {
            range: UidRange {
                first: uid,
                last: uid,
            },
            holder,
            by: format!("uids {uid}"),
        });
        self
    }

    /// A cgroup that exists, and how deep it is below the root of the tree.
    pub fn cgroup(mut self, path: &Path, depth: u32, name: &str) -> Self {
        let tenant = self.place(name);
        self.0.cgroups.push(CgroupBinding {
            id: fs::metadata(path).unwrap().ino(),
            depth,
            path: path.display().to_string(),
            tenant,
            by: format!("cgroup {}", path.display()),
        });
        self
    }

    fn place(&self, name: &str) -> usize {
        self.0
            .tenants
            .iter()
            .position(|tenant| tenant.name == name)
            .unwrap_or_else(|| panic!("no tenant {name}"))
    }
}

fn tenant(name: &str, parent: Option<usize>, limits: Vec<ImageLimit>) -> ImageTenant {
    ImageTenant {
        name: name.to_owned(),
        parent,
        enforce: true,
        direct_smtp: Permission::Allow,
        submission: Permission::Allow,
        exempt: Vec::new(),
        limits,
    }
}
