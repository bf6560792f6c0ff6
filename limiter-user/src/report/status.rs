//! What `status` tells of a node: the JSON model. Its text is in [`status_text`](super::status_text).

use std::collections::HashMap;

use jiff::Timestamp;
use limiter_common::{
    limit::{Kind, Unit},
    sanction,
    verdict::{Layer, PortGroup},
};
use serde::{Deserialize, Serialize};

use super::{
    case::{Proposal, RecordStatus},
    duration::Seconds,
    names,
    problem::{Problem, Severity},
};
use crate::{offence, policy::model::Mode};

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The node's mode; a tenant may have its own.
    pub mode: Mode,
    /// Until when nothing is refused on the whole node; null: not suspended.
    pub observe_until: Option<Timestamp>,
    /// Whether everything that should hold does: no problem is an error.
    pub healthy: bool,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// Sanctions that wait for `limiter case confirm` or `reject`, the most pressing first.
    #[serde(default)]
    pub proposals: Vec<Proposal>,
    /// The running agent; null where none runs and the kernel enforces alone.
    pub agent: Option<AgentInfo>,
    /// What was read of mail that came back; null where it is not configured, or no agent runs.
    #[serde(default)]
    pub bounces: Option<BounceStatus>,
    /// Mailman's lists; null where they are not counted, or no agent runs.
    #[serde(default)]
    pub mailing_lists: Option<ListStatus>,
    /// Where the kernel looks.
    pub layers: Vec<LayerStatus>,
    /// The tenants, or the one that was asked for.
    pub tenants: Vec<TenantStatus>,
}

/// The running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its process id.
    pub pid: u32,
    /// Since when it runs.
    pub since: Timestamp,
    /// Its version.
    pub version: String,
}

/// What was read of mail that came back, since the agent reads the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BounceStatus {
    /// From where.
    pub sources: Vec<BounceSource>,
    /// Permanent failures of tenants' recipients.
    pub hard: u64,
    /// Other bounces of tenants.
    pub soft: u64,
    /// Bounces that belong to no tenant, or of whom nobody knows to whom.
    pub nobodys: u64,
}

/// Mailman's lists, as they were counted last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// The accounts that have any.
    pub accounts: Vec<ListCount>,
    /// Lists of no account, or of whom nobody knows of whose.
    pub nobodys: u64,
}

/// The lists of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCount {
    /// The account.
    pub tenant: String,
    /// How many it has.
    pub lists: u64,
    /// How many it may have.
    pub max: u64,
}

/// A log of the mail server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BounceSource {
    /// Its path, or `journal`.
    pub log: String,
    /// How many messages under way are known.
    pub messages: usize,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// One place where the kernel looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatus {
    /// Which layer.
    #[serde(with = "names")]
    pub layer: Layer,
    /// The cgroup or interface it is attached to.
    pub target: String,
    /// Whether it is.
    pub attached: bool,
    /// How: a cgroup link, TCX, clsact, native or generic XDP. Of what is not attached, how it would
    /// be.
    #[serde(default)]
    pub how: String,
}

/// One tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Its name; `(node)` and `(default)` stand for the node and for whatever nobody claims.
    pub tenant: String,
    /// Whose customer it is.
    pub parent: Option<String>,
    /// The mode that holds for it.
    pub mode: Mode,
    /// Until when nothing of it is refused; null: not suspended.
    pub observe_until: Option<Timestamp>,
    /// How it stands with the node.
    pub standing: Standing,
    /// The strongest sanction it is under.
    pub sanction: Option<Sanction>,
    /// When that sanction ends; null: none, or without end.
    pub until: Option<Timestamp>,
    /// All it is under, strongest first.
    #[serde(default)]
    pub sanctions: Vec<SanctionStatus>,
    /// Why, what lifts it, by when an operator is to decide, and what comes next: the keys `reason`,
    /// `lift`, `deadline`, `holds` and `next`.
    #[serde(flatten)]
    pub record: RecordStatus,
    /// Its limits and paces, and how far each is used.
    pub usage: Vec<Usage>,
    /// Attempts that went out, since the tenant was created.
    pub allowed: u64,
    /// Attempts that were refused.
    pub denied: u64,
    /// Attempts that were sent to the local MTA.
    pub redirected: u64,
    /// Attempts that went out and would have been refused under `mode: enforce`.
    pub would_deny: u64,
    /// Messages of it that limiter holds in the node's mail queues.
    #[serde(default)]
    pub held_mail: u64,
}

/// How a tenant stands with the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing held against it.
    #[default]
    Good,
    /// Told.
    Warned,
    /// Its mail does not leave.
    Blocked,
    /// Nor does anything else, or nobody reads its mail.
    Suspended,
    /// For good.
    Terminated,
}

