//! Where in the blocks the state of each tenant stands: runs of 1, 2, 4 or 8 slots, by the buddy
//! method, so that many small tenants share a block and none straddles two.

use std::collections::BTreeSet;

use limiter_common::limit::BLOCK_SLOTS;

/// A run of slots within one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The block.
    pub block: u32,
    /// The first slot in it, a multiple of `size`.
    pub first: u8,
    /// 1, 2, 4 or 8 slots.
    pub size: u8,
}

/// The size of the run that holds `slots` slots; `None` for none.
#[must_use]
pub fn size_for(slots: usize) -> Option<u8> {
    if slots == 0 || slots > BLOCK_SLOTS {
        return None;
    }
    u8::try_from(slots.next_power_of_two()).ok()
}

/// Which runs are free.
#[derive(Clone, Debug)]
pub struct Slots {
    blocks: u32,
    /// Blocks never used: from here up to `blocks`.
    fresh: u32,
    /// Free runs of 1, 2, 4 and 8 slots.
    free: [BTreeSet<(u32, u8)>; 4],
}

impl Slots {
    /// All of `blocks` blocks, free.
    #[must_use]
    pub fn new(blocks: u32) -> Self {
        Self {
            blocks,
            fresh: 0,
            free: Default::default(),
        }
    }

    /// All of `blocks` blocks but the runs in use, which do not overlap.
    #[must_use]
    pub fn with_used(blocks: u32, used: &[Run]) -> Self {
        let mut slots = Self::new(blocks);
        slots.fresh = used.iter().map(|run| run.block + 1).max().unwrap_or(0);
        let taken: BTreeSet<(u32, u8)> = used
            .iter()
            .flat_map(|run| (0..run.size).map(move |at| (run.block, run.first + at)))
            .collect();
        for block in 0..slots.fresh {
            for first in 0..8 {
                if !taken.contains(&(block, first)) {
                    slots.release(Run {
                        block,
                        first,
                        size: 1,
                    });
                }
            }
        }
        slots
    }

    /// Takes a run of `size` slots (1, 2, 4 or 8); `None` if no block has that much room.
    pub fn take(&mut self, size: u8) -> Option<Run> {
        let class = class_of(size);
        let from = (class..4).find(|class| !self.free[*class].is_empty());
        let (block, first, mut at) = match from {
            Some(from) => {
                let (block, first) = self.free[from].pop_first()?;
                (block, first, from)
            }
            None if self.fresh < self.blocks => {
                self.fresh += 1;
                (self.fresh - 1, 0, 3)
            }
            None => return None,
        };
        // What is too large is split; the upper halves are free.
        while at > class {
            at -= 1;
            self.free[at].insert((block, first + (1 << at)));
        }
        Some(Run { block, first, size })
    }

    /// Gives a run back, and joins it with its other half where that is free too.
    pub fn release(&mut self, run: Run) {
        let (mut first, mut class) = (run.first, class_of(run.size));
        while class < 3 && self.free[class].remove(&(run.block, first ^ (1 << class))) {
            first &= !(1 << class);
            class += 1;
        }
        self.free[class].insert((run.block, first));
    }

    /// The first of the blocks that were never used.
    #[must_use]
    pub const fn first_unused(&self) -> u32 {
        self.fresh
    }

    /// How many slots are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        let free: usize = self
            .free
            .iter()
            .zip([1, 2, 4, 8])
            .map(|(set, n)| set.len() * n)
            .sum();
        usize::try_from(self.fresh)
            .unwrap_or(usize::MAX)
            .saturating_mul(BLOCK_SLOTS)
            - free
    }
}

fn class_of(size: u8) -> usize {
    match size {
        0 | 1 => 0,
        2 => 1,
        3 | 4 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 8, 9].map(size_for),
            [
                None,
                Some(1),
                Some(2),
                Some(4),
                Some(4),
                Some(8),
                Some(8),
                None
            ]
        );
    }

    #[test]
    fn all_of_a_block_is_used() {
        let mut slots = Slots::new(1);
        let runs: Vec<Run> = (0..8).map(|_| slots.take(1).unwrap()).collect();
        assert_eq!(slots.take(1), None);
        for run in runs {
            slots.release(run);
        }
        assert_eq!(
            slots.take(8),
            Some(Run {
                block: 0,
                first: 0,
                size: 8
            })
        );
    }

    proptest! {
        #[test]
        fn runs_never_overlap(steps in prop::collection::vec((any::<bool>(), 0_usize..4, any::<usize>()), 1..300)) {
            let mut slots = Slots::new(6);
            let mut held: Vec<Run> = Vec::new();
            for (give_back, class, pick) in steps {
                if give_back && !held.is_empty() {
                    let run = held.swap_remove(pick % held.len());
                    slots.release(run);
                } else if let Some(run) = slots.take(1 << class) {
                    prop_assert!(run.first % run.size == 0 && run.first + run.size <= 8 && run.block < 6);
                    held.push(run);
                } else {
                    // Refused only if no block has a free run of that size.
                    let mut taken = BTreeSet::new();
                    for run in &held {
                        taken.extend((0..run.size).map(|at| (run.block, run.first + at)));
                    }
                    let size = 1_u8 << class;
                    let room = (0..6).any(|block| (0..8).step_by(usize::from(size)).any(|first|
                        (0..size).all(|at| !taken.contains(&(block, first + at)))));
                    prop_assert!(!room);
                }
                let mut taken = BTreeSet::new();
                for run in &held {
                    for at in 0..run.size {
                        prop_assert!(taken.insert((run.block, run.first + at)), "overlap");
                    }
                }
                prop_assert_eq!(slots.used(), taken.len());
                let again = Slots::with_used(6, &held);
                prop_assert_eq!(again.used(), taken.len());
            }
        }
    }
}
