//! Whether an image fits, asked before anything is touched: a reload is all or nothing.

use std::collections::HashMap;

use limiter_common::{
    abi::DENSE_UIDS,
    limit::{BLOCK_SLOTS, LimitSet},
    owner::Owner,
};

use super::{Mirror, claims_of};
use crate::{
    kernel::{
        KernelError,
        alloc::{Slots, size_for},
        limits::lay_out,
        maps::Maps,
    },
    policy::image::Image,
};

impl Mirror {
    /// Makes sure that everything fits, the blocked prefixes aside, which are planned with their
    /// room. Old and new stand side by side while they are written, so what goes away gives its
    /// room back only afterwards.
    pub(super) fn check_room(
        &self,
        image: &Image,
        places: &[Option<u32>],
        maps: &Maps,
    ) -> Result<(), KernelError> {
        self.room_for_tenants(places)?;
        self.room_for_slots(image, places)?;
        self.room_for_sets(image, places, usize_of(maps.limit_sets.len()))?;
        self.room_for_exempt(image, maps.exempt.room())?;
        // Whose they are does not matter here, and there is room for every ordinary uid.
        let wanted = claims_of(image, DENSE_UIDS, |_| Owner::MTA);
        match self.identities.lacks_room(&wanted, maps) {
            None => Ok(()),
            Some((what, needed, room)) => Err(KernelError::NoRoom { what, needed, room }),
        }
    }

    fn room_for_tenants(&self, places: &[Option<u32>]) -> Result<(), KernelError> {
        let room = usize_of(self.capacity);
        let new = places.iter().filter(|place| place.is_none()).count();
        if new <= self.free.len() + room - usize_of(self.fresh) {
            return Ok(());
        }
        Err(KernelError::NoRoom {
            what: "tenants",
            needed: places.len(),
            room,
        })
    }

    /// Takes and gives back the same runs of slots in the same order as the pass will, in a copy.
    fn room_for_slots(&self, image: &Image, places: &[Option<u32>]) -> Result<(), KernelError> {
        let mut copy: Option<Slots> = None;
        let all = || {
            let entries = places.iter().map(|place| self.entries.get((*place)?));
            image.tenants.iter().zip(entries)
        };
        let new = all().filter(|(_, entry)| entry.is_none());
        let known = all().filter(|(_, entry)| entry.is_some());
        for (tenant, entry) in new.chain(known) {
            let old = entry.and_then(|entry| entry.run);
            let size = size_for(tenant.limits.len());
            if size == old.map(|run| run.size) {
                continue;
            }
            let slots = copy.get_or_insert_with(|| self.slots.clone());
            if size.is_some_and(|size| slots.take(size).is_none()) {
                let sizes = image
                    .tenants
                    .iter()
                    .map(|tenant| size_for(tenant.limits.len()).map_or(0, usize::from));
                return Err(KernelError::NoRoom {
                    what: "limits (each tenant's rounded up to 1, 2, 4 or 8)",
                    needed: sizes.sum(),
                    room: usize_of(self.blocks) * BLOCK_SLOTS,
                });
            }
            if let Some(old) = old {
                slots.release(old);
            }
        }
        Ok(())
    }

    /// As above, for the interned sets; only counted one by one where it could be too many.
    fn room_for_sets(
        &self,
        image: &Image,
        places: &[Option<u32>],
        room: usize,
    ) -> Result<(), KernelError> {
        // Set 0 is the empty one.
        let room = room.saturating_sub(1);
        if self.sets.len() + image.tenants.len() <= room {
            return Ok(());
        }
        let mut users: HashMap<LimitSet, usize> = self.sets.users();
        for (tenant, place) in image.tenants.iter().zip(places) {
            let old = place.and_then(|place| self.entries.get(place));
            let old_set = old.map_or(LimitSet::default(), |entry| {
                *self.sets.get(entry.tenant.limit_set)
            });
            let old_size = old.and_then(|entry| entry.run).map_or(0, |run| run.size);
            let set = lay_out(&tenant.limits, &old_set, old_size).set;
            if set.count != 0 {
                *users.entry(set).or_default() += 1;
            }
            if users.len() > room {
                return Err(KernelError::NoRoom {
                    what: "different sets of limits",
                    needed: users.len(),
                    room,
                });
            }
            if let Some(count) = users.get_mut(&old_set) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    users.remove(&old_set);
                }
            }
        }
        Ok(())
    }
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
