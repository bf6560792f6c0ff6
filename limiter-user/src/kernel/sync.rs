//! Making the kernel hold what the compiled policy says, by writing only what changed.
//!
//! The order matters, for programs decide while it is written: room is checked before anything is
//! touched; what is referred to is written before what refers to it; identities are unbound before
//! the tenant they pointed to goes; an index that became free is not used again in the same pass.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use limiter_common::{
    abi::{DEFAULT, FIRST_TENANT, NOBODY, NODE},
    address::{Address, ExemptKey, ExemptPorts, MAX_EXEMPT_PORTS},
    command::{SlotChange, change},
    limit::{BLOCK_SLOTS, Block, LimitSet},
    owner::Owner,
    settings::{self, PortTable, Settings},
    stats::Stats,
    tenant::{self, Tenant},
    window::Slot,
};

mod room;

use super::{
    Kernel, KernelError,
    alloc::{Run, Slots, size_for},
    clock,
    identities::{Identities, depths, exempt_entries, wire_address},
    limits::{Layout, Source, lay_out},
    maps::{Maps, key_name, name_key},
};
use crate::policy::{
    image::{Holder, Image, ImageTenant, TenantRef},
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
    settings: Option<Settings>,
    ports: Vec<(u16, u8)>,
    free: BTreeSet<u32>,
    fresh: u32,
    capacity: u32,
    netns_cookie: u64,
}

