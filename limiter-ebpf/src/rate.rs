//! Limits: all of a tenant, its ancestors and the node admit an attempt, or none counts it.
//!
//! Everything is looked up first; then one lock, the tree's, is taken; under it nothing is called.
//! What was read before is compared again under the lock, and tried again if it changed.

use limiter_common::{
    abi::NOBODY,
    limit::{BLOCK_SLOTS, Block, Kind, LimitDef, LimitSet, Unit},
    pace,
    tenant::Tenant,
    verdict::PortGroup,
};

use crate::{kernel, maps};

/// How often a policy that changes meanwhile is read again.
const TRIES: u32 = 4;
const SLOT_MASK: u32 = BLOCK_SLOTS as u32 - 1;

/// What an attempt asks for.
#[derive(Clone, Copy)]
pub struct Demand {
    /// What is counted.
    pub unit: Unit,
    /// How many.
    pub units: u32,
    /// Where to.
    pub group: PortGroup,
    /// The kernel's clock, ns.
    pub now_ns: u64,
    /// Whether to count it if it is admitted.
    pub count: bool,
}

/// A limit that is used up.
#[derive(Clone, Copy)]
pub struct Full {
    /// The tenant whose limit it is.
    pub owner: u32,
    /// The limit.
    pub def: LimitDef,
}

/// What the limits say.
pub enum Outcome {
    /// All admit it.
    Admitted,
    /// All that are enforced admit it; this one, of an observed ancestor, would not.
    WouldRefuse(Full),
    /// This one does not. Nothing was counted.
    Refused(Full),
    /// A look-up failed, or the policy kept changing.
    Failed,
}

/// One level of the tree: pointers that were looked up before the lock was taken.
#[derive(Clone, Copy)]
struct Level {
    index: u32,
    generation: u32,
    tenant: *const Tenant,
    set: *const LimitSet,
    block: *mut Block,
}

impl Level {
    const NONE: Self = Self {
        index: NOBODY,
        generation: 0,
        tenant: core::ptr::null(),
        set: core::ptr::null(),
        block: core::ptr::null_mut(),
    };

    /// Looks the tenant at `index` up; `Ok(NONE)` if there is none to look up.
    #[inline(always)]
    fn load(index: u32) -> Result<Self, ()> {
        if index == NOBODY {
            return Ok(Self::NONE);
        }
        let tenant = maps::TENANTS.get_ptr(index).ok_or(())?;
        // SAFETY: looked up; words that tear are caught by the generation under the lock.
        let (generation, set, block) =
            unsafe { ((*tenant).generation, (*tenant).limit_set, (*tenant).block) };
        Ok(Self {
            index,
            generation,
            tenant,
            set: maps::LIMIT_SETS.get_ptr(set).ok_or(())?,
            block: maps::BLOCKS.get_ptr_mut(block).ok_or(())?,
        })
    }

    /// The index of the parent.
    #[inline(always)]
    fn parent(&self) -> u32 {
        if self.tenant.is_null() {
            return NOBODY;
        }
        // SAFETY: looked up.
        unsafe { (*self.tenant).parent }
    }

    /// Whether the policy is still the one that was looked up.
    #[inline(always)]
    fn is_current(&self) -> bool {
        // SAFETY: looked up; volatile, for another CPU may have changed it.
        self.tenant.is_null()
            || unsafe { core::ptr::read_volatile(&raw const (*self.tenant).generation) }
                == self.generation
    }

    /// Whether refusals of this level are carried out.
    #[inline(always)]
    fn enforces(&self, now_ns: u64) -> bool {
        // SAFETY: looked up.
        self.tenant.is_null() || unsafe { (*self.tenant).enforces(now_ns) }
    }

    /// Moves all limits of this level to the present, and says which is the first that does not
    /// admit the demand: one more than its place in the set, 0 if all do. Under the lock.
    #[inline(always)]
    fn first_full(&self, demand: &Demand) -> u32 {
        if self.tenant.is_null() {
            return 0;
        }
        // SAFETY: all three were looked up, and the tree's lock is held: nobody else changes the
        // slots. Indices are masked to the arrays' lengths, which are powers of two.
        unsafe {
            let count = (*self.set).count;
            let first = u32::from((*self.tenant).first_slot);
            let mut at = 0_u32;
            while at < BLOCK_SLOTS as u32 {
                if u64::from(at) >= count {
                    break;
                }
                let def = &(*self.set).defs[(at & SLOT_MASK) as usize];
                at += 1;
                if !def.concerns(demand.unit, demand.group) {
                    continue;
                }
                let place = ((first + u32::from(def.slot)) & SLOT_MASK) as usize;
                let slot = &mut (*self.block).slots[place];
                let admits = if def.kind == Kind::Window as u8 {
                    slot.advance(demand.now_ns, def.span_ns);
                    slot.admits(demand.units, def.max)
                } else {
                    pace::admits(
                        slot.epoch,
                        demand.now_ns,
                        def.span_ns,
                        def.max,
                        demand.units,
                    )
                };
                if !admits {
                    return at;
                }
            }
        }
        0
    }

