//! What `explain` answers: whose it is, by which match, which rule decides, and the verdict.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use limiter_common::verdict::{Layer, Reason, Verdict};
use serde::{Deserialize, Serialize};

use super::{
    advice::next_step,
    case::{HoldState, HoldStatus, NextStep},
    case_text::{hold_words, next_words},
    event::Endpoint,
    names,
    status::{Standing, Usage},
    status_text::{Style, moment},
    text::printable,
};
use crate::{
    offence::Sanction,
    policy::{model::Mode, said},
};

/// Who would connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Any process of this uid in the node's own network namespace, in no cgroup of a tenant.
    Uid(u32),
    /// This process, as it is now.
    Pid(u32),
    /// A process in this cgroup, below the cgroup v2 mount, starting with `/`.
    Cgroup(String),
    /// A guest behind this interface.
    Interface(String),
    /// Whoever sends from this address.
    From(IpAddr),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::From(address) => write!(f, "address {address}"),
        }
    }
}

/// A question: what would happen if `subject` connected to `to` now?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExplainQuery {
    /// Who.
    pub subject: Subject,
    /// Where to.
    pub to: SocketAddr,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who was asked about: `uid 2001`.
    pub subject: String,
    /// Where to.
    pub destination: Endpoint,
    /// Whose the traffic is; null for the MTA, `(default)` where nobody claims it.
    pub tenant: Option<String>,
    /// By which match: `uid 2001 (user alice)`, `cgroup /user.slice/… (nearest claimed)`,
    /// `nobody claims it: default`.
    pub matched_by: String,
    /// Whether it is the node's own MTA, which nothing is asked of.
    pub mta: bool,
    /// The tenant's ancestors, nearest first: their limits count too.
    pub ancestors: Vec<String>,
    /// Which layer decides.
    #[serde(with = "names")]
    pub layer: Layer,
    /// Which rule decides.
    pub rule: Rule,
    /// That rule in words, with its numbers: `limit 300 connections per 1h of alice: 300 used`.
    pub because: String,
    /// The mode that holds for the tenant now: `observe` also while it is opened for a while.
    pub mode: Mode,
    /// Until when nothing is refused; null: not suspended.
    pub observe_until: Option<Timestamp>,
    /// The verdict it would get now.
    #[serde(with = "names")]
    pub verdict: Verdict,
    /// The reason that an event would name.
    #[serde(with = "names")]
    pub reason: Reason,
    /// The verdict it would get under `mode: enforce`.
    #[serde(with = "names")]
    pub enforced_verdict: Verdict,
    /// Every limit asked, the tenant's and its ancestors'.
    pub limits: Vec<LimitState>,
    /// What else to know: `the sockets of this process may belong to somebody else`.
    pub notes: Vec<String>,
    /// How the tenant stands by its own record.
    #[serde(default)]
    pub standing: Standing,
    /// What is held against the tenant and its ancestors, in force or proposed.
    #[serde(default)]
    pub holds: Vec<HeldAgainst>,
    /// What comes next for the tenant: by itself, or with a further offence.
    #[serde(default)]
    pub next: Vec<NextStep>,
}

/// A sanction, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAgainst {
    /// The tenant, or the ancestor it is inherited from.
    pub tenant: String,
    /// It.
    #[serde(flatten)]
    pub hold: HoldStatus,
}

/// Which rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The node's own MTA may.
    Mta,
    /// The port belongs to no group that limiter looks at.
    NotAMailPort,
    /// It stays on the host.
    Loopback,
    /// It goes to the node itself.
    OwnAddress,
    /// The destination is exempt.
    Exempt,
    /// `direct_smtp` of the tenant.
    DirectSmtp,
    /// `submission` of the tenant.
    Submission,
    /// A limit of the tenant, an ancestor or the node is used up.
    Limit,
    /// It would come too soon.
    Pace,
    /// A sanction.
    Sanction,
    /// The destination stays reachable under a suspension.
    Management,
    /// The other address is blocked on this node.
    BlockedAddress,
    /// Nothing stands against it: every limit admits it.
    Admitted,
    /// A map or a helper fails: refused to be safe.
    Internal,
}

/// A limit that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitState {
    /// Whose it is.
    pub owner: String,
    /// The policies that ask for it; none: it is the owner's own.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The limit, and how far it is used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// The answer in words.
#[must_use]
pub fn text(answer: &Explanation, style: &Style) -> String {
    let mut out = String::new();
    let (subject, to) = (printable(&answer.subject), &answer.destination);
    let verdict = answer.verdict.as_str();
    let _ = writeln!(out, "{subject} → {to}: {verdict}");
    let whose = match &answer.tenant {
        _ if answer.mta => "the node's own MTA".to_owned(),
        Some(tenant) => format!("tenant {}", printable(tenant)),
        None => "nobody".to_owned(),
    };
    let _ = writeln!(
        out,
        "  whose    {whose}, by {}",
        printable(&answer.matched_by)
    );
    if !answer.ancestors.is_empty() {
        let _ = writeln!(
            out,
            "  below    {}",
            printable(&answer.ancestors.join(", "))
        );
    }
    let _ = writeln!(out, "  because  {}", printable(&answer.because));
    if answer.reason != Reason::None {
        let (reason, layer) = (answer.reason.as_str(), answer.layer.as_str());
        let _ = writeln!(out, "  reason   {reason}, seen at the layer {layer}");
        let _ = writeln!(out, "  do       {}", next_step(answer.reason));
    }
    if let Some(until) = answer.observe_until {
        let _ = writeln!(out, "  mode     opened until {}", moment(until, style));
        let holds = |held: &&HeldAgainst| {
            held.hold.state == HoldState::InForce && held.hold.sanction > Sanction::Warn
        };
        if answer.holds.iter().any(|held| holds(&held)) {
            out.push_str("           what is held is on record, and not carried out until then\n");
        }
    } else {
        let mode = match answer.mode {
            Mode::Observe if answer.verdict == Verdict::Denied => {
                "observe, which this rule does not heed"
            }
            Mode::Observe => "observe: nothing is refused",
            Mode::Enforce => "enforce",
        };
        let _ = writeln!(out, "  mode     {mode}");
    }
    if answer.enforced_verdict != answer.verdict {
        let enforced = answer.enforced_verdict.as_str();
        let _ = writeln!(out, "           under enforce it would be {enforced}");
    }
    for state in &answer.limits {
        let usage = &state.usage;
        let policies: Vec<&str> = state.policies.iter().map(String::as_str).collect();
        let owner = format!("{}{}", state.owner, said(&policies));
        let (owner, limit) = (printable(&owner), usage.limit());
        let _ = write!(out, "  limit    {limit} of {owner}: {} used", usage.used);
        if let Some(free) = usage.free_at {
            let _ = write!(out, ", free again at {}", moment(free, style));
        }
        out.push('\n');
    }
    for held in &answer.holds {
        let words = hold_words(&held.hold, style);
        let _ = writeln!(out, "  held     {}: {words}", printable(&held.tenant));
    }
    for step in &answer.next {
        let _ = writeln!(out, "  next     {}", next_words(step, style));
    }
    for note in &answer.notes {
        let _ = writeln!(out, "  note     {}", printable(note));
    }
    out
}