impl Mirror {
    /// Reads what stands in the kernel. `netns_cookie` is that of the node's own network
    /// namespace.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read(maps: &Maps, netns_cookie: u64) -> Result<Self, KernelError> {
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
            settings: None,
            ports: Vec::new(),
            free: BTreeSet::new(),
            fresh: FIRST_TENANT,
            capacity: maps.tenants.len(),
            netns_cookie,
        };
        let mut runs = Vec::new();
        for (key, index) in maps.names.entries()? {
            let tenant = maps.tenants.get(index)?;
            if !tenant.exists() {
                continue;
            }
            let set = maps.limit_sets.get(tenant.limit_set)?;
            let run = run_of(&tenant, &set);
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

    /// The name of the tenant at an index.
    #[must_use]
    pub fn name_of(&self, index: u32) -> Option<&str> {
        self.entries.get(&index).map(|entry| entry.name.as_str())
    }

    /// The indices of all tenants, with their names.
    pub fn tenants(&self) -> impl Iterator<Item = (u32, &str)> {
        self.entries
            .iter()
            .map(|(index, entry)| (*index, entry.name.as_str()))
    }

    /// How full the maps are: tenants in use and room.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (
            self.entries.len(),
            usize::try_from(self.capacity).unwrap_or(usize::MAX),
        )
    }

    /// Makes the kernel hold `image`.
    ///
    /// # Errors
    ///
    /// The image does not fit (nothing is changed then), or a map refuses (what was written until
    /// then stays, and the next pass goes on from there).
    pub fn apply(&mut self, image: &Image, kernel: &mut Kernel) -> Result<Changes, KernelError> {
        self.check_room(image, kernel.maps.limit_sets.len())?;
        let depths = depths(image.cgroups.iter().map(|binding| binding.depth))?;
        let mut changes = Changes::default();

        self.write_settings(image, depths, kernel)?;
        let retired = self.write_exempt_sets(image, kernel)?;
        let indices = self.assign_indices(image)?;
        self.merge_locks(image, &indices, kernel)?;
        for (at, tenant) in image.tenants.iter().enumerate() {
            let index = indices[at];
            let parent = tenant.parent.map_or(NOBODY, |parent| indices[parent]);
            match self.write_tenant(index, parent, tenant, image, kernel)? {
                Written::Same => {}
                Written::Changed => changes.changed += 1,
                Written::Added => changes.added += 1,
            }
        }

        let owner = |holder: Holder| match holder {
            Holder::Mta => Owner::MTA,
            Holder::Tenant(at) => Owner::tenant(indices[at]),
        };
        let wanted = Identities::wanted(
            &image.uids,
            |binding| owner(binding.holder),
            image
                .cgroups
                .iter()
                .map(|binding| (binding.id, owner(Holder::Tenant(binding.tenant)))),
            &image.own_addresses,
        );
        changes.identities = self.identities.become_in(wanted, &mut kernel.maps)?;

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
        Ok(changes)
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

    /// Joins the locks of trees that share limits from now on.
    fn merge_locks(
        &mut self,
        image: &Image,
        indices: &[u32],
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        for (at, tenant) in image.tenants.iter().enumerate() {
            let wanted = self.lock_of(image, indices, at, &kernel.maps)?;
            let Some(entry) = self.entries.get(&indices[at]) else {
                continue;
            };
            let now = holding_lock(&kernel.maps, entry.tenant.lock)?;
            if now != wanted {
                log::debug!("{}: its tree now shares the lock of another", tenant.name);
                kernel.merge_locks(now, wanted)?;
            }
        }
        Ok(())
    }

    /// The lock under which a tenant of the image is to change: that of the topmost ancestor with
    /// which it shares state.
    fn lock_of(
        &self,
        image: &Image,
        indices: &[u32],
        at: TenantRef,
        maps: &Maps,
    ) -> Result<u32, KernelError> {
        let top = if image.tenants[0].limits.is_empty() {
            top_of(image, at)
        } else {
            0
        };
        let index = indices[top];
        let lock = self
            .entries
            .get(&index)
            .map_or(index, |entry| entry.tenant.lock);
        holding_lock(maps, lock)
    }

    /// Writes one tenant if anything about it changed.
    fn write_tenant(
        &mut self,
        index: u32,
        parent: u32,
        tenant: &ImageTenant,
        image: &Image,
        kernel: &mut Kernel,
    ) -> Result<Written, KernelError> {
        let old = self.entries.get(&index).cloned();
        let (old_set, old_run) = match &old {
            Some(entry) => (entry.set, entry.run),
            None => (LimitSet::default(), None),
        };
        let layout = lay_out(&tenant.limits, &old_set, old_run.map_or(0, |run| run.size));
        let lock = match &old {
            // What holds now was joined with what is wanted before. It is named itself, not one
            // that gave way to it: programs follow a few forwards only.
            Some(entry) => holding_lock(&kernel.maps, entry.tenant.lock)?,
            None => self.new_lock(index, parent, image, &kernel.maps)?,
        };
        let mut policy = Tenant {
            lock,
            parent,
            flags: tenant::flags::EXISTS
                | if tenant.enforce {
                    tenant::flags::ENFORCE
                } else {
                    0
                },
            direct_smtp: tenant.direct_smtp as u8,
            submission: tenant.submission as u8,
            exempt_set: self.exempt_sets.get(&tenant.exempt).copied().unwrap_or(0),
            ..old.as_ref().map_or(Tenant::default(), |entry| entry.tenant)
        };
        if old.is_some() && layout.set == old_set && layout.in_place && policy == same(&old) {
            return Ok(Written::Same);
        }

        let run = self.place(&layout, old_run)?;
        policy.block = run.map_or(0, |run| run.block);
        policy.first_slot = run.map_or(0, |run| run.first);
        policy.limit_set = self.intern(&layout.set, kernel)?;
        let written = match &old {
            Some(_) => Written::Changed,
            None => {
                kernel.maps.stats.set(index, Stats::default())?;
                Written::Added
            }
        };
        write_policy(kernel, index, &policy, &layout, old_run)?;
        if old.is_none() {
            // After the policy: whoever reads the maps finds a tenant behind every name, wherever
            // the agent was killed.
            kernel.maps.names.insert(name_key(&tenant.name), index)?;
        }

        if let Some(entry) = &old {
            self.release_set(&entry.set);
            if let (Some(old_run), true) = (entry.run, entry.run != run) {
                self.slots.release(old_run);
            }
        }
        let entry = Entry {
            name: tenant.name.clone(),
            tenant: policy,
            set: layout.set,
            run,
        };
        self.entries.insert(index, entry);
        Ok(written)
    }

    /// The lock of a tenant that is new: its parent's, if they share state, else its own.
    fn new_lock(
        &self,
        index: u32,
        parent: u32,
        image: &Image,
        maps: &Maps,
    ) -> Result<u32, KernelError> {
        let shares_node = !image.tenants[0].limits.is_empty();
        let with = if parent == NOBODY || (parent == NODE && !shares_node) {
            index
        } else {
            self.entries
                .get(&parent)
                .map_or(index, |entry| entry.tenant.lock)
        };
        holding_lock(maps, with)
    }

    /// Where the state of a layout is to stand.
    fn place(&mut self, layout: &Layout, old: Option<Run>) -> Result<Option<Run>, KernelError> {
        if layout.in_place {
            return Ok(old);
        }
        let Some(size) = size_for(layout.slots.len()) else {
            return Ok(None);
        };
        match self.slots.take(size) {
            Some(run) => Ok(Some(run)),
            None => {
                let used = self.slots.used();
                Err(KernelError::NoRoom {
                    what: "limits",
                    needed: used + 1,
                    room: used,
                })
            }
        }
    }

    /// The id of a set of limits, written if it is new.
    fn intern(&mut self, set: &LimitSet, kernel: &mut Kernel) -> Result<u32, KernelError> {
        if set.count == 0 {
            return Ok(0);
        }
        if let Some((id, users)) = self.sets.get_mut(set) {
            *users += 1;
            return Ok(*id);
        }
        let room = kernel.maps.limit_sets.len();
        let id = match self.free_sets.pop_first() {
            Some(id) => id,
            None if self.fresh_set < room => {
                self.fresh_set += 1;
                self.fresh_set - 1
            }
            None => {
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                return Err(KernelError::NoRoom {
                    what: "different sets of limits",
                    needed: room + 1,
                    room,
                });
            }
        };
        kernel.maps.limit_sets.set(id, set)?;
        self.sets.insert(*set, (id, 1));
        Ok(id)
    }

    fn use_set(&mut self, set: &LimitSet, id: u32) {
        if id != 0 {
            self.sets.entry(*set).or_insert((id, 0)).1 += 1;
            self.fresh_set = self.fresh_set.max(id + 1);
        }
    }

    fn release_set(&mut self, set: &LimitSet) {
        if let Some((id, users)) = self.sets.get_mut(set) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.free_sets.insert(*id);
                self.sets.remove(set);
            }
        }
    }

    /// Writes the exempt sets that are new. Returns the ids of those that nobody uses any more.
    fn write_exempt_sets(
        &mut self,
        image: &Image,
        kernel: &mut Kernel,
    ) -> Result<BTreeSet<u32>, KernelError> {
        let wanted: BTreeSet<&Vec<Exempt>> = image
            .tenants
            .iter()
            .map(|tenant| &tenant.exempt)
            .filter(|exempt| !exempt.is_empty())
            .collect();
        let in_kernel: BTreeSet<u32> = self
            .exempt
            .keys()
            .map(|(_, key)| u32::from_be_bytes(key.set))
            .collect();
        let mut next = in_kernel
            .iter()
            .max()
            .copied()
            .unwrap_or(0)
            .max(self.exempt_sets.values().max().copied().unwrap_or(0))
            + 1;
        let unnamed = self.unnamed_exempt_sets();
        for exempt in &wanted {
            if self.exempt_sets.contains_key(*exempt) {
                continue;
            }
            let id = match unnamed.get(&shape(&exempt_entries(0, exempt))) {
                Some(id) => *id,
                None => {
                    next += 1;
                    next - 1
                }
            };
            self.exempt_sets.insert((*exempt).clone(), id);
        }
        let mut entries = exempt_entries(0, &image.exempt);
        for (exempt, id) in &self.exempt_sets {
            if wanted.contains(exempt) {
                entries.extend(exempt_entries(*id, exempt));
            }
        }
        for ((bits, key), ports) in &entries {
            if self.exempt.get(&(*bits, *key)) != Some(ports) {
                kernel.maps.exempt.insert(*bits, *key, *ports)?;
                self.exempt.insert((*bits, *key), *ports);
            }
        }
        self.exempt_sets.retain(|exempt, _| wanted.contains(exempt));
        // Set 0 is everybody's: what left it goes at once. The rest after nobody refers to it.
        let stale: Vec<(u32, ExemptKey)> = self
            .exempt
            .keys()
            .filter(|(bits, key)| key.set == [0; 4] && !entries.contains_key(&(*bits, *key)))
            .copied()
            .collect();
        for (bits, key) in stale {
            kernel.maps.exempt.remove(bits, key)?;
            self.exempt.remove(&(bits, key));
        }
        let live: BTreeSet<u32> = self.exempt_sets.values().copied().collect();
        Ok(in_kernel
            .into_iter()
            .filter(|id| *id != 0 && !live.contains(id))
            .collect())
    }

    /// The sets that stand in the kernel and that this agent has not written, with their ids.
    fn unnamed_exempt_sets(&self) -> HashMap<ExemptShape, u32> {
        let named: BTreeSet<u32> = self.exempt_sets.values().copied().collect();
        let mut by_id: BTreeMap<u32, BTreeMap<(u32, ExemptKey), ExemptPorts>> = BTreeMap::new();
        for ((bits, key), ports) in &self.exempt {
            let id = u32::from_be_bytes(key.set);
            if id != 0 && !named.contains(&id) {
                by_id.entry(id).or_default().insert((*bits, *key), *ports);
            }
        }
        by_id
            .into_iter()
            .map(|(id, entries)| (shape(&entries), id))
            .collect()
    }

    fn remove_exempt(
        &mut self,
        retired: &BTreeSet<u32>,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let stale: Vec<(u32, ExemptKey)> = self
            .exempt
            .keys()
            .filter(|(_, key)| retired.contains(&u32::from_be_bytes(key.set)))
            .copied()
            .collect();
        for (bits, key) in stale {
            kernel.maps.exempt.remove(bits, key)?;
            self.exempt.remove(&(bits, key));
        }
        Ok(())
    }

    /// Removes a tenant whose identities were unbound before.
    fn remove_tenant(&mut self, index: u32, kernel: &mut Kernel) -> Result<(), KernelError> {
        let Some(entry) = self.entries.get(&index).cloned() else {
            return Ok(());
        };
        let nothing = Tenant {
            lock: entry.tenant.lock,
            parent: NOBODY,
            ..Tenant::default()
        };
        // The name first: see `write_tenant`.
        kernel.maps.names.remove(&name_key(&entry.name))?;
        kernel.set_observe(index, 0)?;
        kernel.set_tenant(index, &nothing, &[], u64::MAX)?;
        self.release_set(&entry.set);
        if let Some(run) = entry.run {
            self.slots.release(run);
        }
        self.by_name.remove(&entry.name);
        self.entries.remove(&index);
        self.free.insert(index);
        Ok(())
    }

    /// Writes what holds for the whole node, if it changed.
    fn write_settings(
        &mut self,
        image: &Image,
        depths: [u8; limiter_common::abi::MAX_CGROUP_DEPTHS],
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let ports: Vec<(u16, u8)> = image
            .ports
            .iter()
            .map(|(port, group)| (*port, *group as u8))
            .collect();
        if ports != self.ports {
            let mut table = Box::new(PortTable::EMPTY);
            for (port, group) in &ports {
                table.groups[usize::from(*port)] = *group;
            }
            kernel.maps.ports.set(0, table.as_ref())?;
            self.ports = ports;
        }
        let mut flags = settings::flags::COUNT_EVERYWHERE | settings::flags::RECORD_ALLOWED;
        if image.enforce {
            flags |= settings::flags::ENFORCE;
        }
        if !image.exempt.is_empty() {
            flags |= settings::flags::EXEMPT;
        }
        let kept = kernel.maps.settings.get(0)?;
        let wanted = Settings {
            flags,
            redirect4_port: image.redirect4.map_or(0, |listener| listener.port()),
            redirect6_port: image.redirect6.map_or(0, |listener| listener.port()),
            netns_cookie: self.netns_cookie,
            cgroup_depths: depths,
            observe_until_ns: kept.observe_until_ns,
            redirect4: image
                .redirect4
                .map_or([0; 16], |listener| wire_address(listener.ip())),
            redirect6: image
                .redirect6
                .map_or([0; 16], |listener| wire_address(listener.ip())),
        };
        if self.settings != Some(wanted) {
            kernel.maps.settings.set(0, wanted)?;
            self.settings = Some(wanted);
        }
        Ok(())
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
                kernel.maps.settings.set(0, settings)?;
                self.settings = Some(settings);
                Ok(())
            }
        }
    }
}

