//! Making the kernel hold what the compiled policy says, by writing only what changed.
//!
//! The order matters, for programs decide while it is written: room is checked before anything is
//! touched; what is referred to is written before what refers to it; identities are unbound before
//! the tenant they pointed to goes; an index that became free is not used again in the same pass.

mod blocked;
mod exempt;
mod locks;
mod room;
mod sanctions;
mod settings;
mod tenants;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use limiter_common::{
    abi::{DEFAULT, FIRST_TENANT, NOBODY, NODE},
    address::{ExemptKey, ExemptPorts},
    limit::LimitSet,
    owner::Owner,
    sanction::Sanctions,
    settings::Settings,
    tenant::Tenant,
};

pub use self::sanctions::{
    Ended, InForce, LONGEST_SANCTION, LayerNeeds, Reinstated, SHORTEST_SANCTION, SanctionError,
    Sanctioned,
};
use self::tenants::{Written, run_of};
use super::{
    Kernel, KernelError,
    alloc::{Run, Slots},
    identities::{Identities, depths},
    maps::{Maps, key_name},
    snapshot::Inheritance,
};
use crate::policy::{
    image::{Holder, Image, TenantRef},
    model::Exempt,
};

/// What one pass changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tenants that are new.
    pub added: usize,
    /// Tenants whose policy changed.
    pub changed: usize,
    /// Tenants that are gone.
    pub removed: usize,
    /// Entries of identity maps that were written.
    pub identities: usize,
    /// Blocked prefixes that were written or removed.
    pub blocked: usize,
}

impl Changes {
    /// Whether anything was written.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A tenant as it stands in the kernel.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    tenant: Tenant,
    set: LimitSet,
    run: Option<Run>,
}

/// The agent's copy of what stands in the kernel.
#[derive(Debug)]
pub struct Mirror {
    entries: BTreeMap<u32, Entry>,
    by_name: HashMap<String, u32>,
    slots: Slots,
    /// How many blocks there are.
    blocks: u32,
    /// Interned sets of limits, with how many tenants use each.
    sets: HashMap<LimitSet, (u32, usize)>,
    free_sets: BTreeSet<u32>,
    fresh_set: u32,
    /// Exempt sets by content.
    exempt_sets: BTreeMap<Vec<Exempt>, u32>,
    exempt: BTreeMap<(u32, ExemptKey), ExemptPorts>,
    identities: Identities,
    /// The blocked prefixes; none where they have to be looked up.
    blocked: Option<blocked::Known>,
    settings: Option<Settings>,
    /// What new tenants begin with, until the first policy is written.
    inheritance: Option<Inheritance>,
    /// Everybody's own sanctions, where there are any.
    own: BTreeMap<u32, Sanctions>,
    /// Whether an earlier life of the agent may have left something at free indices.
    adopted: bool,
    ports: Vec<(u16, u8)>,
    free: BTreeSet<u32>,
    fresh: u32,
    capacity: u32,
    netns: u32,
    scope: (u64, u32),
}

