//! Which lock a tree changes under. Trees that come to share limits come to share a lock.

use limiter_common::abi::{NOBODY, NODE};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, maps::Maps},
    policy::image::{Image, TenantRef},
};

impl Mirror {
    /// Joins the locks of trees that share limits from now on.
    pub(super) fn merge_locks(
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

    /// The lock of a tenant that is new: its parent's, if they share state, else its own.
    pub(super) fn new_lock(
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
pub(super) fn holding_lock(maps: &Maps, mut lock: u32) -> Result<u32, KernelError> {
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
