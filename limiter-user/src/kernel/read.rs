//! Reading what stands in the kernel: policies, counters, usage.

use std::collections::{BTreeMap, HashMap};

use limiter_common::{
    abi::{MAX_DEPTH, NOBODY},
    limit::{BLOCK_SLOTS, Kind},
    pace,
    stats::Stats,
    tenant::Tenant,
    window::Slot,
};

use super::{
    KernelError,
    limits::{KnownLimit, defs},
    maps::{Maps, key_name},
};

/// The tenants that the kernel knows, the node's and the default's included.
#[derive(Clone, Debug)]
pub struct KnownNames {
    by_name: BTreeMap<String, u32>,
    by_index: HashMap<u32, String>,
}

impl KnownNames {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_name
            .iter()
            .map(|(name, index)| (name.as_str(), *index))
    }

    /// The index of a tenant.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The name of the tenant at an index, `#7` if it has none.
    #[must_use]
    pub fn name_of(&self, index: u32) -> String {
        let name = self.by_index.get(&index);
        name.map_or_else(|| format!("#{index}"), Clone::clone)
    }
}

/// A tenant as the kernel knows it.
#[derive(Clone, Debug)]
pub struct KnownTenant {
    /// Its index.
    pub index: u32,
    /// Its policy.
    pub tenant: Tenant,
    /// Its limits and where they stand.
    pub limits: Vec<LimitUse>,
}

/// A limit and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct LimitUse {
    /// The limit.
    pub limit: KnownLimit,
    /// The width of its buckets, or the interval, ns.
    span_ns: u64,
    slot: Slot,
}

impl LimitUse {
    /// The units that count at `now_ns`. For a pace: how many of the burst are not available.
    #[must_use]
    pub fn used(&self, now_ns: u64) -> u32 {
        match self.limit.kind {
            Kind::Window => self.slot.used(now_ns, self.span_ns),
            Kind::Pace => {
                let early = self.slot.epoch.saturating_sub(now_ns);
                let units = early.div_ceil(self.span_ns.max(1));
                u32::try_from(units).unwrap_or(u32::MAX).min(self.limit.max)
            }
        }
    }

    /// Whether one more unit fits at `now_ns`.
    #[must_use]
    pub fn admits(&self, now_ns: u64) -> bool {
        self.admits_at(now_ns).is_some_and(|at| at <= now_ns)
    }

    /// When one more unit fits if nothing else is admitted; `None` if it never does.
    #[must_use]
    pub fn admits_at(&self, now_ns: u64) -> Option<u64> {
        self.admits_units_at(now_ns, 1)
    }

    /// When so many more units fit if nothing else is admitted; `None` if they never do.
    #[must_use]
    pub fn admits_units_at(&self, now_ns: u64, units: u32) -> Option<u64> {
        let KnownLimit { kind, max, .. } = self.limit;
        match kind {
            Kind::Window => self.slot.admits_at(now_ns, self.span_ns, units, max),
            Kind::Pace => Some(pace::admits_at(
                self.slot.epoch,
                now_ns,
                self.span_ns,
                max,
                units,
            )),
        }
    }
}

impl Maps {
    /// The names and indices of all tenants.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn tenant_names(&self) -> Result<KnownNames, KernelError> {
        let entries = self.names.entries()?;
        let by_name: BTreeMap<String, u32> = entries
            .iter()
            .map(|(key, index)| (key_name(key), *index))
            .collect();
        let by_index = by_name
            .iter()
            .map(|(name, index)| (*index, name.clone()))
            .collect();
        Ok(KnownNames { by_name, by_index })
    }

    /// The tenant at an index; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn tenant(&self, index: u32) -> Result<Option<KnownTenant>, KernelError> {
        let tenant = self.tenants.get(index)?;
        if !tenant.exists() {
            return Ok(None);
        }
        let set = self.limit_sets.get(tenant.limit_set)?;
        let block = if set.count == 0 {
            None
        } else {
            Some(self.blocks.get(tenant.block)?)
        };
        let limits = defs(&set)
            .iter()
            .filter_map(|def| {
                let place = (usize::from(tenant.first_slot) + usize::from(def.slot)) % BLOCK_SLOTS;
                Some(LimitUse {
                    limit: KnownLimit::from_def(def)?,
                    span_ns: def.span_ns,
                    slot: block.as_ref()?.slot(place),
                })
            })
            .collect();
        Ok(Some(KnownTenant {
            index,
            tenant,
            limits,
        }))
    }

    /// A tenant and its ancestors, the node last.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn chain(&self, index: u32) -> Result<Vec<KnownTenant>, KernelError> {
        let mut chain = Vec::new();
        let mut at = index;
        while at != NOBODY && chain.len() <= MAX_DEPTH {
            let Some(tenant) = self.tenant(at)? else {
                break;
            };
            at = tenant.tenant.parent;
            chain.push(tenant);
        }
        Ok(chain)
    }

    /// The counters of the tenant at an index.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn counters(&self, index: u32) -> Result<Stats, KernelError> {
        self.stats.get(index)
    }
}
