//! A policy in words.

use super::model::Policy;

/// What would be loaded. Placeholder of the interface.
#[must_use]
pub fn summary(policy: &Policy) -> String {
    format!("{} tenants", policy.tenants.len())
}
