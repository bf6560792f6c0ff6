//! The agent's copy of the tenants that stand in the kernel, by index: as dense as there.

use limiter_common::tenant::Tenant;

use crate::kernel::alloc::Run;

/// A tenant as it stands in the kernel.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) tenant: Tenant,
    pub(super) run: Option<Run>,
}

/// All tenants.
#[derive(Debug, Default)]
pub(super) struct Entries {
    places: Vec<Option<Entry>>,
    count: usize,
}

impl Entries {
    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.places.get(place(index))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.places.get_mut(place(index))?.as_mut()
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Puts a tenant where there may be one. `index` is one of the kernel's, so that the copy is
    /// no larger than what it is a copy of.
    pub(super) fn insert(&mut self, index: u32, entry: Entry) {
        let at = place(index);
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        if self.places[at].replace(entry).is_none() {
            self.count += 1;
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Entry> {
        let removed = self.places.get_mut(place(index))?.take();
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// The tenants from `from` on, in the order of their indices.
    pub(super) fn from(&self, from: u32) -> impl DoubleEndedIterator<Item = (u32, &Entry)> {
        let first = place(from).min(self.places.len());
        self.places[first..]
            .iter()
            .enumerate()
            .filter_map(move |(at, entry)| Some((u32::try_from(first + at).ok()?, entry.as_ref()?)))
    }

    /// All tenants, in the order of their indices.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &Entry)> {
        self.from(0)
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
