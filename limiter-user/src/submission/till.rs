//! Where mail is paid for: the kernel's charge program, and what it says of limits that are full.

use std::time::Duration;

use limiter_common::{
    sanction,
    verdict::{PortGroup, Reason},
};

use super::distinct::DistinctLimit;
use crate::kernel::{
    KernelError,
    charge::{Charged, Charger, From, Full, Load, Receipt},
    clock,
    maps::Maps,
};

/// The kernel's charge program, and its maps, to be read.
pub struct Till {
    charger: Charger,
    maps: Maps,
}

impl Till {
    /// Of these.
    #[must_use]
    pub fn new(charger: Charger, maps: Maps) -> Self {
        Self { charger, maps }
    }

    /// As [`Charger::count`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn count(&self, place: u32, load: Load, from: From) -> Result<Charged, KernelError> {
        self.charger.count(place, load, from)
    }

    /// As [`Charger::give_back`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn give_back(&self, receipt: Receipt) -> Result<bool, KernelError> {
        self.charger.give_back(receipt)
    }

    /// As [`Charger::refused`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn refused(&self, place: u32, reason: Reason, from: From) -> Result<bool, KernelError> {
        self.charger.refused(place, reason, from)
    }

    /// Tells of too many different recipients; whether refusals of the tenant are carried out.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn distinct(
        &self,
        place: u32,
        limit: &DistinctLimit,
        from: From,
        carried_out: bool,
    ) -> Result<bool, KernelError> {
        self.charger
            .refused_distinct(place, (limit.max, limit.window), from, carried_out)
    }

    /// Mail went in, to so many recipients: what came back is held against it, and comes back from each.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn went(&self, place: u32, recipients: u32) -> Result<(), KernelError> {
        self.charger.went(place, recipients.max(1))
    }

    /// Whether the tenant at a place is under a sanction that closes its mailboxes.
    #[must_use]
    pub fn closes_mailboxes(&self, place: u32) -> bool {
        let now_s = sanction::seconds(clock::monotonic_ns());
        let known = self.maps.tenants.get(place);
        known.is_ok_and(|tenant| {
            tenant.exists() && tenant.sanctions.refuses(PortGroup::Mailbox, now_s)
        })
    }

    /// Why the sanctions of the tenant at a place let none of its mail in; `None` where they do, or there
    /// is no such tenant.
    #[must_use]
    pub fn sanction(&self, place: u32) -> Option<Reason> {
        let asked = self.charger.would(place, Load::default());
        // Of nothing no limit is full.
        asked.ok().flatten().map(|refusal| refusal.reason)
    }

    /// How long until `units` more may fit below a limit that is full, if nobody else comes before.
    #[must_use]
    pub fn again(&self, full: &Full, units: u32, now_ns: u64) -> Option<Duration> {
        let tenant = self.maps.tenant(full.owner).ok()??;
        let limit = tenant.limits.iter().find(|it| {
            it.limit.unit == full.unit && it.limit.kind == full.kind && it.limit.max == full.max
        })?;
        let at = limit.admits_units_at(now_ns, units.max(1))?;
        Some(Duration::from_nanos(at.saturating_sub(now_ns)))
    }
}