/// How often the state of a busy tenant is converted again because a bucket ended meanwhile.
const CONVERSIONS: usize = 100;

/// How far ahead of the clock a state is converted, ns. Until then what is counted meanwhile only
/// has to be added to the newest bucket.
const AHEAD_NS: u64 = 5_000_000;

/// Writes a policy with the state that goes with it.
fn write_policy(
    kernel: &mut Kernel,
    index: u32,
    policy: &Tenant,
    layout: &Layout,
    old: Option<Run>,
) -> Result<(), KernelError> {
    let first = old.map_or(0, |run| usize::from(run.first));
    for _ in 0..CONVERSIONS {
        let block = match old {
            Some(run) if layout.converts() => kernel.maps.blocks.get(run.block)?,
            _ => Block::default(),
        };
        let at_ns = clock::from_now(Duration::from_nanos(AHEAD_NS));
        let slots: Vec<SlotChange> = layout
            .slots
            .iter()
            .map(|source| match source {
                None => SlotChange::CLEARED,
                Some(source) if source.converts() => {
                    let state = block.slots[(first + usize::from(source.slot)) % BLOCK_SLOTS];
                    converted(state, source, at_ns)
                }
                Some(_) if layout.in_place => SlotChange {
                    change: change::KEEP,
                    ..SlotChange::CLEARED
                },
                Some(source) => SlotChange {
                    change: change::MOVE,
                    source: u32::from(source.slot),
                    ..SlotChange::CLEARED
                },
            })
            .collect();
        if kernel.set_tenant(index, policy, &slots, at_ns)? {
            return Ok(());
        }
    }
    let reason = "its counts change faster than they can be converted; try again".to_owned();
    Err(KernelError::Command {
        action: "write a tenant's policy",
        reason,
    })
}

