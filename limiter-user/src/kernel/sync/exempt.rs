//! Sets of exempt destinations: equal ones are stored once.

use std::collections::BTreeSet;

use limiter_common::address::ExemptKey;

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, identities::exempt_entries},
    policy::{image::Image, model::Exempt},
};

impl Mirror {
    /// Writes the exempt sets that are new. Returns the ids of those that nobody uses any more.
    pub(super) fn write_exempt_sets(
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
        for exempt in &wanted {
            if self.exempt_sets.contains_key(*exempt) {
                continue;
            }
            self.exempt_sets.insert((*exempt).clone(), next);
            next += 1;
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

    pub(super) fn remove_exempt(
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
}
