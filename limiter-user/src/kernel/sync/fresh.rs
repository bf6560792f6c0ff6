//! Tenants that come where none ever was, written many at once: nobody's identity leads to them
//! yet, so that no program reads what is being written.

use std::collections::{BTreeMap, BTreeSet};

use limiter_common::{
    command::SlotChange,
    limit::{BLOCK_SLOTS, Block, LimitSet},
    tenant::{Tenant, TenantName},
};

use super::Mirror;
use crate::{
    kernel::{
        Kernel, KernelError,
        alloc::Run,
        limits::{Layout, lay_out},
        maps::name_key,
    },
    policy::image::ImageLimit,
};

/// How many wait at most: what is held beside the policy stays small.
const AT_ONCE: usize = 1 << 13;

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Fresh {
    /// The first block that no tenant has used in the life of this agent.
    first_block: u32,
    /// Whether everything in the maps is zero where nothing was written by this agent.
    maps_are_new: bool,
    indices: Vec<u32>,
    tenants: Vec<Tenant>,
    names: Vec<TenantName>,
    /// What stands in the blocks of those who wait and of those who were written.
    blocks: BTreeMap<u32, Block>,
    /// Which of the blocks wait.
    unwritten: BTreeSet<u32>,
    /// The limits of the last tenant: mostly they are those of the next.
    last: Option<(Vec<ImageLimit>, Layout)>,
}

impl Fresh {
    /// Nothing. `first_block` is the first block that is free as a whole and was never used.
    pub(super) const fn new(first_block: u32, maps_are_new: bool) -> Self {
        Self {
            first_block,
            maps_are_new,
            indices: Vec::new(),
            tenants: Vec::new(),
            names: Vec::new(),
            blocks: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            last: None,
        }
    }

    /// The limits of a tenant that has no state yet, laid out.
    pub(super) fn lay_out(&mut self, limits: &[ImageLimit]) -> Layout {
        match &self.last {
            Some((last, layout)) if last == limits => layout.clone(),
            _ => {
                let layout = lay_out(limits, &LimitSet::default(), 0);
                self.last = Some((limits.to_vec(), layout.clone()));
                layout
            }
        }
    }

    /// Whether a tenant with its state there can be written with the others: the rest of its block
    /// is nobody's who counts already.
    pub(super) fn takes(&self, run: Option<Run>) -> bool {
        run.is_none_or(|run| run.block >= self.first_block)
    }

    /// Whether as many wait as are written at once.
    pub(super) const fn is_full(&self) -> bool {
        self.indices.len() >= AT_ONCE
    }

    /// Adds a tenant, with what its slots begin with.
    pub(super) fn add(
        &mut self,
        index: u32,
        name: &str,
        policy: Tenant,
        run: Option<Run>,
        begins_with: Option<&[SlotChange]>,
    ) {
        self.indices.push(index);
        self.tenants.push(Tenant {
            generation: 1,
            ..policy
        });
        self.names.push(name_key(name));
        let Some(run) = run else {
            return;
        };
        if self.maps_are_new && begins_with.is_none() {
            return;
        }
        self.unwritten.insert(run.block);
        let block = self.blocks.entry(run.block).or_default();
        for at in 0..usize::from(run.size) {
            let change = begins_with.and_then(|slots| slots.get(at));
            let place = (usize::from(run.first) + at) % BLOCK_SLOTS;
            block.set_slot(place, change.map(|change| change.state).unwrap_or_default());
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
            for (index, tenant) in fresh.indices.iter().zip(&fresh.tenants) {
                if let Some(entry) = self.entries.remove(*index) {
                    self.sets.release(tenant.limit_set);
                    if let Some(run) = entry.run {
                        self.slots.release(run);
                    }
                }
                self.worn.insert(*index);
            }
        }
        fresh.indices.clear();
        fresh.tenants.clear();
        fresh.names.clear();
        fresh.unwritten.clear();
        result
    }

    /// State first, then those whose it is, then their names: whoever reads the maps finds a tenant
    /// behind every name, wherever the agent was killed.
    fn try_fresh(&mut self, fresh: &Fresh, kernel: &mut Kernel) -> Result<(), KernelError> {
        if fresh.indices.is_empty() {
            return Ok(());
        }
        let maps = &mut kernel.maps;
        self.sets.write(&mut maps.limit_sets)?;
        let (places, blocks): (Vec<u32>, Vec<Block>) = fresh
            .unwritten
            .iter()
            .filter_map(|at| Some((*at, *fresh.blocks.get(at)?)))
            .unzip();
        maps.blocks.set_all(&places, &blocks)?;
        maps.tenants.set_all(&fresh.indices, &fresh.tenants)?;
        maps.names.insert_all(&fresh.names, &fresh.indices)
    }
}
