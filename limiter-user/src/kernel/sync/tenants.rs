//! Writing and removing single tenants: policy, limits, and the state that goes with them.

use std::time::Duration;

use limiter_common::{
    abi::NOBODY,
    command::{SlotChange, change},
    limit::{BLOCK_SLOTS, Block, LimitSet},
    sanction::Sanctions,
    stats::Stats,
    tenant::{self, Tenant},
    window::Slot,
};

use super::{Entry, Mirror, locks::holding_lock};
use crate::{
    kernel::{
        Kernel, KernelError,
        alloc::{Run, size_for},
        clock,
        limits::{Layout, Source, lay_out},
        maps::name_key,
    },
    policy::image::{Image, ImageTenant},
};

/// What became of a tenant.
pub(super) enum Written {
    Same,
    Changed,
    Added,
}

impl Mirror {
    /// Writes one tenant if anything about it changed.
    pub(super) fn write_tenant(
        &mut self,
        index: u32,
        parent: u32,
        tenant: &ImageTenant,
        counts_mail: bool,
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
        let mut flags = tenant::flags::EXISTS;
        if tenant.enforce {
            flags |= tenant::flags::ENFORCE;
        }
        if counts_mail {
            flags |= tenant::flags::COUNTS_MAIL;
        }
        let mut policy = Tenant {
            lock,
            parent,
            flags,
            direct_smtp: tenant.direct_smtp as u8,
            submission: tenant.submission as u8,
            exempt_set: self.exempt_sets.get(&tenant.exempt).copied().unwrap_or(0),
            ..match &old {
                Some(entry) => entry.tenant,
                None => Tenant {
                    sanctions: self.inherited(parent),
                    ..Tenant::default()
                },
            }
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
                self.sweep(index, kernel)?;
                kernel.maps.stats.set(index, Stats::default())?;
                Written::Added
            }
        };
        let begins_with = match (&old, &self.inheritance) {
            (None, Some(inheritance)) => inheritance.slots(&tenant.name, &tenant.limits, &layout),
            _ => None,
        };
        match begins_with {
            Some(slots) => {
                kernel.set_tenant(index, &policy, &slots, u64::MAX)?;
            }
            None => write_policy(kernel, index, &policy, &layout, old_run)?,
        }
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

    pub(super) fn use_set(&mut self, set: &LimitSet, id: u32) {
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

    /// Takes away what an agent that was killed in the middle of removing a tenant left at its
    /// index: a new one inherits nothing.
    fn sweep(&self, index: u32, kernel: &mut Kernel) -> Result<(), KernelError> {
        if !self.adopted {
            return Ok(());
        }
        let left = kernel.maps.tenants.get(index)?;
        if left.exists() {
            kernel.set_tenant(index, &nobody(left.lock), &[], u64::MAX)?;
        }
        if kernel.maps.sanctions.get(index)?.any() {
            kernel.maps.sanctions.set(index, Sanctions::NONE)?;
        }
        Ok(())
    }

    /// Removes a tenant whose identities were unbound before.
    pub(super) fn remove_tenant(
        &mut self,
        index: u32,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let Some(entry) = self.entries.get(&index).cloned() else {
            return Ok(());
        };
        // The name first: see `write_tenant`. Its own sanctions stay until it is gone: an agent
        // that is killed before that finds them again.
        kernel.maps.names.remove(&name_key(&entry.name))?;
        kernel.set_observe(index, 0)?;
        kernel.set_tenant(index, &nobody(entry.tenant.lock), &[], u64::MAX)?;
        self.forget_own(index, kernel)?;
        self.release_set(&entry.set);
        if let Some(run) = entry.run {
            self.slots.release(run);
        }
        self.by_name.remove(&entry.name);
        self.entries.remove(&index);
        self.free.insert(index);
        Ok(())
    }
}

/// No tenant, under a lock that exists.
fn nobody(lock: u32) -> Tenant {
    Tenant {
        lock,
        parent: NOBODY,
        ..Tenant::default()
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
                    let state = block.slot((first + usize::from(source.slot)) % BLOCK_SLOTS);
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
    match source.most_ahead_ns {
        Some(most) => new.epoch = new.epoch.min(at_ns.saturating_add(most)),
        None => new.reshape(at_ns, source.old_width_ns, source.new_width_ns),
    }
    SlotChange {
        change: change::REPLACE,
        source: u32::from(source.slot),
        expected_epoch: state.epoch,
        expected_current: state.current,
        expected_total: state.total,
        state: new,
    }
}

/// The policy of an entry as it would be written again.
fn same(old: &Option<Entry>) -> Tenant {
    old.as_ref().map_or(Tenant::default(), |entry| entry.tenant)
}

/// The run that a tenant's state stands in.
pub(super) fn run_of(tenant: &Tenant, set: &LimitSet) -> Option<Run> {
    let count = usize::try_from(set.count).ok()?;
    let size = size_for(count)?;
    Some(Run {
        block: tenant.block,
        first: tenant.first_slot,
        size,
    })
}
