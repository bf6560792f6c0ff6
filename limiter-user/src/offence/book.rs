//! What the engine looks up: the policies, and who is bound by which.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ladder::Ladder;

/// Name of the tenant that stands for the node: no configured tenant can have it.
pub const NODE_NAME: &str = "(node)";
/// Name of the tenant that stands for whatever nobody claims.
pub const DEFAULT_NAME: &str = "(default)";

/// How many ancestors a tenant can have; a deeper or circular tree is cut off there.
const MAX_DEPTH: usize = 8;

/// The policies and the tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// The policies, by name.
    pub ladders: BTreeMap<String, Ladder>,
    /// The names of those that bind every tenant.
    pub everybody: BTreeSet<String>,
    /// The tenants, by name.
    pub tenants: BTreeMap<String, Subject>,
}

/// A tenant as the engine sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Whose customer it is.
    pub parent: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// Whether sanctions are recorded as proposals only.
    pub observe: bool,
    /// The policies that bind it and everybody below it, besides the node's.
    pub policies: BTreeSet<String>,
}

impl Book {
    /// `tenant`'s parent, its parent, and so on.
    #[must_use]
    pub fn above(&self, tenant: &str) -> Vec<&str> {
        let mut above: Vec<&str> = Vec::new();
        let mut at = tenant;
        while let Some(parent) = self.parent(at) {
            if above.len() == MAX_DEPTH || parent == tenant || above.contains(&parent) {
                break;
            }
            above.push(parent);
            at = parent;
        }
        above
    }

    /// `tenant`'s parent.
    #[must_use]
    pub fn parent(&self, tenant: &str) -> Option<&str> {
        self.tenants.get(tenant)?.parent.as_deref()
    }

    /// The policies that bind `tenant`: the node's, those of its ancestors, its own; none for those
    /// who are nobody's account. Whoever is no tenant any more is bound by the node's.
    #[must_use]
    pub fn binding(&self, tenant: &str) -> Vec<&Ladder> {
        if tenant == NODE_NAME || tenant == DEFAULT_NAME {
            return Vec::new();
        }
        let mut names: BTreeSet<&str> = self.everybody.iter().map(String::as_str).collect();
        for name in std::iter::once(tenant).chain(self.above(tenant)) {
            let subject = self.tenants.get(name);
            names.extend(subject.iter().flat_map(|s| &s.policies).map(String::as_str));
        }
        names
            .into_iter()
            .filter_map(|name| self.ladders.get(name))
            .collect()
    }

    /// Policies that are named and not there.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<&str> {
        let named = self.tenants.values().flat_map(|subject| &subject.policies);
        self.everybody
            .iter()
            .chain(named)
            .map(String::as_str)
            .filter(|name| !self.ladders.contains_key(*name))
            .collect()
    }
}