/// The change that takes over `state`, converted for the moment `at_ns`.
fn converted(state: Slot, source: &Source, at_ns: u64) -> SlotChange {
    let mut new = state;
    new.reshape(at_ns, source.old_width_ns, source.new_width_ns);
    SlotChange {
        change: change::REPLACE,
        source: u32::from(source.slot),
        expected_epoch: state.epoch,
        expected_current: state.current,
        expected_total: state.total,
        state: new,
    }
}

/// What a set of exempt destinations says, whatever its id: prefix length, address, ports.
type ExemptShape = Vec<(u32, Address, u32, [u16; MAX_EXEMPT_PORTS])>;

fn shape(entries: &BTreeMap<(u32, ExemptKey), ExemptPorts>) -> ExemptShape {
    entries
        .iter()
        .map(|((bits, key), ports)| (*bits, key.address, ports.count, ports.ports))
        .collect()
}

enum Written {
    Same,
    Changed,
    Added,
}

/// The policy of an entry as it would be written again.
fn same(old: &Option<Entry>) -> Tenant {
    old.as_ref().map_or(Tenant::default(), |entry| entry.tenant)
}

/// The topmost ancestor of a tenant below the node.
fn top_of(image: &Image, mut at: TenantRef) -> TenantRef {
    while let Some(parent) = image.tenants[at].parent {
        if parent == 0 {
            break;
        }
        at = parent;
    }
    at
}

/// Follows the forwards from a lock to the one that holds.
fn holding_lock(maps: &Maps, mut lock: u32) -> Result<u32, KernelError> {
    for _ in 0..64 {
        match maps.locks.get(lock)?.forward {
            0 => return Ok(lock),
            forward => lock = forward - 1,
        }
    }
    let reason = "locks forward in a circle; `limiter detach` and a new start mend it".to_owned();
    Err(KernelError::Command {
        action: "find a tree's lock",
        reason,
    })
}

/// The run that a tenant's state stands in.
fn run_of(tenant: &Tenant, set: &LimitSet) -> Option<Run> {
    let count = usize::try_from(set.count).ok()?;
    let size = size_for(count)?;
    Some(Run {
        block: tenant.block,
        first: tenant.first_slot,
        size,
    })
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            added,
            changed,
            removed,
            identities,
        } = self;
        write!(
            f,
            "{added} tenants new, {changed} changed, {removed} gone; {identities} identities written"
        )
    }
}
