//! Sets of limits, each stored once however many tenants have it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use limiter_common::limit::LimitSet;

use crate::kernel::{KernelError, maps::TypedArray};

/// The set of whoever has no limits. It is the kernel's set 0.
const NONE: LimitSet = LimitSet {
    count: 0,
    defs: [limiter_common::limit::LimitDef {
        span_ns: 0,
        max: 0,
        slot: 0,
        unit: 0,
        kind: 0,
        groups: 0,
    }; limiter_common::limit::BLOCK_SLOTS],
};

/// The sets in use.
#[derive(Debug, Default)]
pub(super) struct Sets {
    ids: HashMap<LimitSet, u32>,
    /// By id, with how many tenants use each; 0 is free, or of no use yet.
    known: Vec<(LimitSet, usize)>,
    free: BTreeSet<u32>,
    /// Those that do not stand in the kernel yet.
    unwritten: BTreeMap<u32, LimitSet>,
}

impl Sets {
    /// The set with this id.
    pub(super) fn get(&self, id: u32) -> &LimitSet {
        usize::try_from(id)
            .ok()
            .and_then(|id| self.known.get(id))
            .map_or(&NONE, |(set, _)| set)
    }

    /// How many different sets there are, the empty one aside.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All but the empty one, with how many tenants use each.
    pub(super) fn users(&self) -> HashMap<LimitSet, usize> {
        self.ids
            .iter()
            .filter_map(|(set, id)| Some((*set, self.known.get(usize::try_from(*id).ok()?)?.1)))
            .collect()
    }

    /// A tenant that stands in the kernel uses `set`, which has this id there.
    pub(super) fn adopt(&mut self, set: &LimitSet, id: u32) {
        if id == 0 {
            return;
        }
        let at = self.make_place(id);
        if let Some((place, users)) = self.known.get_mut(at) {
            *place = *set;
            *users += 1;
        }
        self.ids.insert(*set, id);
    }

    /// Finds the ids between those in use that are free. Once, after all were adopted.
    pub(super) fn find_free(&mut self) {
        let known = self.known.iter().enumerate().skip(1);
        self.free = known
            .filter(|(_, (_, users))| *users == 0)
            .filter_map(|(id, _)| u32::try_from(id).ok())
            .collect();
    }

    /// The id of a set for one tenant more. A new one is written by [`write`](Self::write).
    pub(super) fn intern(&mut self, set: &LimitSet, room: u32) -> Result<u32, KernelError> {
        if set.count == 0 {
            return Ok(0);
        }
        let id = match self.ids.get(set) {
            Some(id) => *id,
            None => {
                let fresh = u32::try_from(self.known.len().max(1)).unwrap_or(u32::MAX);
                let id = match self.free.pop_first() {
                    Some(id) => id,
                    None if fresh < room => fresh,
                    None => {
                        let room = usize::try_from(room).unwrap_or(usize::MAX);
                        return Err(KernelError::NoRoom {
                            what: "different sets of limits",
                            needed: room + 1,
                            room,
                        });
                    }
                };
                self.ids.insert(*set, id);
                self.unwritten.insert(id, *set);
                id
            }
        };
        let at = self.make_place(id);
        if let Some((place, users)) = self.known.get_mut(at) {
            *place = *set;
            *users += 1;
        }
        Ok(id)
    }

    /// One tenant less uses the set with this id.
    pub(super) fn release(&mut self, id: u32) {
        if id == 0 {
            return;
        }
        let Some((set, users)) = usize::try_from(id)
            .ok()
            .and_then(|at| self.known.get_mut(at))
        else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.ids.remove(set);
            self.unwritten.remove(&id);
            self.free.insert(id);
        }
    }

    /// Writes what is new. Before whoever uses it is written.
    pub(super) fn write(&mut self, map: &mut TypedArray<LimitSet>) -> Result<(), KernelError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let new: Vec<(u32, LimitSet)> =
            self.unwritten.iter().map(|(id, set)| (*id, *set)).collect();
        map.set_many(&new)?;
        self.unwritten.clear();
        Ok(())
    }

    fn make_place(&mut self, id: u32) -> usize {
        let at = usize::try_from(id).unwrap_or(0);
        if at >= self.known.len() {
            self.known.resize(at + 1, (NONE, 0));
        }
        at
    }
}
