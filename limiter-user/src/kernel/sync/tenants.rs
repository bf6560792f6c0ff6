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

use super::{Mirror, entries::Entry, fresh::Fresh};
use crate::{
    kernel::{
        Kernel, KernelError,
        alloc::{Run, size_for},
        clock,
        limits::{Layout, Source, is_laid_out, lay_out},
        maps::name_key,
    },
    policy::image::{Image, ImageTenant},
};

impl Mirror {
    /// Adds a tenant that does not stand in the kernel: with all others that wait, where it can be,
    /// else at once.
    pub(super) fn add_tenant(
        &mut self,
        (index, parent): (u32, u32),
        tenant: &ImageTenant,
        counts_mail: bool,
        image: &Image,
        fresh: &mut Fresh,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let layout = fresh.lay_out(&tenant.limits);
        let lock = self.new_lock(index, parent, image)?;
        let mut policy = Tenant {
            sanctions: self.inherited(parent),
            ..self.policy_of(tenant, (lock, parent), counts_mail, Tenant::default())
        };
        let run = self.place(&layout, None)?;
        policy.block = run.map_or(0, |run| run.block);
        policy.first_slot = run.map_or(0, |run| run.first);
        policy.limit_set = self
            .sets
            .intern(&layout.set, kernel.maps.limit_sets.len())?;
        let inheritance = self.inheritance.as_ref();
        let begins_with =
            inheritance.and_then(|it| it.slots(&tenant.name, &tenant.limits, &layout));
        let together = !self.worn.contains(&index) && fresh.takes(run);
        if together {
            fresh.add(index, &tenant.name, policy, run, begins_with.as_deref());
        } else {
            // Its parent may wait.
            self.write_fresh(fresh, kernel)?;
            self.sets.write(&mut kernel.maps.limit_sets)?;
            self.sweep(index, kernel)?;
            kernel.maps.stats.set(index, Stats::default())?;
            match begins_with {
                Some(slots) => {
                    kernel.set_tenant(index, &policy, &slots, u64::MAX)?;
                }
                None => write_policy(kernel, index, &policy, &layout, None)?,
            }
            // After the policy: whoever reads the maps finds a tenant behind every name, wherever
            // the agent was killed.
            kernel.maps.names.insert(name_key(&tenant.name), index)?;
        }
        let entry = Entry {
            name: tenant.name.clone(),
            tenant: policy,
            run,
        };
        self.insert(index, entry);
        if fresh.is_full() {
            self.write_fresh(fresh, kernel)?;
        }
        Ok(())
    }

    /// Writes a tenant that stands in the kernel if anything about it changed. Gives whether it
    /// did.
    pub(super) fn change_tenant(
        &mut self,
        (index, parent): (u32, u32),
        tenant: &ImageTenant,
        counts_mail: bool,
        kernel: &mut Kernel,
    ) -> Result<bool, KernelError> {
        let Some(old) = self.entries.get(index) else {
            return Ok(false);
        };
        // What holds now was joined with what is wanted before. It is named itself, not one that
        // gave way to it: programs follow a few forwards only.
        let lock = self.forwards.holding(old.tenant.lock)?;
        let mut policy = self.policy_of(tenant, (lock, parent), counts_mail, old.tenant);
        let old_set = self.sets.get(old.tenant.limit_set);
        let (old_policy, old_run) = (old.tenant, old.run);
        let old_size = old_run.map_or(0, |run| run.size);
        if policy == old_policy && is_laid_out(&tenant.limits, old_set, old_size) {
            return Ok(false);
        }
        let layout = lay_out(&tenant.limits, old_set, old_size);
        if policy == old_policy && layout.set == *old_set && layout.in_place {
            return Ok(false);
        }
        let run = self.place(&layout, old_run)?;
        policy.block = run.map_or(0, |run| run.block);
        policy.first_slot = run.map_or(0, |run| run.first);
        policy.limit_set = self
            .sets
            .intern(&layout.set, kernel.maps.limit_sets.len())?;
        self.sets.write(&mut kernel.maps.limit_sets)?;
        write_policy(kernel, index, &policy, &layout, old_run)?;
        self.sets.release(old_policy.limit_set);
        if let (Some(old_run), true) = (old_run, old_run != run) {
            self.slots.release(old_run);
        }
        let entry = Entry {
            name: tenant.name.clone(),
            tenant: policy,
            run,
        };
        self.insert(index, entry);
        Ok(true)
    }

    /// The policy of a tenant, but for where its limits and their state stand.
    fn policy_of(
        &self,
        tenant: &ImageTenant,
        (lock, parent): (u32, u32),
        counts_mail: bool,
        old: Tenant,
    ) -> Tenant {
        let mut flags = tenant::flags::EXISTS;
        if tenant.enforce {
            flags |= tenant::flags::ENFORCE;
        }
        if counts_mail {
            flags |= tenant::flags::COUNTS_MAIL;
        }
        let exempt_set = match tenant.exempt.is_empty() {
            true => 0,
            false => self.exempt_sets.get(&tenant.exempt).copied().unwrap_or(0),
        };
        Tenant {
            lock,
            parent,
            flags,
            direct_smtp: tenant.direct_smtp as u8,
            submission: tenant.submission as u8,
            exempt_set,
            ..old
        }
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

    /// Takes away what an agent that was killed in the middle of removing a tenant left at its
    /// index: a new one inherits nothing.
    fn sweep(&self, index: u32, kernel: &mut Kernel) -> Result<(), KernelError> {
        if !self.worn.contains(&index) {
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
        let Some(entry) = self.entries.get(index).cloned() else {
            return Ok(());
        };
        // The name first: see `write_tenant`. Its own sanctions stay until it is gone: an agent
        // that is killed before that finds them again.
        kernel.maps.names.remove(&name_key(&entry.name))?;
        kernel.set_observe(index, 0)?;
        kernel.set_tenant(index, &nobody(entry.tenant.lock), &[], u64::MAX)?;
        self.forget_own(index, kernel)?;
        self.sets.release(entry.tenant.limit_set);
        if let Some(run) = entry.run {
            self.slots.release(run);
        }
        self.by_name.remove(&entry.name);
        self.entries.remove(index);
        self.free.insert(index);
        self.worn.insert(index);
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
