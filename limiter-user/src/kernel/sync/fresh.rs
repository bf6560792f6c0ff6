//! Tenants that come where none ever was, written many at once: nobody's identity leads to them
//! yet, so that no program reads what is being written.

use std::collections::BTreeMap;

use limiter_common::{
    limit::{BLOCK_SLOTS, Block},
    tenant::{Tenant, TenantName},
};

use super::Mirror;
use crate::kernel::{
    Kernel, KernelError,
    alloc::Run,
    limits::Layout,
    maps::name_key,
};
use limiter_common::command::SlotChange;

/// How many are written at once: what is held beside the policy stays small.
const AT_ONCE: usize = 1 << 15;

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Fresh {
    /// The first block that no tenant has used in the life of this agent.
    first_block: u32,
    /// Whether everything in the maps is zero where nothing was written by this agent.
    maps_are_new: bool,
    tenants: Vec<(u32, Tenant)>,
    names: Vec<(TenantName, u32)>,
    blocks: BTreeMap<u32, Block>,
}

impl Fresh {
    /// Nothing. `first_block` is the first block that is free as a whole and was never used.
    pub(super) const fn new(first_block: u32, maps_are_new: bool) -> Self {
        Self {
            first_block,
            maps_are_new,
            tenants: Vec::new(),
            names: Vec::new(),
            blocks: BTreeMap::new(),
        }
    }

    /// Whether a tenant with its state there can be written with the others: the rest of its block
    /// is nobody's who stands in the kernel.
    pub(super) fn takes(&self, run: Option<Run>) -> bool {
        run.is_none_or(|run| run.block >= self.first_block)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Adds a tenant, with what its slots begin with.
    pub(super) fn add(
        &mut self,
        index: u32,
        name: &str,
        policy: Tenant,
        (run, layout): (Option<Run>, &Layout),
        begins_with: Option<&[SlotChange]>,
    ) {
        let policy = Tenant {
            generation: 1,
            ..policy
        };
        self.tenants.push((index, policy));
        self.names.push((name_key(name), index));
        let Some(run) = run else {
            return;
        };
        if self.maps_are_new && begins_with.is_none() {
            return;
        }
        let block = self.blocks.entry(run.block).or_default();
        let begins_with = begins_with.unwrap_or_default();
        for (at, change) in begins_with.iter().take(layout.slots.len()).enumerate() {
            block.slots[(usize::from(run.first) + at) % BLOCK_SLOTS] = change.state;
        }
    }
}

impl Mirror {
    /// Writes what waits. If that fails, whoever waited does not stand in the kernel as far as the
    /// next pass is concerned: it writes them one by one, whatever of them is there.
    pub(super) fn write_fresh(
        &mut self,
        fresh: &mut Fresh,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let result = self.try_fresh(fresh, kernel);
        if result.is_err() {
            for (index, tenant) in &fresh.tenants {
                if let Some(entry) = self.entries.remove(*index) {
                    self.sets.release(tenant.limit_set);
                    if let Some(run) = entry.run {
                        self.slots.release(run);
                    }
                }
                self.worn.insert(*index);
            }
        }
        fresh.tenants.clear();
        fresh.names.clear();
        fresh.blocks.clear();
        result
    }

    /// State first, then those whose it is, then their names: whoever reads the maps finds a tenant
    /// behind every name, wherever the agent was killed.
    fn try_fresh(&mut self, fresh: &Fresh, kernel: &mut Kernel) -> Result<(), KernelError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let maps = &mut kernel.maps;
        self.sets.write(&mut maps.limit_sets)?;
        let blocks: Vec<(u32, Block)> = fresh.blocks.iter().map(|(at, block)| (*at, *block)).collect();
        for some in blocks.chunks(AT_ONCE) {
            maps.blocks.set_many(some)?;
        }
        for some in fresh.tenants.chunks(AT_ONCE) {
            maps.tenants.set_many(some)?;
        }
        for some in fresh.names.chunks(AT_ONCE) {
            maps.names.insert_many(some)?;
        }
        Ok(())
    }
}
