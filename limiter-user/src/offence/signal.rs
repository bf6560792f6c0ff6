//! What the engine hears.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{
    time::{Moment, Span},
    words::{Part, Sanction, Severity},
};

/// The reason of a violation that the kernel does not see: more of Mailman's lists than an account may have.
pub const MAILING_LISTS: &str = "mailing_lists";

/// Something happened. `happened` is when, in the engine's time; what lies in the future is taken
/// for now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Time passed, nothing else.
    Tick,
    /// Attempts against the rules.
    Violations {
        /// Whose.
        tenant: String,
        /// Which rule, as in events: `direct_smtp`, `limit`…
        reason: String,
        /// How many.
        count: u64,
        /// Whether they were refused, so that nothing left the node.
        refused: bool,
        /// From where.
        source: Option<IpAddr>,
        /// When.
        happened: Moment,
        /// What else is known of them.
        #[serde(default)]
        around: Circumstances,
    },
    /// Mail went out: what rates are held against.
    Sent {
        /// Whose.
        tenant: String,
        /// How many messages.
        messages: u64,
    },
    /// Mail went out from these addresses: what `spread` is held against.
    Sources {
        /// Whose.
        tenant: String,
        /// From where, and when last.
        sources: BTreeMap<IpAddr, Moment>,
    },
    /// Mail came back.
    Bounces {
        /// Whose.
        tenant: String,
        /// Permanent failures.
        hard: u64,
        /// Others.
        soft: u64,
        /// When the mail was sent.
        happened: Moment,
    },
    /// A report of abuse.
    Complaint(Complaint),
    /// An address of the provider was blacklisted because of the tenant.
    Listing {
        /// Whose doing.
        tenant: String,
        /// What tells this incident from all others: the list and the address.
        id: String,
        /// The list.
        list: String,
        /// When what led to it happened.
        happened: Moment,
    },
    /// An operator calls something an offence.
    Offence {
        /// Whose.
        tenant: String,
        /// How grave.
        severity: Severity,
        /// What, and why.
        reason: String,
        /// Who says so.
        by: String,
        /// When it happened.
        happened: Moment,
    },
    /// An operator puts a tenant under a sanction, whatever the policies say.
    Suspend {
        /// Whom.
        tenant: String,
        /// Under what.
        sanction: Sanction,
        /// For how long; `None`: until it is taken back.
        length: Option<Span>,
        /// Why.
        reason: String,
        /// Who does it.
        by: String,
    },
    /// A person's word about a tenant. It holds for what began before it, from the next
    /// millisecond on.
    Word {
        /// About whom.
        tenant: String,
        /// What.
        word: Word,
        /// Who says so.
        by: String,
    },
    /// A person handled a complaint.
    Handled {
        /// The tenant it is about.
        tenant: String,
        /// Which.
        complaint: String,
        /// What was done: acknowledge, act, answer.
        clock: String,
        /// Who did it.
        by: String,
    },
    /// A complaint was wrong, or is about somebody else: it counts no more, from the next millisecond
    /// on. What followed from it stands.
    Withdrawn {
        /// Against whom it counted.
        tenant: String,
        /// Which.
        complaint: String,
        /// Who says so.
        by: String,
    },
    /// A closed case was wrong: it counts no more, from the next millisecond on.
    Void {
        /// Whose.
        tenant: String,
        /// By which policy.
        policy: String,
        /// Its number.
        case: u32,
        /// Who says so.
        by: String,
    },
    /// An operator says that the wall clock is right.
    Settle {
        /// Who says so.
        by: String,
    },
}

/// What is known of many attempts together, for whoever is told of them: nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Circumstances {
    /// When the last of them came, if that is not when the first did.
    pub last: Option<Moment>,
    /// Who made them, in short: a user and a program, an address, an interface; some of them.
    pub from: BTreeSet<String>,
    /// To which ports; some of them.
    pub ports: BTreeSet<u16>,
}