impl Mirror {
    /// Reads what stands in the kernel. `netns` is the inode number of the node's own network
    /// namespace.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read(maps: &Maps, netns: u32) -> Result<Self, KernelError> {
        let mut mirror = Self {
            entries: BTreeMap::new(),
            by_name: HashMap::new(),
            slots: Slots::new(maps.blocks.len()),
            blocks: maps.blocks.len(),
            sets: HashMap::new(),
            free_sets: BTreeSet::new(),
            fresh_set: 1,
            exempt_sets: BTreeMap::new(),
            exempt: BTreeMap::new(),
            identities: Identities::read(maps)?,
            blocked: None,
            settings: None,
            inheritance: None,
            own: BTreeMap::new(),
            adopted: false,
            ports: Vec::new(),
            free: BTreeSet::new(),
            fresh: FIRST_TENANT,
            // A first start that was killed half-way can leave maps of different sizes.
            capacity: maps
                .tenants
                .len()
                .min(maps.stats.len())
                .min(maps.locks.len())
                .min(maps.sanctions.len()),
            netns,
            scope: (0, 0),
        };
        let mut runs = Vec::new();
        for (key, index) in maps.names.entries()? {
            let tenant = maps.tenants.get(index)?;
            if !tenant.exists() {
                continue;
            }
            let set = maps.limit_sets.get(tenant.limit_set)?;
            let run = run_of(&tenant, &set);
            mirror.read_own(index, maps)?;
            runs.extend(run);
            mirror.use_set(&set, tenant.limit_set);
            let name = key_name(&key);
            mirror.by_name.insert(name.clone(), index);
            mirror.entries.insert(
                index,
                Entry {
                    name,
                    tenant,
                    set,
                    run,
                },
            );
            mirror.fresh = mirror.fresh.max(index + 1);
        }
        mirror.adopted = !mirror.entries.is_empty();
        mirror.slots = Slots::with_used(maps.blocks.len(), &runs);
        mirror.free = (FIRST_TENANT..mirror.fresh)
            .filter(|i| !mirror.entries.contains_key(i))
            .collect();
        mirror.free_sets = {
            let used: BTreeSet<u32> = mirror.sets.values().map(|(id, _)| *id).collect();
            (1..mirror.fresh_set)
                .filter(|id| !used.contains(id))
                .collect()
        };
        for (bits, key, ports) in maps.exempt.entries()? {
            mirror.exempt.insert((bits, key), ports);
        }
        Ok(mirror)
    }

    /// The kernel's index of a tenant.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The indices of all tenants, with their names.
    pub fn tenants(&self) -> impl Iterator<Item = (u32, &str)> {
        self.entries
            .iter()
            .map(|(index, entry)| (*index, entry.name.as_str()))
    }

    /// Makes the kernel hold `image`.
    ///
    /// # Errors
    ///
    /// The image does not fit (nothing is changed then), or a map refuses (what was written until
    /// then stays, and the next pass goes on from there).
    pub fn apply(&mut self, image: &Image, kernel: &mut Kernel) -> Result<Changes, KernelError> {
        let applied = self.apply_policy(image, kernel);
        // Parents may have changed, whatever came of it.
        let refreshed = self.refresh_sanctions(kernel);
        let changes = applied?;
        refreshed?;
        Ok(changes)
    }

    fn apply_policy(&mut self, image: &Image, kernel: &mut Kernel) -> Result<Changes, KernelError> {
        self.check_room(image, &kernel.maps)?;
        let depths = depths(image.cgroups.iter().map(|binding| binding.depth))?;
        let blocked = self.plan_blocked(&image.blocked, &kernel.maps)?;
        let mut changes = Changes::default();

        // While claims move, those at the old depths hold as long as those at the new do not.
        let old_depths = kernel.maps.settings.get(0)?.cgroup_depths;
        let both = super::identities::depths(both_depths(&old_depths, &depths)).unwrap_or(depths);
        self.write_settings(image, both, kernel)?;
        if let Some(plan) = blocked {
            changes.blocked = self.write_blocked(plan, kernel)?;
        }
        let retired = self.write_exempt_sets(image, kernel)?;
        let indices = self.assign_indices(image)?;
        self.merge_locks(image, &indices, kernel)?;
        let counts_mail = image.counts_mail();
        for (at, tenant) in image.tenants.iter().enumerate() {
            let index = indices[at];
            let parent = tenant.parent.map_or(NOBODY, |parent| indices[parent]);
            match self.write_tenant(index, parent, tenant, counts_mail[at], image, kernel)? {
                Written::Same => {}
                Written::Changed => changes.changed += 1,
                Written::Added => changes.added += 1,
            }
        }
        // Before anybody's identities lead to tenants with other ancestors.
        self.refresh_sanctions(kernel)?;

        let wanted = identities_of(image, |at| Owner::tenant(indices[at]));
        changes.identities = self.identities.become_in(wanted, &mut kernel.maps)?;
        self.write_settings(image, depths, kernel)?;

        let kept: BTreeSet<u32> = indices.into_iter().collect();
        let gone: Vec<u32> = self
            .entries
            .keys()
            .filter(|index| !kept.contains(index))
            .copied()
            .collect();
        // Children first, so that nobody's parent is missing.
        for index in gone.into_iter().rev() {
            self.remove_tenant(index, kernel)?;
            changes.removed += 1;
        }
        self.remove_exempt(&retired, kernel)?;
        self.inheritance = None;
        Ok(changes)
    }

    /// What tenants begin with that the next [`apply`](Self::apply) adds. Nothing is attached yet:
    /// what they count would be lost.
    pub fn inherit(&mut self, inheritance: Inheritance) {
        self.inheritance = Some(inheritance);
    }

    /// The tenants from the index `from` on, their limits, and where the state of these stands.
    pub(super) fn states(&self, from: u32) -> impl Iterator<Item = (u32, &str, &LimitSet, Run)> {
        self.entries.range(from..).filter_map(|(index, entry)| {
            Some((*index, entry.name.as_str(), &entry.set, entry.run?))
        })
    }

    /// Finds or assigns the index of every tenant of the image.
    fn assign_indices(&mut self, image: &Image) -> Result<Vec<u32>, KernelError> {
        let mut indices = Vec::with_capacity(image.tenants.len());
        for (at, tenant) in image.tenants.iter().enumerate() {
            let index = match (at, self.by_name.get(&tenant.name)) {
                (0, _) => NODE,
                (1, _) => DEFAULT,
                (_, Some(index)) => *index,
                (_, None) => self.free_index()?,
            };
            self.by_name.insert(tenant.name.clone(), index);
            indices.push(index);
        }
        Ok(indices)
    }

    fn free_index(&mut self) -> Result<u32, KernelError> {
        if let Some(index) = self.free.pop_first() {
            return Ok(index);
        }
        if self.fresh < self.capacity {
            self.fresh += 1;
            return Ok(self.fresh - 1);
        }
        let room = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        Err(KernelError::NoRoom {
            what: "tenants",
            needed: room + 1,
            room,
        })
    }

    /// Sets until which moment of the kernel's clock nothing is refused, on the whole node or of
    /// one tenant.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or the kernel refuses.
    pub fn observe(
        &mut self,
        index: Option<u32>,
        until_ns: u64,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        match index {
            Some(index) => kernel.set_observe(index, until_ns),
            None => {
                let settings = Settings {
                    observe_until_ns: until_ns,
                    ..kernel.maps.settings.get(0)?
                };
                kernel.maps.settings.set(0, settings)
            }
        }
    }
}

/// What an image says about whose identities are.
fn identities_of(image: &Image, tenant: impl Fn(TenantRef) -> Owner) -> Identities {
    let cgroups = image.cgroups.iter();
    Identities::wanted(
        &image.uids,
        |binding| match binding.holder {
            Holder::Mta => Owner::MTA,
            Holder::Tenant(at) => tenant(at),
        },
        cgroups.map(|binding| (binding.id, tenant(binding.tenant))),
        &image.own_addresses,
    )
    .with_networks(
        &image.addresses,
        |binding| tenant(binding.tenant),
        &image.management,
    )
}

/// The depths in both lists, without what only fills them up.
fn both_depths<'a>(old: &'a [u8], new: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    let all = old.iter().chain(new).copied();
    all.filter(|depth| *depth != 0).map(u32::from)
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            changed,
            removed,
            identities,
            blocked,
        } = self;
        write!(
            f,
            "{added} tenants new, {changed} changed, {removed} gone; {identities} identities written"
        )?;
        if *blocked > 0 {
            write!(f, "; {blocked} blocked prefixes written or removed")?;
        }
        Ok(())
    }
}
