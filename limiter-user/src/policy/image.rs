//! The compiled policy: what is to stand in the kernel, with users, cgroups and addresses of this
//! system put in, still without the kernel's indices.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use limiter_common::{
    limit::{Kind, Unit},
    verdict::{Permission, PortGroup},
};
use serde::{Deserialize, Serialize};

use super::{
    model::{Estimate, Exempt, LoginLimit, UidRange},
    prefix_set::PrefixSet,
};

pub use crate::offence::{DEFAULT_NAME, NODE_NAME};

/// Index into [`Image::tenants`].
pub type TenantRef = usize;

/// What is to stand in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// `mode: enforce` on the node.
    pub enforce: bool,
    /// Where `redirect` sends IPv4 connections.
    pub redirect4: Option<SocketAddr>,
    /// Where `redirect` sends IPv6 connections.
    pub redirect6: Option<SocketAddr>,
    /// The ports that belong to a group.
    pub ports: Vec<(u16, PortGroup)>,
    /// Everybody's exempt destinations.
    pub exempt: Vec<Exempt>,
    /// Addresses that are this node, sorted.
    pub own_addresses: Vec<IpAddr>,
    /// The node, the default, then the tenants, parents before their children.
    pub tenants: Vec<ImageTenant>,
    /// Who owns which uids: sorted, not overlapping.
    pub uids: Vec<UidBinding>,
    /// Who owns which cgroups: sorted by id.
    pub cgroups: Vec<CgroupBinding>,
    /// Who owns which addresses: sorted, each prefix once, a narrower one beats a wider.
    pub addresses: Vec<AddressBinding>,
    /// Which interfaces are whose: globs of names, for whoever knows the interfaces there are.
    pub interfaces: Vec<(TenantRef, Vec<String>)>,
    /// Prefixes that stay reachable under a suspension.
    pub management: Vec<IpNet>,
    /// Prefixes refused in both directions, none inside another.
    pub blocked: PrefixSet,
    /// How often one client may connect to mailboxes.
    pub mailbox: Option<LoginLimit>,
    /// Whether clients are locked out by whoever counts logins to accounts.
    pub locks_clients: bool,
    /// By what messages are counted that cannot be read.
    pub estimate: Estimate,
}

impl Image {
    /// The names of all tenants, those of accounts included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(|tenant| tenant.name.as_str())
    }

    /// Whether messages or recipients of each tenant count, by its own limits, an ancestor's or
    /// the node's.
    #[must_use]
    pub fn counts_mail(&self) -> Vec<bool> {
        let mut counts: Vec<bool> = Vec::with_capacity(self.tenants.len());
        for tenant in &self.tenants {
            // Parents stand before their children.
            let above = tenant.parent.and_then(|parent| counts.get(parent)).copied();
            let own = tenant.limits.iter().any(ImageLimit::counts_mail);
            counts.push(own || above.unwrap_or(false));
        }
        counts
    }
}

/// A tenant as the kernel knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTenant {
    /// Its name.
    pub name: String,
    /// Its parent; the node for a tenant at the top, none for the node itself.
    pub parent: Option<TenantRef>,
    /// Whether refusals are carried out.
    pub enforce: bool,
    /// The port group smtp at other hosts.
    pub direct_smtp: Permission,
    /// The port group submission at other hosts.
    pub submission: Permission,
    /// Its own exempt destinations.
    pub exempt: Vec<Exempt>,
    /// Its limits and paces, in the order of the file, limits first.
    pub limits: Vec<ImageLimit>,
}

/// A limit or a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageLimit {
    /// What is counted.
    pub unit: Unit,
    /// A window or a pace.
    pub kind: Kind,
    /// The most units in the window, or at once.
    pub max: u32,
    /// The window, or the interval, ns.
    pub span_ns: u64,
    /// Which port groups count: bits of [`PortGroup::bit`].
    pub groups: u8,
}

impl ImageLimit {
    /// Whether it counts messages or recipients of sessions that the kernel sees.
    #[must_use]
    pub const fn counts_mail(&self) -> bool {
        let groups = PortGroup::Smtp.bit() | PortGroup::Submission.bit();
        matches!(self.unit, Unit::Messages | Unit::Recipients) && self.groups & groups != 0
    }
}

/// Whose an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// The node's MTA.
    Mta,
    /// A tenant.
    Tenant(TenantRef),
}

/// A range of uids and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidBinding {
    /// The uids.
    pub range: UidRange,
    /// Whose they are.
    pub holder: Holder,
    /// By which match, for people: `user alice`, `uids 2100-2199`, `sub-uids of alice`, `account`.
    pub by: String,
}

/// A cgroup and its owner. Everything below it is the owner's too, unless a nearer one is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupBinding {
    /// The kernel's id of the cgroup.
    pub id: u64,
    /// How deep it is: 1 for a child of the root of the cgroup v2 mount.
    pub depth: u32,
    /// Its path below the cgroup v2 mount, starting with `/`.
    pub path: String,
    /// Whose it is.
    pub tenant: TenantRef,
    /// By which match, for people: `cgroup /user.slice/user-*.slice`.
    pub by: String,
}

/// A prefix and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBinding {
    /// The addresses.
    pub net: IpNet,
    /// Whose they are.
    pub tenant: TenantRef,
    /// By which match, for people: `address 203.0.113.7`.
    pub by: String,
}
