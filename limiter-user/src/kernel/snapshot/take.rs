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

/// A snapshot in the making. It is taken some tenants at a time, so that nobody who waits for the
/// agent's state waits for all of them.
///
/// Each tenant's counts are whole, and as they were at a moment between the beginning and the end.
/// Ages are those of that moment, and said to be those of the end: nothing is said to be older than
/// it is. What was counted since the beginning may be missing, of one tenant and not of another.
#[derive(Debug, Default)]
pub struct Taking {
    /// The index of the next tenant in the kernel.
    next: u32,
    /// Their places.
    plans: BTreeMap<Vec<KeptLimit>, usize>,
    by_set: BTreeMap<LimitSet, usize>,
    tenants: Vec<KeptTenant>,
}

impl Mirror {
    /// Takes what long limits of the next tenants have counted, `most` of them at once. Gives
    /// whether there are more.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn snapshot_some(
        &self,
        taking: &mut Taking,
        blocks: &TypedArray<Block>,
        most: usize,
    ) -> Result<bool, KernelError> {
        let mut read: BTreeMap<u32, Consistent> = BTreeMap::new();
        let mut states = self.states(taking.next);
        for (_, _, set, run) in states.by_ref().take(most) {
            if defs(set).iter().any(is_long) && !read.contains_key(&run.block) {
                read.insert(run.block, Consistent::read(blocks, run.block)?);
            }
        }
        let next = states.next().map(|(index, ..)| index);
        let now_ns = clock::monotonic_ns();
        for (_, name, set, run) in self.states(taking.next).take(most) {
            if let Some(block) = read.get(&run.block) {
                taking.add(name, set, |def| counts(block, run, def, now_ns));
            }
        }
        taking.next = next.unwrap_or(u32::MAX);
        Ok(next.is_some())
    }
}

impl Taking {
    /// Adds a tenant, if it has counted anything.
    fn add(&mut self, name: &str, set: &LimitSet, counts: impl Fn(&LimitDef) -> Counts) {
        let long = || defs(set).iter().filter(|def| is_long(def));
        let counts: Vec<Counts> = long().map(counts).collect();
        if counts.iter().all(Counts::is_nothing) {
            return;
        }
        let plan = match self.by_set.get(set) {
            Some(plan) => *plan,
            None => {
                let limits = long().filter_map(KeptLimit::of).collect();
                let next = self.plans.len();
                let plan = *self.plans.entry(limits).or_insert(next);
                self.by_set.insert(*set, plan);
                plan
            }
        };
        self.tenants.push(KeptTenant(name.to_owned(), plan, counts));
    }

    /// The snapshot. `taken`: the clocks, read after the last tenants, so that nothing is younger
    /// than it is said to be.
    #[must_use]
    pub fn finish(self, taken: Reading) -> Snapshot {
        let mut plans = vec![Vec::new(); self.plans.len()];
        for (limits, place) in self.plans {
            plans[place] = limits;
        }
        Snapshot {
            taken,
            plans,
            tenants: self.tenants,
        }
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
                let (slot, next) = (block.slot(place), again.slot(place));
                *torn = slot.epoch != next.epoch || !adds_up(&slot);
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
    let slot = &read.block.slot(place);
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
