//! Up to which total of each tenant's counter the court has heard, in one life of the counters.

use std::collections::HashMap;

use crate::ledger::Position;

/// Up to where each tenant was heard.
pub struct Heard {
    what: &'static str,
    epoch: String,
    totals: HashMap<String, u64>,
}

impl Heard {
    /// Goes on where the record book ends: `what` names the counters there, `epoch` tells their
    /// life from others.
    pub fn new(what: &'static str, epoch: String, positions: Vec<Position>) -> Self {
        let totals = positions
            .into_iter()
            .filter(|position| position.epoch == epoch)
            .map(|position| (position.tenant, position.total))
            .collect();
        Self {
            what,
            epoch,
            totals,
        }
    }

    /// Whether nothing was heard in this life of the counters.
    pub fn is_empty(&self) -> bool {
        self.totals.is_empty()
    }

    /// Up to where this tenant was heard, if ever.
    pub fn of(&self, tenant: &str) -> Option<u64> {
        self.totals.get(tenant).copied()
    }

    /// Remembers up to where tenants were heard.
    pub fn extend(&mut self, totals: impl IntoIterator<Item = (String, u64)>) {
        self.totals.extend(totals);
    }

    /// What the record book keeps for a tenant heard up to `total`.
    pub fn position(&self, tenant: &str, total: u64) -> Position {
        Position {
            tenant: tenant.to_owned(),
            what: self.what,
            epoch: self.epoch.clone(),
            total,
        }
    }

    /// What the record book keeps for all of them.
    pub fn positions(&self) -> Vec<Position> {
        let totals = self.totals.iter();
        totals
            .map(|(tenant, total)| self.position(tenant, *total))
            .collect()
    }
}