/// What a tenant suffers, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sanction {
    /// A notice.
    Warn,
    /// None of its mail leaves.
    BlockSmtp,
    /// Also its mailbox logins.
    SuspendMail,
    /// All its traffic.
    SuspendNetwork,
    /// Every packet to and from its addresses.
    NullRoute,
    /// Without end.
    Terminate,
}

impl From<sanction::Sanction> for Sanction {
    fn from(kernels: sanction::Sanction) -> Self {
        match kernels {
            sanction::Sanction::BlockSmtp => Self::BlockSmtp,
            sanction::Sanction::SuspendMail => Self::SuspendMail,
            sanction::Sanction::SuspendNetwork => Self::SuspendNetwork,
            sanction::Sanction::NullRoute => Self::NullRoute,
        }
    }
}

impl From<offence::Sanction> for Sanction {
    fn from(sanction: offence::Sanction) -> Self {
        match sanction {
            offence::Sanction::Warn => Self::Warn,
            offence::Sanction::BlockSmtp => Self::BlockSmtp,
            offence::Sanction::SuspendMail => Self::SuspendMail,
            offence::Sanction::SuspendNetwork => Self::SuspendNetwork,
            offence::Sanction::NullRoute => Self::NullRoute,
            offence::Sanction::Terminate => Self::Terminate,
        }
    }
}

impl From<offence::Standing> for Standing {
    fn from(standing: offence::Standing) -> Self {
        match standing {
            offence::Standing::Good => Self::Good,
            offence::Standing::Warned => Self::Warned,
            offence::Standing::Blocked => Self::Blocked,
            offence::Standing::Suspended => Self::Suspended,
            offence::Standing::Terminated => Self::Terminated,
        }
    }
}

impl From<Sanction> for Standing {
    fn from(sanction: Sanction) -> Self {
        match sanction {
            Sanction::Warn => Self::Warned,
            Sanction::BlockSmtp => Self::Blocked,
            Sanction::SuspendMail | Sanction::SuspendNetwork | Sanction::NullRoute => {
                Self::Suspended
            }
            Sanction::Terminate => Self::Terminated,
        }
    }
}

/// A sanction in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanctionStatus {
    /// Which.
    pub sanction: Sanction,
    /// When it ends; null: without end.
    pub until: Option<Timestamp>,
    /// The ancestor that it is inherited from; null: the tenant's own.
    pub from: Option<String>,
}

/// One limit or pace, and how far it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `window`: at most `max` in any `window`. `pace`: one per `every`, at most `max` at once.
    #[serde(with = "names")]
    pub kind: Kind,
    /// What is counted.
    #[serde(with = "names")]
    pub unit: Unit,
    /// The most units in the window, or at once.
    pub max: u32,
    /// The window; null for a pace.
    pub window: Option<Seconds>,
    /// The interval; null for a window.
    pub every: Option<Seconds>,
    /// How many units count now. Of a pace: how much of the burst is used up.
    pub used: u32,
    /// When the next unit will be admitted; null: now, or never (`max` is 0).
    pub free_at: Option<Timestamp>,
    /// Which port groups count.
    #[serde(with = "names::list")]
    pub ports: Vec<PortGroup>,
}

impl Usage {
    /// How full it is, in thousandths; a limit of 0 is always full.
    #[must_use]
    pub fn fullness(&self) -> u64 {
        u64::from(self.used)
            .saturating_mul(1000)
            .checked_div(u64::from(self.max))
            .unwrap_or(1000)
    }

    /// The limit in words: `300 connections per 1h`, `1 recipients every 15s, 5 at once`.
    #[must_use]
    pub fn limit(&self) -> String {
        let unit = self.unit.as_str();
        match (self.window, self.every) {
            (Some(window), _) => format!("{} {unit} per {window}", self.max),
            (None, Some(every)) => format!("1 of {unit} every {every}, {} at once", self.max),
            (None, None) => format!("{} {unit}", self.max),
        }
    }
}

impl TenantStatus {
    /// How many attempts were refused, or would have been.
    #[must_use]
    pub const fn refusals(&self) -> u64 {
        self.denied.saturating_add(self.would_deny)
    }

    /// Its fullest limit.
    #[must_use]
    pub fn fullest(&self) -> Option<&Usage> {
        self.usage.iter().max_by_key(|usage| usage.fullness())
    }
}

impl Status {
    /// Says how many messages of each tenant are held in the node's mail queues.
    pub fn count_held_mail(&mut self, counts: &HashMap<String, u64>) {
        for tenant in &mut self.tenants {
            tenant.held_mail = counts.get(&tenant.tenant).copied().unwrap_or(0);
        }
    }

    /// Adds a problem, keeps the worst first, and judges health anew.
    pub fn add_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.judge();
    }

    /// Puts the worst problems first and says whether the node is healthy: whoever fills in
    /// `problems` calls it last.
    pub fn judge(&mut self) {
        self.problems
            .sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        self.healthy = self
            .problems
            .iter()
            .all(|problem| problem.severity < Severity::Error);
    }
}
