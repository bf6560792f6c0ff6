//! Whose mail a report is about.
//!
//! A report is a stranger's word, and headers are words of the mail's sender: neither names a tenant
//! by itself. A tenant is named where something that **this node** recorded says the same:
//!
//! - **the port**: the kernel saw that tenant's connection leave from the reported address and port at
//!   that time;
//! - **the destination**: the kernel saw that tenant, and nobody else, connect to the host that
//!   received the mail at that time;
//! - **the log**: the mail server's own log (not one that syslog writes, which every local user can
//!   write to) says who handed in the message with that queue id or Message-ID, and that it went out
//!   at that time;
//! - **the address**: it is the tenant's own, the kernel saw that tenant send at that time, and
//!   somebody is known to stand behind the report: an operator who handed it in, or a trusted
//!   reporter whose signature the mail server checked. Without that, anybody could have a neighbour
//!   suspended by writing down its address and the hour.
//!
//! All of them need that the reported address is this node's, and was written by the receiving side
//! (a field of the report, or the newest Received field): below that the mail's sender writes what it
//! likes, for instance that a rival's server passed it on. A Message-ID alone proves nothing either,
//! since whoever got a mail of the rival's can put its Message-ID into a spam of its own; that spam
//! leaves from elsewhere, or by a direct connection that the kernel saw, and then it is not clear any
//! more.
//!
//! Where proofs name more than one tenant, or there are only hints (a domain in From or in a
//! signature that nobody checked, the hour, a log that others can write), a person decides. Of two
//! tenants of which one is above the other the lower one is meant. A domain only chooses among the
//! domains of a tenant that was proved otherwise.

mod facts;
mod grounds;
mod history;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    facts::{About, Facts, FactsError, Owner, Sighting},
    grounds::Ground,
    history::NodeFacts,
    owners::Owners,
};
use super::report::Report;

/// Who stands behind a report, beside its own header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vouched {
    /// Nobody.
    #[default]
    No,
    /// An operator who handed it in.
    Operator,
}

/// Whose mail a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// This tenant's; the node's own records say so.
    Tenant {
        /// Its name.
        tenant: String,
        /// When its mail left, by the node's own records where they say it, else as reported.
        happened: Option<Timestamp>,
        /// What says so.
        grounds: BTreeSet<Ground>,
    },
    /// A person has to decide.
    Ambiguous {
        /// Whose it may be, and what speaks for it.
        candidates: Vec<Candidate>,
        /// Why it is not clear.
        why: String,
    },
    /// Nobody's that this node knows.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Whose it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The tenant.
    pub tenant: String,
    /// What speaks for it.
    pub grounds: BTreeSet<Ground>,
}

/// Says whose mail `report` is about.
///
/// Never fails: what cannot be read is no proof, and `why` says so.
#[must_use]
pub fn attribute(report: &Report, facts: &dyn Facts, vouched: Vouched) -> Attribution {
    let found = grounds::gather(report, facts, vouched);
    let mut by_tenant: BTreeMap<String, BTreeSet<Ground>> = BTreeMap::new();
    for (tenant, ground) in found.grounds {
        by_tenant.entry(tenant).or_default().insert(ground);
    }
    let proved: BTreeSet<String> = by_tenant
        .iter()
        .filter(|(_, grounds)| grounds.iter().any(Ground::proves))
        .map(|(tenant, _)| tenant.clone())
        .collect();
    let proved = lowest(&proved, facts);
    let against: Vec<&String> = match proved.first() {
        Some(tenant) => by_tenant
            .iter()
            .filter(|(other, grounds)| {
                grounds.iter().any(Ground::speaks_against_others) && !related(other, tenant, facts)
            })
            .map(|(other, _)| other)
            .collect(),
        None => Vec::new(),
    };
    if let ([tenant], true) = (proved.as_slice(), against.is_empty()) {
        let grounds = by_tenant
            .iter()
            .filter(|(other, _)| related(other, tenant, facts))
            .flat_map(|(_, grounds)| grounds.iter().cloned())
            .collect();
        return Attribution::Tenant {
            tenant: its_domain(tenant, report, facts),
            happened: found.happened.or(report.arrival),
            grounds,
        };
    }
    let mut why = found.why;
    if proved.len() > 1 {
        why.push(format!("the records name {}", proved.join(" and ")));
    }
    if !against.is_empty() {
        let against: Vec<&str> = against.iter().map(|tenant| tenant.as_str()).collect();
        why.push(format!("{} may have sent it too", against.join(", ")));
    }
    if by_tenant.is_empty() {
        if why.is_empty() {
            why.push("nothing in it points to a tenant of this node".to_owned());
        }
        return Attribution::Unknown {
            why: why.join("; "),
        };
    }
    if why.is_empty() {
        why.push("nothing that this node recorded proves it".to_owned());
    }
    Attribution::Ambiguous {
        candidates: by_tenant
            .into_iter()
            .map(|(tenant, grounds)| Candidate { tenant, grounds })
            .collect(),
        why: why.join("; "),
    }
}

/// Those that have none of the others below them.
fn lowest(tenants: &BTreeSet<String>, facts: &dyn Facts) -> Vec<String> {
    let above = |tenant: &String| {
        tenants
            .iter()
            .any(|other| other != tenant && ancestors(other, facts).any(|above| above == *tenant))
    };
    let lowest = tenants.iter().filter(|tenant| !above(tenant));
    lowest.cloned().collect()
}

/// Whether one of two is the other or above it.
fn related(one: &str, other: &str, facts: &dyn Facts) -> bool {
    one == other
        || ancestors(one, facts).any(|above| above == other)
        || ancestors(other, facts).any(|above| above == one)
}

/// Who is above `tenant`. Trees are four deep; whoever says otherwise is not followed for ever.
fn ancestors(tenant: &str, facts: &dyn Facts) -> impl Iterator<Item = String> {
    std::iter::successors(facts.parent(tenant), |above| facts.parent(above)).take(8)
}

/// The domain of `tenant` that the mail was in the name of, if that is one.
fn its_domain(tenant: &str, report: &Report, facts: &dyn Facts) -> String {
    let domains: BTreeSet<String> = grounds::domains(report)
        .iter()
        .filter_map(|domain| facts.tenant_of_domain(domain))
        .filter(|domain| facts.parent(domain).as_deref() == Some(tenant))
        .collect();
    match domains.first() {
        Some(domain) if domains.len() == 1 => domain.clone(),
        _ => tenant.to_owned(),
    }
}
