//! The checked policy: what the files mean, with every name resolved inside the files and every
//! number in its bounds. It knows nothing of the system it will run on: users, cgroups and
//! interfaces are still names here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use limiter_common::{
    limit::Unit,
    verdict::{Permission, PortGroup},
};
use serde::{Deserialize, Serialize};

use super::{
    bounces::Bounces,
    complaints::Complaints,
    mailman::Mailman,
    notices::Notices,
    prefix_set::PrefixSet,
    services::{ServicePlaces, Services},
};
use crate::offence::Ladder;

/// Everything the configuration says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What holds for the node.
    pub node: Node,
    /// Where things are: files, sockets, the points of attachment. Changing these needs a restart.
    pub places: Places,
    /// Every system user in these ranges that no tenant claims becomes a tenant of its own.
    pub accounts: Option<Accounts>,
    /// Whatever nobody claims.
    pub default: Rules,
    /// The tenants, parents before their children; domains follow their tenant as its children.
    pub tenants: Vec<Tenant>,
    /// The policies that the node and the tenants name, by name.
    #[serde(default)]
    pub ladders: BTreeMap<String, Ladder>,
}

/// What holds for the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The node's name in events and notices.
    pub name: String,
    /// Whether refusals are carried out, unless a tenant says otherwise.
    pub mode: Mode,
    /// The node's own MTA.
    pub mta: Mta,
    /// Which ports belong to which group.
    pub ports: Ports,
    /// Limits of the whole node, its MTA excluded.
    pub limits: Vec<Limit>,
    /// Destinations exempt for every tenant.
    pub exempt: Vec<Exempt>,
    /// Prefixes that stay reachable under a suspension, sorted.
    #[serde(default)]
    pub management: Vec<IpNet>,
    /// Prefixes refused in both directions.
    #[serde(default)]
    pub blocked: Blocked,
    /// How often one client may connect to mailboxes.
    #[serde(default)]
    pub mailbox: Option<LoginLimit>,
    /// How often one mail account may be logged in to.
    #[serde(default)]
    pub mailbox_accounts: Option<LoginLimit>,
    /// Clients that are not locked out for an account's sake: proxies and webmail, which log in for many.
    #[serde(default)]
    pub mailbox_exempt: Vec<IpNet>,
    /// By what messages are counted that cannot be read.
    #[serde(default)]
    pub estimate: Estimate,
    /// How people are told.
    #[serde(default)]
    pub notices: Notices,
    /// Where reports of abuse come in, and whom and what is believed.
    #[serde(default)]
    pub complaints: Complaints,
    /// Where it is read what mail comes back.
    #[serde(default)]
    pub bounces: Bounces,
    /// How many of Mailman's lists an account may have.
    #[serde(default)]
    pub mailman: Mailman,
    /// How mail programs are answered.
    #[serde(default)]
    pub services: Services,
    /// How long things are kept.
    pub retention: Retention,
    /// The names of the policies that bind every tenant.
    #[serde(default)]
    pub policies: BTreeSet<String>,
}

/// By what the messages of sessions are counted that cannot be read, because they are encrypted
/// or no honest client talks like that: by how often the client waited for the server, and by how
/// many bytes went either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Answers that the client waited for, for each message: 1 to 1000.
    pub turnarounds_per_message: u32,
    /// Bytes of the server's answers for each message: a power of two, 16 to 1 MiB.
    pub reply_bytes_per_message: u32,
    /// Bytes of the client for each message: a power of two, 1 MiB to 2 GiB.
    pub payload_bytes_per_message: u32,
    /// Turnarounds of the session and its first message: at most 1000.
    pub free_turnarounds: u32,
    /// Bytes of answers for the session and its first message: at most 1 MiB.
    pub free_reply_bytes: u32,
    /// Turnarounds more where a TLS handshake may pass unseen: at most 1000.
    pub blind_turnarounds: u32,
    /// Bytes of answers more where a TLS handshake may pass unseen: at most 1 MiB.
    pub blind_reply_bytes: u32,
}

impl Default for Estimate {
    /// What fits the servers of the world.
    fn default() -> Self {
        Self {
            turnarounds_per_message: 3,
            reply_bytes_per_message: 1 << 8,
            payload_bytes_per_message: 1 << 26,
            free_turnarounds: 9,
            free_reply_bytes: 2_048,
            blind_turnarounds: 4,
            blind_reply_bytes: 8_192,
        }
    }
}