    /// Counts the demand in all limits of this level. Under the lock, after
    /// [`first_full`](Self::first_full).
    #[inline(always)]
    fn count(&self, demand: &Demand) {
        if self.tenant.is_null() {
            return;
        }
        // SAFETY: as in `first_full`.
        unsafe {
            let count = (*self.set).count;
            let first = u32::from((*self.tenant).first_slot);
            let mut at = 0_u32;
            while at < BLOCK_SLOTS as u32 {
                if u64::from(at) >= count {
                    break;
                }
                let def = &(*self.set).defs[(at & SLOT_MASK) as usize];
                at += 1;
                if !def.concerns(demand.unit, demand.group) {
                    continue;
                }
                let place = ((first + u32::from(def.slot)) & SLOT_MASK) as usize;
                let slot = &mut (*self.block).slots[place];
                if def.kind == Kind::Window as u8 {
                    slot.count(demand.units);
                } else {
                    slot.epoch = pace::count(slot.epoch, demand.now_ns, def.span_ns, demand.units);
                }
            }
        }
    }

    /// The limit that [`first_full`](Self::first_full) named.
    #[inline(always)]
    fn full(&self, at: u32) -> Full {
        if self.set.is_null() {
            return Full {
                owner: self.index,
                def: LimitDef::default(),
            };
        }
        // SAFETY: looked up, masked.
        let def = unsafe { (*self.set).defs[(at.wrapping_sub(1) & SLOT_MASK) as usize] };
        Full {
            owner: self.index,
            def,
        }
    }
}

/// Asks the limits of the tenant at `leaf`, all its ancestors' and the node's.
#[inline(always)]
pub fn decide(leaf: u32, demand: &Demand) -> Outcome {
    let mut try_number = 0;
    let mut lock_index = NOBODY;
    while try_number < TRIES {
        try_number += 1;
        let Ok(l0) = Level::load(leaf) else {
            return Outcome::Failed;
        };
        let Ok(l1) = Level::load(l0.parent()) else {
            return Outcome::Failed;
        };
        let Ok(l2) = Level::load(l1.parent()) else {
            return Outcome::Failed;
        };
        let Ok(l3) = Level::load(l2.parent()) else {
            return Outcome::Failed;
        };
        let Ok(l4) = Level::load(l3.parent()) else {
            return Outcome::Failed;
        };
        if l0.tenant.is_null() || l4.parent() != NOBODY {
            return Outcome::Failed;
        }
        if lock_index == NOBODY {
            // SAFETY: looked up.
            lock_index = unsafe { (*l0.tenant).lock };
        }
        let Some(cell) = maps::LOCKS.get_ptr_mut(lock_index) else {
            return Outcome::Failed;
        };

        // SAFETY: looked up, and no lock is held.
        unsafe { kernel::lock(&raw mut (*cell).lock) };
        // SAFETY: looked up; volatile, for the agent changes it under this lock.
        let forward = unsafe { core::ptr::read_volatile(&raw const (*cell).forward) };
        let current = l0.is_current()
            && l1.is_current()
            && l2.is_current()
            && l3.is_current()
            && l4.is_current();
        if forward != 0 || !current {
            // SAFETY: held.
            unsafe { kernel::unlock(&raw mut (*cell).lock) };
            lock_index = if forward != 0 { forward - 1 } else { NOBODY };
            continue;
        }

        let now_ns = demand.now_ns;
        let enforced = l0.enforces(now_ns);
        let mut refused = 0_u32;
        let mut refused_at = 0_u32;
        let mut skipped = 0_u32;
        let mut skipped_at = 0_u32;
        let mut skip = 0_u32;
        macro_rules! ask {
            ($level:expr, $number:literal) => {
                if refused == 0 {
                    let at = $level.first_full(demand);
                    if at != 0 {
                        // Who is enforced and has room is not held back by an ancestor that is
                        // only observed: there it is not counted either, so that what is counted
                        // is what enforcement would admit.
                        if enforced && !$level.enforces(now_ns) {
                            skip |= 1 << $number;
                            if skipped == 0 {
                                skipped = $number + 1;
                                skipped_at = at;
                            }
                        } else {
                            refused = $number + 1;
                            refused_at = at;
                        }
                    }
                }
            };
        }
        ask!(l0, 0);
        ask!(l1, 1);
        ask!(l2, 2);
        ask!(l3, 3);
        ask!(l4, 4);
        if refused == 0 && demand.count {
            if skip & 1 == 0 {
                l0.count(demand);
            }
            if skip & 2 == 0 {
                l1.count(demand);
            }
            if skip & 4 == 0 {
                l2.count(demand);
            }
            if skip & 8 == 0 {
                l3.count(demand);
            }
            if skip & 16 == 0 {
                l4.count(demand);
            }
        }
        // SAFETY: held.
        unsafe { kernel::unlock(&raw mut (*cell).lock) };

        let (number, at) = if refused != 0 {
            (refused, refused_at)
        } else {
            (skipped, skipped_at)
        };
        let full = match number {
            0 => return Outcome::Admitted,
            1 => l0.full(at),
            2 => l1.full(at),
            3 => l2.full(at),
            4 => l3.full(at),
            _ => l4.full(at),
        };
        return if refused != 0 {
            Outcome::Refused(full)
        } else {
            Outcome::WouldRefuse(full)
        };
    }
    crate::report::contended();
    Outcome::Failed
}
