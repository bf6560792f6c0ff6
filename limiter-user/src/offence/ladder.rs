//! A policy file as checked: what is an offence, and what follows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    time::Span,
    words::{Audience, Bill, Part, Sanction, Severity, words},
};
use crate::policy::model::Bounds;

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// Its name, unique on the node.
    pub name: String,
    /// What whoever it binds may do at most.
    pub plan: Option<Bounds>,
    /// What is an offence. The gravest rule that fits a signal decides.
    pub offences: Vec<OffenceRule>,
    /// Whether refused attempts alone may do more than warn.
    pub refused_attempts: RefusedAttempts,
    /// After how long an offence stops counting; `None`: never.
    pub forget_after: Option<Span>,
    /// What follows.
    pub steps: Vec<Step>,
    /// What is charged per item.
    pub charges: Vec<Charge>,
    /// Sanctions that wait for an operator.
    pub confirm: BTreeSet<Sanction>,
    /// Reports of abuse: which are valid, and how fast they are handled.
    pub complaints: ComplaintRules,
    /// How long records are kept at least.
    pub keep_records: Option<Span>,
}

impl Ladder {
    /// Whether any rule speaks of a share of the mail sent.
    #[must_use]
    pub fn has_rates(&self) -> bool {
        self.offences.iter().any(|rule| {
            matches!(
                rule.when,
                When::ComplaintRate(_) | When::BounceRate(_) | When::HardBounceRate(_)
            )
        })
    }

    /// Whether any rule speaks of bounces.
    #[must_use]
    pub fn has_bounce_rates(&self) -> bool {
        let speaks =
            |rule: &OffenceRule| matches!(rule.when, When::BounceRate(_) | When::HardBounceRate(_));
        self.offences.iter().any(speaks)
    }

    /// Over what time any rule counts at most.
    #[must_use]
    pub fn longest_window(&self) -> Span {
        let windows = self.offences.iter().filter_map(|rule| match &rule.when {
            When::Violations { within, .. }
            | When::Complaints { within, .. }
            | When::SpreadAddresses { within, .. }
            | When::SpreadAccounts { within, .. }
            | When::Customers { within, .. } => Some(*within),
            When::ComplaintRate(rate) | When::BounceRate(rate) | When::HardBounceRate(rate) => {
                Some(rate.within)
            }
            When::Listing { .. } | When::Operator(_) => None,
        });
        windows.max().unwrap_or_default()
    }

    /// Over how many addresses mail may not be spread, and in what time.
    pub fn spreads(&self) -> impl Iterator<Item = (u64, Span)> {
        self.offences.iter().filter_map(|rule| match rule.when {
            When::SpreadAddresses { at_least, within } => Some((at_least, within)),
            _ => None,
        })
    }
}

words! {
    /// What refused attempts can lead to.
    RefusedAttempts {
        /// No more than a warning, and no count: nothing left the node.
        Warn => "warn",
        /// What the steps say.
        Punish => "punish",
    }
}

/// What makes an offence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffenceRule {
    /// The condition.
    pub when: When,
    /// How grave it is then.
    pub severity: Severity,
}

/// A condition over signals. All windows slide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Violations.
    Violations {
        /// Of which kinds; empty: of any.
        reasons: BTreeSet<String>,
        /// How many, 1 or more.
        at_least: u64,
        /// In what time.
        within: Span,
    },
    /// Valid complaints.
    Complaints {
        /// How many, 1 or more.
        at_least: u64,
        /// In what time.
        within: Span,
    },
    /// Valid complaints for mail sent.
    ComplaintRate(Rate),
    /// Bounces of both kinds for mail sent.
    BounceRate(Rate),
    /// Hard bounces for mail sent.
    HardBounceRate(Rate),
    /// An address of the provider on a blacklist.
    Listing {
        /// On which; empty: on any.
        lists: BTreeSet<String>,
    },
    /// An operator calls it so grave.
    Operator(Severity),
    /// Mail or attempts of the tenant itself from so many source addresses.
    SpreadAddresses {
        /// How many different ones.
        at_least: u64,
        /// In what time.
        within: Span,
    },
    /// Offending mail or attempts from so many accounts below the tenant, itself included.
    SpreadAccounts {
        /// How many different ones.
        at_least: u64,
        /// In what time.
        within: Span,
    },
    /// Offences of those below the tenant.
    Customers {
        /// How many.
        offences: u64,
        /// How grave each at least.
        severity: Severity,
        /// In what time.
        within: Span,
    },
}

/// A share of the mail sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// More than so many in a million.
    pub above_ppm: u64,
    /// With so much mail sent at least, or it says nothing.
    pub of_at_least: u64,
    /// In what time.
    pub within: Span,
}

/// What follows an offence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// From this severity on, up to the next step's.
    pub severity: Option<Severity>,
    /// From this offence on, counted from 1, up to the next step's.
    pub offence: Option<u32>,
    /// For whoever was reinstated before.
    pub again: bool,
    /// For tenants of these plans only, and in place of the steps without plans; empty: all.
    pub plans: BTreeSet<String>,
    /// What the tenant suffers.
    pub sanction: Sanction,
    /// For how long.
    pub length: Option<Length>,
    /// What lifts it.
    pub lift: Lift,
    /// By when it is to be in force: the deadline of a proposal.
    pub within: Option<Span>,
    /// What holds while it waits for an operator.
    pub meanwhile: Option<Sanction>,
    /// What follows if it is not lifted by then.
    pub then: Option<(Sanction, Span)>,
    /// Who is told.
    pub tell: BTreeSet<Audience>,
    /// Said in the notice.
    pub note: Vec<String>,
    /// Charged once, when the step is taken.
    pub charges: Vec<Charge>,
}

/// For how long a sanction holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// Nothing lifts it before; 0 where the file names a single duration.
    pub at_least: Span,
    /// When the condition `time` is met.
    pub at_most: Span,
}

impl Length {
    /// How long a warning stands where the file says nothing.
    pub const WARNING: Self = Self {
        at_least: Span(0),
        at_most: Span::days(1),
    };
}

words! {
    /// What can lift a sanction.
    Condition {
        /// Its time is over.
        Time => "time",
        /// The owner was spoken to.
        Contact => "contact",
        /// The owner acknowledged what must be done.
        Acknowledgement => "acknowledgement",
        /// An operator looked and is content.
        Review => "review",
        /// Nothing.
        Never => "never",
    }
}

/// Conditions joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lift {
    /// One is enough.
    Any(BTreeSet<Condition>),
    /// All are needed.
    All(BTreeSet<Condition>),
}

words! {
    /// What is charged for.
    Per {
        /// Each offence that counts.
        Offence => "offence",
        /// Each valid complaint.
        Complaint => "complaint",
        /// Each blacklisting.
        Listing => "listing",
    }
}

/// Money.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// For what; `None`: once, for the step it stands in.
    pub per: Option<Per>,
    /// From this severity of an offence on.
    pub severity: Option<Severity>,
    /// How much, in hundredths; `None`: a person will say.
    pub cents: Option<u64>,
    /// ISO 4217, such as USD.
    pub currency: String,
    /// What a person adds: delisting, remediation, legal fees.
    pub plus: Vec<String>,
    /// Who pays.
    pub bill: Bill,
}

/// What is done with reports of abuse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComplaintRules {
    /// Machine-readable formats that are accepted: arf, xarf; empty: every one.
    pub formats: BTreeSet<String>,
    /// What a valid one holds.
    pub require: BTreeSet<Part>,
    /// How long each thing may take, by its name: acknowledge, act, answer.
    pub clocks: BTreeMap<String, Span>,
}
