//! Which lock a tree changes under. Trees that come to share limits come to share a lock.

use std::collections::HashMap;

use limiter_common::abi::{NOBODY, NODE};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, maps::Maps},
    policy::image::{Image, TenantRef},
};

/// Which locks gave way, each to which. Only the agent has them do so.
#[derive(Debug, Default)]
pub(super) struct Forwards(HashMap<u32, u32>);

impl Forwards {
    /// Reads which gave way in the life of the maps.
    pub(super) fn read(maps: &Maps) -> Result<Self, KernelError> {
        let cells = (0_u32..).zip(maps.locks.all()?);
        Ok(Self(
            cells
                .filter(|(_, cell)| cell.forward != 0)
                .map(|(lock, cell)| (lock, cell.forward - 1))
                .collect(),
        ))
    }

    /// Follows the forwards from a lock to the one that holds.
    pub(super) fn holding(&self, mut lock: u32) -> Result<u32, KernelError> {
        for _ in 0..64 {
            match self.0.get(&lock) {
                None => return Ok(lock),
                Some(next) => lock = *next,
            }
        }
        let reason =
            "locks forward in a circle; `limiter detach` and a new start mend it".to_owned();
        Err(KernelError::Command {
            action: "find a tree's lock",
            reason,
        })
    }
}

impl Mirror {
    /// Joins the locks of trees that share limits from now on.
    pub(super) fn merge_locks(
        &mut self,
        image: &Image,
        indices: &[u32],
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        if !self.trees_change(image, indices) {
            return Ok(());
        }
        for (at, tenant) in image.tenants.iter().enumerate() {
            let wanted = self.lock_of(image, indices, at)?;
            let Some(entry) = self.entries.get(indices[at]) else {
                continue;
            };
            let now = self.forwards.holding(entry.tenant.lock)?;
            if now != wanted {
                log::debug!("{}: its tree now shares the lock of another", tenant.name);
                kernel.merge_locks(now, wanted)?;
                self.forwards.0.insert(now, wanted);
            }
        }
        self.joined_with_node = Some(shares_node(image));
        Ok(())
    }

    /// Whether anybody who stands in the kernel gets another parent, or comes to share the node's
    /// limits. Nobody else's tree changes.
    fn trees_change(&self, image: &Image, indices: &[u32]) -> bool {
        self.joined_with_node != Some(shares_node(image))
            || image.tenants.iter().zip(indices).any(|(tenant, index)| {
                let parent = tenant.parent.map_or(NOBODY, |parent| indices[parent]);
                self.entries
                    .get(*index)
                    .is_some_and(|entry| entry.tenant.parent != parent)
            })
    }

    /// The lock under which a tenant of the image is to change: that of the topmost ancestor with
    /// which it shares state.
    fn lock_of(&self, image: &Image, indices: &[u32], at: TenantRef) -> Result<u32, KernelError> {
        let top = if shares_node(image) {
            0
        } else {
            top_of(image, at)
        };
        let index = indices[top];
        let lock = self
            .entries
            .get(index)
            .map_or(index, |entry| entry.tenant.lock);
        self.forwards.holding(lock)
    }

    /// The lock of a tenant that is new: its parent's, if they share state, else its own.
    pub(super) fn new_lock(
        &self,
        index: u32,
        parent: u32,
        image: &Image,
    ) -> Result<u32, KernelError> {
        let with = if parent == NOBODY || (parent == NODE && !shares_node(image)) {
            index
        } else {
            self.entries
                .get(parent)
                .map_or(index, |entry| entry.tenant.lock)
        };
        self.forwards.holding(with)
    }
}

/// Whether the node itself has limits, which all tenants share then.
fn shares_node(image: &Image) -> bool {
    image
        .tenants
        .first()
        .is_some_and(|node| !node.limits.is_empty())
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