/// How many different makers of attempts, and ports, are kept.
const MAX_SEEN: usize = 16;

impl Circumstances {
    /// Adds what is known of others. Of too many the first in their order are kept, whatever order
    /// they come in.
    pub fn add(&mut self, others: &Self) {
        self.last = self.last.max(others.last);
        for from in &others.from {
            self.add_from(from);
        }
        for port in &others.ports {
            self.add_port(*port);
        }
    }

    /// Adds somebody who made one.
    pub fn add_from(&mut self, from: &str) {
        if !self.from.contains(from) {
            self.from.insert(from.to_owned());
            if self.from.len() > MAX_SEEN {
                self.from.pop_last();
            }
        }
    }

    /// Adds a port to which one went.
    pub fn add_port(&mut self, port: u16) {
        self.ports.insert(port);
        if self.ports.len() > MAX_SEEN {
            self.ports.pop_last();
        }
    }
}

/// A report of abuse, attributed to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Complaint {
    /// About whom.
    pub tenant: String,
    /// What tells it from all others; a second one with the same id is a duplicate.
    pub id: String,
    /// arf, xarf, or another.
    pub format: String,
    /// What it holds.
    pub parts: BTreeSet<Part>,
    /// Where the mail came from.
    pub source: Option<IpAddr>,
    /// When the mail was sent.
    pub happened: Moment,
}

/// What a person says about a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The owner was spoken to.
    Contact,
    /// The owner acknowledged what must be done.
    Acknowledgement,
    /// It was looked at, and is in order.
    Review,
    /// Proposals of this sanction are to be carried out.
    Confirm(Sanction),
    /// Proposals of this sanction are not to be carried out.
    Reject(Sanction),
    /// Everything is lifted, against the ladder if need be.
    Reinstate,
    /// What makes the tenant suffer this is lifted, against the ladder if need be.
    Lift(Sanction),
    /// Everything is lifted, and was wrong: what is open never counts.
    Acquit,
}

impl Signal {
    /// Its kind, as in files.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Violations { .. } => "violations",
            Self::Sent { .. } => "sent",
            Self::Sources { .. } => "sources",
            Self::Bounces { .. } => "bounces",
            Self::Complaint(_) => "complaint",
            Self::Listing { .. } => "listing",
            Self::Offence { .. } => "offence",
            Self::Suspend { .. } => "suspend",
            Self::Word { .. } => "word",
            Self::Handled { .. } => "handled",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Void { .. } => "void",
            Self::Settle { .. } => "settle",
        }
    }

    /// Whom it is about.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tick | Self::Settle { .. } => None,
            Self::Violations { tenant, .. }
            | Self::Sent { tenant, .. }
            | Self::Sources { tenant, .. }
            | Self::Bounces { tenant, .. }
            | Self::Complaint(Complaint { tenant, .. })
            | Self::Listing { tenant, .. }
            | Self::Offence { tenant, .. }
            | Self::Suspend { tenant, .. }
            | Self::Word { tenant, .. }
            | Self::Handled { tenant, .. }
            | Self::Withdrawn { tenant, .. }
            | Self::Void { tenant, .. } => Some(tenant),
        }
    }

    /// When it happened, if that may be before it was heard.
    #[must_use]
    pub const fn happened(&self) -> Option<Moment> {
        match self {
            Self::Violations { happened, .. }
            | Self::Bounces { happened, .. }
            | Self::Complaint(Complaint { happened, .. })
            | Self::Listing { happened, .. }
            | Self::Offence { happened, .. } => Some(*happened),
            Self::Tick
            | Self::Sent { .. }
            | Self::Sources { .. }
            | Self::Suspend { .. }
            | Self::Word { .. }
            | Self::Handled { .. }
            | Self::Withdrawn { .. }
            | Self::Void { .. }
            | Self::Settle { .. } => None,
        }
    }
}
