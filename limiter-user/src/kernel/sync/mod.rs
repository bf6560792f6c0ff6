//! Making the kernel hold what the compiled policy says, by writing only what changed.
//!
//! The order matters, for programs decide while it is written: room is checked before anything is
//! touched; what is referred to is written before what refers to it; identities are unbound before
//! the tenant they pointed to goes; an index that became free is not used again in the same pass.

mod blocked;
mod entries;
mod exempt;
mod fresh;
mod locks;
mod room;
mod sanctions;
mod sets;
mod settings;
mod tenants;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
use self::{
    entries::{Entries, Entry},
    fresh::Fresh,
    locks::Forwards,
    sets::Sets,
    tenants::run_of,
};
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

/// The agent's copy of what stands in the kernel.
#[derive(Debug)]
pub struct Mirror {
    entries: Entries,
    by_name: HashMap<String, u32>,
    slots: Slots,
    /// How many blocks there are.
    blocks: u32,
    sets: Sets,
    forwards: Forwards,
    /// Whether locks were last joined for a node that has limits itself.
    joined_with_node: Option<bool>,
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
    /// Whether any tenant may be under a sanction in force.
    sanctions_in_force: bool,
    /// Whether the maps were made by this agent: what it did not write is zero.
    maps_are_new: bool,
    /// Free indices at which there was a tenant once, or part of one.
    worn: BTreeSet<u32>,
    /// The indices of the tenants of the last image, in its order.
    order: Vec<u32>,
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
            entries: Entries::default(),
            by_name: HashMap::new(),
            slots: Slots::new(maps.blocks.len()),
            blocks: maps.blocks.len(),
            sets: Sets::default(),
            forwards: Forwards::default(),
            joined_with_node: None,
            exempt_sets: BTreeMap::new(),
            exempt: BTreeMap::new(),
            identities: Identities::default(),
            blocked: maps.are_new.then(blocked::Known::nothing),
            settings: None,
            inheritance: None,
            own: BTreeMap::new(),
            sanctions_in_force: false,
            maps_are_new: maps.are_new,
            worn: BTreeSet::new(),
            order: Vec::new(),
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
        if !maps.are_new {
            mirror.read_again(maps)?;
        }
        Ok(mirror)
    }

    /// Reads what an earlier life of the agent left in the kernel.
    fn read_again(&mut self, maps: &Maps) -> Result<(), KernelError> {
        self.identities = Identities::read(maps)?;
        self.forwards = Forwards::read(maps)?;
        let tenants = maps.tenants.all()?;
        let own = maps.sanctions.all()?;
        let mut sets: HashMap<u32, LimitSet> = HashMap::new();
        let mut runs = Vec::new();
        for (key, index) in maps.names.entries()? {
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(tenant) = tenants.get(at).filter(|tenant| tenant.exists()) else {
                continue;
            };
            let set = match sets.get(&tenant.limit_set) {
                Some(set) => *set,
                None => {
                    let set = maps.limit_sets.get(tenant.limit_set)?;
                    sets.insert(tenant.limit_set, set);
                    set
                }
            };
            let run = run_of(tenant, &set);
            if let Some(own) = own.get(at).filter(|own| own.any()) {
                self.own.insert(index, *own);
            }
            runs.extend(run);
            self.sets.adopt(&set, tenant.limit_set);
            let name = key_name(&key);
            self.by_name.insert(name.clone(), index);
            let tenant = *tenant;
            self.insert(index, Entry { name, tenant, run });
            self.fresh = self.fresh.max(index.saturating_add(1));
        }
        // Whoever was killed in the middle of adding or removing tenants left parts of them.
        self.worn = (0_u32..)
            .zip(tenants.iter().zip(&own))
            .filter(|(_, (tenant, own))| **tenant != Tenant::default() || own.any())
            .map(|(index, _)| index)
            .filter(|index| !self.entries.contains(*index))
            .collect();
        self.slots = Slots::with_used(maps.blocks.len(), &runs);
        self.free = (FIRST_TENANT..self.fresh)
            .filter(|index| !self.entries.contains(*index))
            .collect();
        self.sets.find_free();
        for (bits, key, ports) in maps.exempt.entries()? {
            self.exempt.insert((bits, key), ports);
        }
        Ok(())
    }

    /// Remembers a tenant as it stands in the kernel.
    fn insert(&mut self, index: u32, entry: Entry) {
        self.sanctions_in_force |= entry.tenant.sanctions.any();
        self.entries.insert(index, entry);
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
            .map(|(index, entry)| (index, entry.name.as_str()))
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
        // Of no use any more if this pass does not come to its end.
        let before = std::mem::take(&mut self.order);
        let places = self.places(image, &before);
        self.check_room(image, &places, &kernel.maps)?;
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
        let indices = self.assign_indices(image, places)?;
        self.merge_locks(image, &indices, kernel)?;
        self.write_tenants(image, &indices, kernel, &mut changes)?;
        // Before anybody's identities lead to tenants with other ancestors.
        self.refresh_sanctions(kernel)?;

        let wanted = claims_of(image, 0, |at| Owner::tenant(indices[at]));
        changes.identities = self.identities.become_in(wanted, &mut kernel.maps)?;
        self.write_settings(image, depths, kernel)?;

        // Children first, so that nobody's parent is missing.
        for index in self.gone(&indices, &before).into_iter().rev() {
            self.remove_tenant(index, kernel)?;
            changes.removed += 1;
        }
        self.remove_exempt(&retired, kernel)?;
        self.inheritance = None;
        self.order = indices;
        Ok(changes)
    }

    /// Writes all tenants that are new or changed. The new ones first, many at once, so that they
    /// are there before anybody refers to them; parents before their children.
    fn write_tenants(
        &mut self,
        image: &Image,
        indices: &[u32],
        kernel: &mut Kernel,
        changes: &mut Changes,
    ) -> Result<(), KernelError> {
        let counts_mail = image.counts_mail();
        let all = || {
            let places = indices.iter().zip(&counts_mail);
            image
                .tenants
                .iter()
                .zip(places)
                .map(|(tenant, (index, counts))| {
                    let parent = tenant.parent.map_or(NOBODY, |parent| indices[parent]);
                    ((*index, parent), tenant, *counts)
                })
        };
        let mut fresh = Fresh::new(self.slots.first_unused(), self.maps_are_new);
        let new: Vec<_> = all()
            .filter(|((index, _), ..)| !self.entries.contains(*index))
            .collect();
        for (at, tenant, counts) in &new {
            let added = self.add_tenant(*at, tenant, *counts, image, &mut fresh, kernel);
            if let Err(error) = added {
                // Those before it can stand there all the same.
                self.write_fresh(&mut fresh, kernel)?;
                return Err(error);
            }
        }
        self.write_fresh(&mut fresh, kernel)?;
        changes.added = new.len();
        if self.entries.len() > changes.added {
            for (at, tenant, counts) in all() {
                changes.changed += usize::from(self.change_tenant(at, tenant, counts, kernel)?);
            }
        }
        Ok(())
    }

    /// The tenants that stand in the kernel and are not among `kept`, in the order of their
    /// indices. `before` are those of the last pass, if it came to its end.
    fn gone(&self, kept: &[u32], before: &[u32]) -> Vec<u32> {
        if kept == before {
            return Vec::new();
        }
        let kept: HashSet<u32> = kept.iter().copied().collect();
        let all = self.entries.iter().map(|(index, _)| index);
        all.filter(|index| !kept.contains(index)).collect()
    }

    /// What tenants begin with that the next [`apply`](Self::apply) adds. Nothing is attached yet:
    /// what they count would be lost.
    pub fn inherit(&mut self, inheritance: Inheritance) {
        self.inheritance = Some(inheritance);
    }

    /// The tenants from the index `from` on, their limits, and where the state of these stands.
    pub(super) fn states(&self, from: u32) -> impl Iterator<Item = (u32, &str, &LimitSet, Run)> {
        self.entries.from(from).filter_map(|(index, entry)| {
            let set = self.sets.get(entry.tenant.limit_set);
            Some((index, entry.name.as_str(), set, entry.run?))
        })
    }

    /// The index of every tenant of the image that has one. `before` are those of the last image.
    fn places(&self, image: &Image, before: &[u32]) -> Vec<Option<u32>> {
        let at_the_same_place = |at: usize, name: &str| {
            let index = *before.get(at)?;
            (self.entries.get(index)?.name == name).then_some(index)
        };
        image
            .tenants
            .iter()
            .enumerate()
            .map(|(at, tenant)| match at {
                0 => Some(NODE),
                1 => Some(DEFAULT),
                // Most stand where they stood last time.
                _ => at_the_same_place(at, &tenant.name)
                    .or_else(|| self.by_name.get(&tenant.name).copied()),
            })
            .collect()
    }

    /// The index of every tenant of the image, assigned where there is none in `places`.
    fn assign_indices(
        &mut self,
        image: &Image,
        places: Vec<Option<u32>>,
    ) -> Result<Vec<u32>, KernelError> {
        let missing = image.tenants.len().saturating_sub(self.by_name.len());
        self.by_name.reserve(missing);
        let mut indices = Vec::with_capacity(places.len());
        for (tenant, place) in image.tenants.iter().zip(places) {
            let index = match place {
                // The node and the default have theirs before they have a name.
                Some(index) if index >= FIRST_TENANT => index,
                Some(index) => {
                    self.by_name.entry(tenant.name.clone()).or_insert(index);
                    index
                }
                None => {
                    let index = self.free_index()?;
                    self.by_name.insert(tenant.name.clone(), index);
                    index
                }
            };
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

/// What an image says about whose identities are, uids below `first_uid` aside.
fn claims_of(image: &Image, first_uid: u32, tenant: impl Fn(TenantRef) -> Owner) -> Identities {
    let cgroups = image.cgroups.iter();
    let uids = image.uids.iter();
    Identities::wanted(
        uids.filter(|binding| binding.range.last >= first_uid),
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
