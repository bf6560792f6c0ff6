//! Sets of exempt destinations: equal ones are stored once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use limiter_common::address::{Address, ExemptKey, ExemptPorts, MAX_EXEMPT_PORTS};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, identities::exempt_entries},
    policy::{image::Image, model::Exempt},
};

/// The entries of sets as they stand in the kernel, by prefix length and key.
type Entries = BTreeMap<(u32, ExemptKey), ExemptPorts>;

/// What a set says, whatever its id: prefix length, address, ports.
type Shape = Vec<(u32, Address, u32, [u16; MAX_EXEMPT_PORTS])>;

fn shape(entries: &Entries) -> Shape {
    entries
        .iter()
        .map(|((bits, key), ports)| (*bits, key.address, ports.count, ports.ports))
        .collect()
}

impl Mirror {
    /// Makes sure that the sets that are new fit beside those that stand in the kernel.
    pub(super) fn room_for_exempt(&self, image: &Image, room: usize) -> Result<(), KernelError> {
        let new: BTreeSet<&Vec<Exempt>> = image
            .tenants
            .iter()
            .map(|tenant| &tenant.exempt)
            .filter(|exempt| !exempt.is_empty() && !self.exempt_sets.contains_key(*exempt))
            .collect();
        let most: usize = new.iter().map(|set| set.len()).sum();
        if self.exempt.len() + most + image.exempt.len() <= room {
            return Ok(());
        }
        // Closer: what another agent wrote is there already, and what is twice in a set is once.
        let unnamed = self.unnamed_exempt_sets();
        let own: usize = new
            .into_iter()
            .map(|set| exempt_entries(0, set))
            .filter(|entries| !unnamed.contains_key(&shape(entries)))
            .map(|entries| entries.len())
            .sum();
        let everybodys = exempt_entries(0, &image.exempt);
        let everybodys = everybodys
            .keys()
            .filter(|key| !self.exempt.contains_key(key));
        let needed = self.exempt.len() + own + everybodys.count();
        if needed <= room {
            return Ok(());
        }
        Err(KernelError::NoRoom {
            what: "exempt destinations, old and new side by side,",
            needed,
            room,
        })
    }

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

    /// The sets that stand in the kernel and that this agent has not written, with their ids: an
    /// agent that starts finds those of the last one.
    fn unnamed_exempt_sets(&self) -> HashMap<Shape, u32> {
        let named: BTreeSet<u32> = self.exempt_sets.values().copied().collect();
        let mut by_id: BTreeMap<u32, Entries> = BTreeMap::new();
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