/// Prefixes refused in both directions, those in files included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// The prefixes, none inside another.
    pub prefixes: PrefixSet,
    /// Where the key is written.
    pub origin: Origin,
}

/// At most `max` connections of a client, or logins to an account, in any `window`; one more locks it for
/// `lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginLimit {
    /// The most; at least 1.
    pub max: u32,
    /// A second to 31 days.
    pub window: Duration,
    /// A second to 31 days.
    pub lock: Duration,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything is counted and reported, nothing is refused.
    #[default]
    Observe,
    /// Refusals are carried out.
    Enforce,
}

/// The node's own MTA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mta {
    /// Its users. `None`: the known MTA users that exist on the system.
    pub users: Option<Vec<String>>,
    /// Where `redirect` sends; at most one per family is used, the first.
    pub listen: Vec<SocketAddr>,
    /// Addresses of this node that sit on no interface.
    pub addresses: Vec<IpAddr>,
}

/// Which ports belong to which group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Mail from server to server.
    pub smtp: Vec<u16>,
    /// Mail from user to server.
    pub submission: Vec<u16>,
    /// POP3 and IMAP.
    pub mailbox: Vec<u16>,
}

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Events and allowed attempts.
    pub events: Duration,
    /// Cases.
    pub cases: Duration,
    /// What events and allowed attempts take on the disk at most, bytes: beyond it the oldest days go
    /// early.
    #[serde(default = "Retention::default_max_disk")]
    pub max_disk: u64,
}

impl Retention {
    /// 20 GiB.
    pub(crate) const fn default_max_disk() -> u64 {
        20 << 30
    }
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// The main configuration file, absolute.
    pub config: PathBuf,
    /// Below the cgroup v2 mount, starting with `/`.
    pub cgroup: PathBuf,
    /// Interfaces that lead out; `None`: found from the routes.
    pub uplinks: Option<Vec<String>>,
    /// Globs of interfaces that lead to guests.
    pub guests: Vec<String>,
    /// The glob of tenant files, absolute.
    pub tenants: String,
    /// Database, last good policy, events.
    pub state_dir: PathBuf,
    /// Below which everything is pinned.
    pub pin_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Where the mail programs ask.
    #[serde(default)]
    pub services: ServicePlaces,
}

/// Every system user in the ranges becomes a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Uid ranges, both ends included.
    pub uids: Vec<UidRange>,
    /// The rules of each, from its plan.
    pub rules: Rules,
    /// The name of the plan, for people.
    pub plan: Option<String>,
}

/// A range of uids, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UidRange {
    /// The first.
    pub first: u32,
    /// The last, not below the first.
    pub last: u32,
}

impl UidRange {
    /// How many uids it holds, less one: how wide it is.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.last - self.first
    }
}

/// What one who sends may do: a plan with the tenant's own keys in place of the plan's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The port group smtp at other hosts.
    #[serde(with = "permission")]
    pub direct_smtp: Permission,
    /// The port group submission at other hosts: allow or block.
    #[serde(with = "permission")]
    pub submission: Permission,
    /// Its own exempt destinations.
    pub exempt: Vec<Exempt>,
    /// At most four.
    pub limits: Vec<Limit>,
    /// At most four.
    pub pace: Vec<Pace>,
}

/// What a policy leaves to whomever it binds, at most. Keys that its file leaves out bind nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The port group smtp at other hosts; allow: as the tenant's own.
    #[serde(with = "permission")]
    pub direct_smtp: Permission,
    /// The port group submission at other hosts; allow: as the tenant's own.
    #[serde(with = "permission")]
    pub submission: Permission,
    /// Nothing else stays exempt; `None`: as the tenant's own.
    pub exempt: Option<Vec<Exempt>>,
    /// At most four, besides the tenant's own.
    pub limits: Vec<Limit>,
    /// At most four, besides the tenant's own.
    pub pace: Vec<Pace>,
}

/// One hosting account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name, unique. A domain is named `tenant/domain`.
    pub name: String,
    /// Whose customer it is. It stands before this one in [`Policy::tenants`].
    pub parent: Option<String>,
    /// The plan its rules come from, for people.
    pub plan: Option<String>,
    /// `None`: the node's.
    pub mode: Option<Mode>,
    /// Whom notices go to.
    pub contact: Vec<String>,
    /// What makes traffic its own.
    pub matches: Match,
    /// What it may do.
    pub rules: Rules,
    /// The names of the policies that bind it and everybody below it, besides the node's.
    #[serde(default)]
    pub policies: BTreeSet<String>,
    /// Set for a domain: mail is counted for it, the kernel knows nothing of it.
    pub is_domain: bool,
    /// Where it is written, for messages.
    pub origin: Origin,
}

