//! Taking a snapshot while the programs count.

use std::collections::BTreeMap;

use limiter_common::{
    limit::{BLOCK_SLOTS, Block, Kind, LimitDef, LimitSet},
    window::Slot,
};

use super::{Counts, KeptLimit, KeptTenant, Snapshot, is_long};
use crate::{
    kernel::{KernelError, Mirror, alloc::Run, clock, limits::defs, maps::TypedArray},
    offence::Reading,
};

/// How often a block that keeps changing is read again.
const TRIES: usize = 16;

impl Mirror {
    /// What long limits have counted. `read_clocks` is called at the end, so that nothing is younger
    /// than it is said to be.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn snapshot(
        &self,
        blocks: &TypedArray<Block>,
        read_clocks: impl FnOnce() -> Reading,
    ) -> Result<Snapshot, KernelError> {
        let mut read: BTreeMap<u32, Consistent> = BTreeMap::new();
        for (_, set, run) in self.states() {
            if defs(set).iter().any(is_long) && !read.contains_key(&run.block) {
                read.insert(run.block, Consistent::read(blocks, run.block)?);
            }
        }
        let now_ns = clock::monotonic_ns();
        let mut plans: BTreeMap<Vec<KeptLimit>, usize> = BTreeMap::new();
        let mut by_set: BTreeMap<LimitSet, usize> = BTreeMap::new();
        let mut tenants = Vec::new();
        for (name, set, run) in self.states() {
            let Some(block) = read.get(&run.block) else {
                continue;
            };
            let long = || defs(set).iter().filter(|def| is_long(def));
            let counts: Vec<Counts> = long().map(|def| counts(block, run, def, now_ns)).collect();
            if counts.iter().all(Counts::is_nothing) {
                continue;
            }
            let plan = match by_set.get(set) {
                Some(plan) => *plan,
                None => {
                    let limits = long().filter_map(KeptLimit::of).collect();
                    let next = plans.len();
                    let plan = *plans.entry(limits).or_insert(next);
                    by_set.insert(*set, plan);
                    plan
                }
            };
            tenants.push(KeptTenant(name.to_owned(), plan, counts));
        }
        let mut in_order = vec![Vec::new(); plans.len()];
        for (limits, place) in plans {
            in_order[place] = limits;
        }
        Ok(Snapshot {
            taken: read_clocks(),
            plans: in_order,
            tenants,
        })
    }
}

/// A block, and which of its slots were read while a program changed them.
struct Consistent {
    block: Block,
    torn: [bool; BLOCK_SLOTS],
}

impl Consistent {
    /// Reads a block whole: programs change it meanwhile. What was read before a slot got another
    /// bucket is whole if its units add up.
    fn read(blocks: &TypedArray<Block>, at: u32) -> Result<Self, KernelError> {
        let mut block = blocks.get(at)?;
        let mut torn = [true; BLOCK_SLOTS];
        for _ in 0..TRIES {
            let again = blocks.get(at)?;
            for (place, torn) in torn.iter_mut().enumerate() {
                let (slot, next) = (&block.slots[place], &again.slots[place]);
                *torn = slot.epoch != next.epoch || !adds_up(slot);
            }
            if torn.iter().all(|torn| !torn) {
                break;
            }
            block = again;
        }
        Ok(Self { block, torn })
    }
}

fn adds_up(slot: &Slot) -> bool {
    let sum = slot
        .ring
        .iter()
        .fold(slot.current, |sum, units| sum.wrapping_add(*units));
    sum == slot.total
}

/// What a limit has counted, by the state in a block.
fn counts(read: &Consistent, run: Run, def: &LimitDef, now_ns: u64) -> Counts {
    const SECOND: u64 = 1_000_000_000;
    let place = (usize::from(run.first) + usize::from(def.slot)) % BLOCK_SLOTS;
    let slot = &read.block.slots[place];
    if def.kind == Kind::Pace as u8 {
        // One word, which is never torn.
        return Counts::Pace(slot.epoch.saturating_sub(now_ns).div_ceil(SECOND));
    }
    if read.torn[place] {
        // Nobody knows how old they are: as young as can be.
        let sum = slot
            .ring
            .iter()
            .fold(slot.current, |sum, units| sum.saturating_add(*units));
        return Counts::Window(vec![(0, sum.max(slot.total))]);
    }
    let ages = slot.ages(now_ns, def.span_ns).into_iter();
    let counted = ages.filter(|(_, units)| *units > 0);
    Counts::Window(counted.map(|(age, units)| (age / SECOND, units)).collect())
}