/// What makes traffic a tenant's. Empty parts match nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// User names; their sub-uid ranges come with them.
    pub users: Vec<Located<String>>,
    /// Uids and ranges of uids.
    pub uids: Vec<Located<UidRange>>,
    /// Cgroup paths below the cgroup v2 mount, `*` and `?` and `[…]` allowed within a component.
    pub cgroups: Vec<Located<String>>,
    /// Globs of interface names.
    pub interfaces: Vec<Located<String>>,
    /// Addresses and prefixes.
    pub addresses: Vec<Located<IpNet>>,
}

/// A value and where it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub origin: Origin,
}

/// Where something is written: `file:line:column`, both counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The file: one path for all places in it.
    #[serde(with = "path")]
    pub file: Arc<Path>,
    /// The line, 0 where only the file is known.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A destination that is neither refused nor counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exempt {
    /// Where to.
    pub to: IpNet,
    /// Which ports, at most eight; empty means every port.
    pub ports: Vec<u16>,
}

/// At most `max` units in any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What is counted.
    #[serde(with = "unit")]
    pub unit: Unit,
    /// The most; 0 lets nothing through.
    pub max: u32,
    /// A second to 31 days.
    pub window: Duration,
    /// Which port groups count: bits of [`PortGroup::bit`].
    pub groups: u8,
}

/// One unit per `every`, at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// What is counted.
    #[serde(with = "unit")]
    pub unit: Unit,
    /// A millisecond to 31 days.
    pub every: Duration,
    /// At least 1.
    pub burst: u32,
    /// Which port groups count: bits of [`PortGroup::bit`].
    pub groups: u8,
}

/// The groups a limit counts where the file names none.
pub const DEFAULT_GROUPS: u8 = PortGroup::Smtp.bit();

impl Default for Rules {
    /// The contract's defaults: no direct SMTP, submission to other hosts, no limits.
    fn default() -> Self {
        Self {
            direct_smtp: Permission::Block,
            submission: Permission::Allow,
            exempt: Vec::new(),
            limits: Vec::new(),
            pace: Vec::new(),
        }
    }
}

impl Default for Origin {
    /// Nowhere.
    fn default() -> Self {
        Self {
            file: Path::new("").into(),
            line: 0,
            column: 0,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl Places {
    /// Where the programs are attached: `cgroup` below the cgroup v2 mount.
    #[must_use]
    pub fn attach_point(&self, cgroup_mount: &Path) -> PathBuf {
        cgroup_mount.join(self.cgroup.strip_prefix("/").unwrap_or(&self.cgroup))
    }
}

impl Policy {
    /// The tenants by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&str, &Tenant> {
        self.tenants
            .iter()
            .map(|tenant| (tenant.name.as_str(), tenant))
            .collect()
    }

    /// Whether anybody has a limit of different recipients.
    #[must_use]
    pub fn counts_distinct_recipients(&self) -> bool {
        let mut limits = self.tenants.iter().flat_map(|it| &it.rules.limits);
        limits.any(Limit::is_of_distinct_recipients)
    }
}

impl Limit {
    /// Whether it counts different recipients, which the agent does and not the kernel.
    #[must_use]
    pub fn is_of_distinct_recipients(&self) -> bool {
        self.unit == Unit::DistinctRecipients
    }
}

/// Serde for a path that is shared.
mod path {
    use std::{
        path::{Path, PathBuf},
        sync::Arc,
    };

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(value: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Path>, D::Error> {
        PathBuf::deserialize(deserializer).map(Arc::from)
    }
}

/// Serde by name for the enums that the kernel shares.
macro_rules! serde_by_name {
    ($module:ident, $type:ty) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            pub fn serialize<S: Serializer>(
                value: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(value.as_str())
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                let name = String::deserialize(deserializer)?;
                <$type>::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == name)
                    .ok_or_else(|| D::Error::custom(format!("unknown value {name:?}")))
            }
        }
    };
}
serde_by_name!(permission, limiter_common::verdict::Permission);
serde_by_name!(unit, limiter_common::limit::Unit);
