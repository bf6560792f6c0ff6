//! Limits: all of a tenant, its ancestors and the node admit an attempt, or none counts it.
//!
//! Everything is looked up first; then one lock, the tree's, is taken; under it nothing is called.
//! What was read before is compared again under the lock, and tried again if it changed.

use limiter_common::{
    abi::{NOBODY, NODE},
    limit::{BLOCK_SLOTS, Block, Kind, LimitDef, LimitSet, Scratch, Unit},
    pace,
    tenant::{self, Tenant},
    verdict::PortGroup,
    window::{Head, Ring, State},
};

use crate::{kernel, maps};

/// How often an attempt is tried again because the policy changed meanwhile, or because the lock
/// gave way to another: while several trees are joined in one pass, more than once.
const TRIES: u32 = 8;
/// A bit for each level of the tree, the node included.
const ALL_LEVELS: u32 = 0b1_1111;
#[expect(clippy::cast_possible_truncation, reason = "eight")]
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

/// What the limits say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All admit it.
    Admitted,
    /// All that are enforced admit it; one of an observed ancestor would not.
    WouldRefuse,
    /// One does not. Nothing was counted.
    Refused,
    /// A look-up failed, or the policy kept changing.
    Failed,
}

/// An [`Outcome`], and the limit that is used up.
#[derive(Clone, Copy)]
pub struct Answer(u64);

/// In the place of an [`Outcome`]: the policy changed meanwhile, try again.
const AGAIN: u64 = 0xff;

impl Answer {
    const FAILED: Self = Self(Outcome::Failed as u64);

    #[inline(always)]
    fn new(outcome: Outcome, owner: u32, limit: u32) -> Self {
        Self(outcome as u64 | u64::from(limit & SLOT_MASK) << 8 | u64::from(owner) << 32)
    }

    /// With the levels that count what was admitted.
    #[inline(always)]
    fn counted(self, levels: u32) -> Self {
        Self(self.0 | u64::from(levels & ALL_LEVELS) << 16)
    }

    /// The levels of the tree that counted it, a bit each, the tenant's own lowest.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    pub fn levels(self) -> u8 {
        (self.0 >> 16) as u8 & ALL_LEVELS as u8
    }

    /// To try again, with the lock that another gave way to, if one did.
    #[inline(always)]
    fn again(forward: u32) -> Self {
        Self(AGAIN | u64::from(forward.wrapping_sub(1)) << 32)
    }

    /// The owner of the limit, or the lock to try again with.
    #[inline(always)]
    fn owner(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What the limits say.
    #[inline(always)]
    pub fn outcome(self) -> Outcome {
        match self.0 & 0xff {
            0 => Outcome::Admitted,
            1 => Outcome::WouldRefuse,
            2 => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }

    /// Whose limit is used up, and which of its limits.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    pub fn full(self) -> (u32, u32) {
        (self.owner(), (self.0 >> 8) as u32 & SLOT_MASK)
    }
}

/// The limit of `owner` that stands at `at` in its set.
#[inline(always)]
pub fn limit_of(owner: u32, at: u32) -> LimitDef {
    maps::TENANTS
        .get(owner)
        .and_then(|tenant| maps::LIMIT_SETS.get(tenant.limit_set))
        .map_or(LimitDef::default(), |set| {
            set.defs[(at & SLOT_MASK) as usize]
        })
}

const _: () = assert!(NODE == 0, "a number times zero");

/// One level of the tree, looked up before the lock is taken. A level above the node stands for
/// the node with no limits: pointers are never null, so that the verifier need not follow
/// every combination of levels.
#[derive(Clone, Copy)]
struct Level {
    tenant: *const Tenant,
    set: *const LimitSet,
    block: *mut Block,
}

impl Level {
    /// Looks the tenant at `index` up, [`NOBODY`] for no level, and adds its generation to `sum`
    /// before anything else is read of it.
    #[inline(always)]
    fn load(index: u32, sum: &mut u32) -> Option<Self> {
        // No question is asked: each would double the ways that the verifier follows.
        let there = 1_u32.wrapping_sub(kernel::is_nobody(index));
        let tenant = maps::TENANTS.get_ptr(index.wrapping_mul(there))?;
        // SAFETY: looked up; a policy that changes meanwhile is noticed under the lock.
        let (generation, set, block) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*tenant).generation),
                core::ptr::read_volatile(&raw const (*tenant).limit_set),
                core::ptr::read_volatile(&raw const (*tenant).block),
            )
        };
        *sum = sum.wrapping_add(generation);
        Some(Self {
            tenant,
            set: maps::LIMIT_SETS.get_ptr(set.wrapping_mul(there))?,
            block: maps::BLOCKS.get_ptr_mut(block)?,
        })
    }

    /// The index of the parent; of no level, whose tenant is the node, there is none either.
    #[inline(always)]
    fn parent(&self) -> u32 {
        // SAFETY: looked up.
        unsafe { core::ptr::read_volatile(&raw const (*self.tenant).parent) }
    }

    /// How often the policy changed.
    #[inline(always)]
    fn generation(&self) -> u32 {
        // SAFETY: looked up; volatile, for another CPU may change it.
        unsafe { core::ptr::read_volatile(&raw const (*self.tenant).generation) }
    }

    /// Whether refusals of this level are carried out.
    #[inline(always)]
    fn enforces(&self, now_ns: u64) -> bool {
        // SAFETY: looked up.
        unsafe { (*self.tenant).enforces(now_ns) }
    }

    /// Moves all limits of this level to the present. If one does not admit the demand, it is
    /// noted down in `scratch`, and the answer is no. Under the lock.
    #[inline(always)]
    fn admits(&self, demand: &Packed, scratch: *mut Scratch, owner: u32) -> bool {
        // SAFETY: looked up.
        let first = u32::from(unsafe { (*self.tenant).first_slot });
        macro_rules! ask {
            ($($at:literal)*) => {$(
                match self.one::<$at>(first, demand) {
                    One::End => return true,
                    One::Other => {}
                    One::Concerns(def, head, ring) => {
                        // SAFETY: see `one`; the scratch was looked up.
                        unsafe {
                            if !admits(def, head, ring, demand) {
                                core::ptr::write_volatile(&raw mut (*scratch).full_owner, owner);
                                core::ptr::write_volatile(&raw mut (*scratch).full_limit, $at);
                                return false;
                            }
                        }
                    }
                }
            )*};
        }
        ask!(0 1 2 3 4 5 6 7);
        true
    }

    /// Counts the demand in all limits of this level. Under the lock, after
    /// [`admits`](Self::admits) said yes.
    #[inline(always)]
    fn count(&self, demand: &Packed) {
        // SAFETY: looked up.
        let first = u32::from(unsafe { (*self.tenant).first_slot });
        macro_rules! count {
            ($($at:literal)*) => {$(
                match self.one::<$at>(first, demand) {
                    One::End => return,
                    One::Other => {}
                    // SAFETY: see `one`.
                    One::Concerns(def, head, _) => unsafe { count(def, head, demand) },
                }
            )*};
        }
        count!(0 1 2 3 4 5 6 7);
    }

    /// Takes back what was counted in the windows of this level. Under the lock.
    #[inline(always)]
    fn give_back(&self, demand: &Packed) {
        // SAFETY: looked up.
        let first = u32::from(unsafe { (*self.tenant).first_slot });
        macro_rules! back {
            ($($at:literal)*) => {$(
                match self.one::<$at>(first, demand) {
                    One::End => return,
                    One::Other => {}
                    One::Concerns(def, head, ring) => {
                        // SAFETY: see `one`.
                        let (def, head, ring) = unsafe { (&*def, &mut *head, &mut *ring) };
                        if def.kind == Kind::Window as u8 {
                            State { head, ring }.give_back(demand.now_ns, def.span_ns, demand.units);
                        }
                    }
                }
            )*};
        }
        back!(0 1 2 3 4 5 6 7);
    }

    /// The limit at `AT`. Each is a place of its own in the program, and not a round of a loop: the
    /// verifier forgets what it saw where it comes too often with too many differences.
    #[inline(always)]
    fn one<const AT: usize>(&self, first: u32, demand: &Packed) -> One {
        // SAFETY: all were looked up, and the tree's lock is held: nobody else changes the slots.
        // Indices are below the arrays' lengths or masked to them.
        unsafe {
            let def = &raw const (*self.set).defs[AT];
            // Volatile: what the verifier learns of it here must not follow it further.
            let groups = core::ptr::read_volatile(&raw const (*def).groups);
            if groups == 0 {
                // Limits stand in front.
                return One::End;
            }
            if (*def).unit != demand.unit || groups & demand.group == 0 {
                return One::Other;
            }
            let place = ((first + u32::from((*def).slot)) & SLOT_MASK) as usize;
            One::Concerns(
                def,
                &raw mut (*self.block).heads[place],
                &raw mut (*self.block).rings[place],
            )
        }
    }
}

const _: () = assert!(BLOCK_SLOTS == 8, "so many are asked and counted");

/// What stands at a place in a set of limits.
enum One {
    /// Nothing, nor further back.
    End,
    /// A limit of something else.
    Other,
    /// A limit of what is demanded, and its state.
    Concerns(*const LimitDef, *mut Head, *mut Ring),
}

/// Moves a limit to the present; whether it admits the demand.
///
/// # Safety
///
/// Both were looked up, and the tree's lock is held.
#[inline(always)]
unsafe fn admits(def: *const LimitDef, head: *mut Head, ring: *mut Ring, demand: &Packed) -> bool {
    // SAFETY: as the caller promises.
    let (def, head, ring) = unsafe { (&*def, &mut *head, &mut *ring) };
    if def.kind == Kind::Window as u8 {
        let mut state = State { head, ring };
        state.advance(demand.now_ns, def.span_ns);
        state.head.admits(demand.units, def.max)
    } else {
        pace::admits(
            head.epoch,
            demand.now_ns,
            def.span_ns,
            def.max,
            demand.units,
        )
    }
}

/// Counts the demand in a limit that admits it.
///
/// # Safety
///
/// As for [`admits`].
#[inline(always)]
unsafe fn count(def: *const LimitDef, head: *mut Head, demand: &Packed) {
    // SAFETY: as the caller promises.
    let (def, head) = unsafe { (&*def, &mut *head) };
    if def.kind == Kind::Window as u8 {
        head.count(demand.units);
    } else {
        head.epoch = pace::count(
            head.epoch,
            demand.now_ns,
            def.span_ns,
            def.max,
            demand.units,
        );
    }
}

/// Looks at what [`decide`] and the counters will need of the tenant at `index`: what is not in the
/// processor's cache comes while everything else is asked, and all of it at once. Says nothing, and
/// changes nothing.
#[inline(always)]
pub fn approach(index: u32) {
    limiter_approach(index);
}

/// [`approach`] as a function that the verifier looks at once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_approach(index: u32) -> u64 {
    let Some(tenant) = maps::TENANTS.get_ptr(index) else {
        return 0;
    };
    // SAFETY: looked up; volatile, so that it is really read.
    unsafe {
        if let Some(stats) = maps::STATS.get_ptr(index) {
            core::ptr::read_volatile(&raw const (*stats).allowed);
        }
        if let Some(cell) = maps::LOCKS.get_ptr((*tenant).lock) {
            core::ptr::read_volatile(&raw const (*cell).forward);
        }
        if let Some(block) = maps::BLOCKS.get_ptr((*tenant).block) {
            let place = u32::from((*tenant).first_slot) & SLOT_MASK;
            core::ptr::read_volatile(&raw const (*block).heads[place as usize].epoch);
        }
    }
    0
}

/// Asks the limits of the tenant at `leaf`, all its ancestors' and the node's.
#[inline(always)]
pub fn decide(leaf: u32, demand: &Demand) -> Answer {
    let what = u64::from(demand.units)
        | u64::from(demand.unit as u8) << 32
        | u64::from(demand.group as u8) << 40
        | u64::from(demand.count) << 48;
    let mut lock = NOBODY;
    let mut tries = 0;
    while tries < TRIES {
        let answer = Answer(limiter_decide(leaf, lock, what, demand.now_ns));
        if answer.0 & 0xff != AGAIN {
            return answer;
        }
        lock = answer.owner();
        tries += 1;
    }
    crate::report::contended();
    Answer::FAILED
}

/// One try of [`decide`], as a function that the verifier looks at once, for itself, however many
/// ways lead to it: it takes and gives plain numbers only. `lock` is the lock to take,
/// [`NOBODY`] for the tenant's own; if it gave way to another, the answer is to try [`AGAIN`] with
/// that.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_decide(leaf: u32, lock: u32, what: u64, now_ns: u64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    let demand = Packed {
        units: what as u32,
        unit: (what >> 32) as u8,
        group: 1_u8 << ((what >> 40) & 7),
        count: (what >> 48) & 1 != 0,
        now_ns,
    };
    ask_all(leaf, lock, &demand).unwrap_or(Answer::FAILED).0
}

/// A demand as it came through [`limiter_decide`].
struct Packed {
    units: u32,
    unit: u8,
    group: u8,
    count: bool,
    now_ns: u64,
}

#[inline(always)]
fn ask_all(leaf: u32, lock: u32, demand: &Packed) -> Option<Answer> {
    let scratch = maps::SCRATCH.get_ptr_mut(0)?;
    let mut before = 0;
    let l0 = Level::load(leaf, &mut before)?;
    let l1 = Level::load(l0.parent(), &mut before)?;
    let l2 = Level::load(l1.parent(), &mut before)?;
    let l3 = Level::load(l2.parent(), &mut before)?;
    let l4 = Level::load(l3.parent(), &mut before)?;
    let generations = || {
        let mut sum = l0.generation();
        sum = sum.wrapping_add(l1.generation());
        sum = sum.wrapping_add(l2.generation());
        sum = sum.wrapping_add(l3.generation());
        sum.wrapping_add(l4.generation())
    };
    // SAFETY: looked up.
    let own = unsafe { core::ptr::read_volatile(&raw const (*l0.tenant).lock) };
    let none = kernel::is_nobody(lock);
    let given = lock.wrapping_mul(1_u32.wrapping_sub(none));
    let cell = maps::LOCKS.get_ptr_mut(given.wrapping_add(own.wrapping_mul(none)))?;
    // SAFETY: all looked up, and no lock is held; volatile, for the agent changes it under this
    // lock.
    let forward = unsafe {
        kernel::lock(&raw mut (*cell).lock);
        core::ptr::read_volatile(&raw const (*cell).forward)
    };
    // Generations only go up, so the sum is the same only if none of them changed. Deeper than any
    // tree is one that is being changed, tenant by tenant.
    if forward != 0 || generations() != before || l4.parent() != NOBODY {
        // SAFETY: held.
        unsafe { kernel::unlock(&raw mut (*cell).lock) };
        return Some(Answer::again(forward));
    }

    // Gone since its identity was looked up: nothing says what it may do, so it is refused.
    // SAFETY: looked up.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*l0.tenant).flags) };
    if flags & tenant::flags::EXISTS == 0 {
        // SAFETY: held.
        unsafe { kernel::unlock(&raw mut (*cell).lock) };
        return None;
    }

    let now_ns = demand.now_ns;
    let enforced = l0.enforces(now_ns);
    // SAFETY: looked up, this CPU's own, and nothing else runs here while the lock is held.
    // Volatile, so that the verifier sees memory and not what was written to it.
    let answer = unsafe {
        let counting = &raw mut (*scratch).counting;
        let refused = &raw mut (*scratch).refused;
        let enforces = &raw mut (*scratch).enforced;
        core::ptr::write_volatile(enforces, u32::from(enforced));
        core::ptr::write_volatile(counting, ALL_LEVELS);
        core::ptr::write_volatile(refused, 0);
        macro_rules! ask {
            ($level:expr, $owner:expr, $bit:literal) => {
                if core::ptr::read_volatile(refused) == 0 && !$level.admits(demand, scratch, $owner)
                {
                    // Who is enforced and has room is not held back by an ancestor that is
                    // only observed: there it is not counted either, so that what is counted
                    // is what enforcement would admit.
                    if core::ptr::read_volatile(enforces) != 0 && !$level.enforces(now_ns) {
                        let levels = core::ptr::read_volatile(counting);
                        core::ptr::write_volatile(counting, levels & !$bit);
                    } else {
                        core::ptr::write_volatile(refused, 1);
                    }
                }
            };
        }
        ask!(l0, leaf, 1);
        ask!(l1, l0.parent(), 2);
        ask!(l2, l1.parent(), 4);
        ask!(l3, l2.parent(), 8);
        ask!(l4, l3.parent(), 16);
        if core::ptr::read_volatile(refused) == 0 && demand.count {
            macro_rules! count {
                ($level:expr, $bit:literal) => {
                    if core::ptr::read_volatile(counting) & $bit != 0 {
                        $level.count(demand);
                    }
                };
            }
            count!(l0, 1);
            count!(l1, 2);
            count!(l2, 4);
            count!(l3, 8);
            count!(l4, 16);
        }
        let (refused, counting) = (
            core::ptr::read_volatile(refused),
            core::ptr::read_volatile(counting),
        );
        let outcome = if refused != 0 {
            Outcome::Refused
        } else if counting != ALL_LEVELS {
            Outcome::WouldRefuse
        } else {
            Outcome::Admitted
        };
        Answer::new(outcome, (*scratch).full_owner, (*scratch).full_limit).counted(counting)
    };
    // SAFETY: held.
    unsafe { kernel::unlock(&raw mut (*cell).lock) };
    Some(answer)
}

/// The generations of the tenant at `leaf` and of everybody above, summed: what a receipt is held
/// against.
#[inline(always)]
pub fn generations(leaf: u32) -> Option<u32> {
    let mut sum = 0;
    let l0 = Level::load(leaf, &mut sum)?;
    let l1 = Level::load(l0.parent(), &mut sum)?;
    let l2 = Level::load(l1.parent(), &mut sum)?;
    let l3 = Level::load(l2.parent(), &mut sum)?;
    Level::load(l3.parent(), &mut sum)?;
    Some(sum)
}

/// What is given back: units of mail that were counted at a moment, in some levels of the tree.
#[derive(Clone, Copy)]
pub struct Return {
    /// What was counted.
    pub unit: Unit,
    /// How many.
    pub units: u32,
    /// When, the kernel's clock, ns.
    pub at_ns: u64,
    /// Where, as [`Answer::levels`] said.
    pub levels: u8,
    /// [`generations`] before it was counted.
    pub generation: u32,
}

/// Gives back what was counted in windows, for the tenant at `leaf` and everybody above; `false` if
/// any of their policies changed since, and nothing was. Paces are not given back: the turn was
/// taken.
#[inline(always)]
pub fn give_back(leaf: u32, back: &Return) -> bool {
    let what =
        u64::from(back.units) | u64::from(back.unit as u8) << 32 | u64::from(back.levels) << 40;
    let mut lock = NOBODY;
    let mut tries = 0;
    while tries < TRIES {
        let answer = Answer(limiter_return(
            leaf,
            lock,
            what,
            back.at_ns,
            back.generation,
        ));
        if answer.0 & 0xff != AGAIN {
            return answer.outcome() == Outcome::Admitted;
        }
        lock = answer.owner();
        tries += 1;
    }
    crate::report::contended();
    false
}

/// One try of [`give_back`], as [`limiter_decide`] is one of [`decide`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_return(leaf: u32, lock: u32, what: u64, at_ns: u64, generation: u32) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    let (demand, levels) = (
        Packed {
            units: what as u32,
            unit: (what >> 32) as u8,
            group: PortGroup::Smtp.bit(),
            count: true,
            now_ns: at_ns,
        },
        (what >> 40) as u32 & ALL_LEVELS,
    );
    return_all(leaf, lock, &demand, levels, generation)
        .unwrap_or(Answer::FAILED)
        .0
}

#[inline(always)]
fn return_all(
    leaf: u32,
    lock: u32,
    demand: &Packed,
    levels: u32,
    generation: u32,
) -> Option<Answer> {
    let mut before = 0;
    let l0 = Level::load(leaf, &mut before)?;
    let l1 = Level::load(l0.parent(), &mut before)?;
    let l2 = Level::load(l1.parent(), &mut before)?;
    let l3 = Level::load(l2.parent(), &mut before)?;
    let l4 = Level::load(l3.parent(), &mut before)?;
    // SAFETY: looked up.
    let own = unsafe { core::ptr::read_volatile(&raw const (*l0.tenant).lock) };
    let none = kernel::is_nobody(lock);
    let given = lock.wrapping_mul(1_u32.wrapping_sub(none));
    let cell = maps::LOCKS.get_ptr_mut(given.wrapping_add(own.wrapping_mul(none)))?;
    // SAFETY: all looked up, and no lock is held; volatile, for the agent changes it under this
    // lock.
    let forward = unsafe {
        kernel::lock(&raw mut (*cell).lock);
        core::ptr::read_volatile(&raw const (*cell).forward)
    };
    let mut now = l0.generation();
    now = now.wrapping_add(l1.generation());
    now = now.wrapping_add(l2.generation());
    now = now.wrapping_add(l3.generation());
    now = now.wrapping_add(l4.generation());
    let unchanged = forward == 0 && now == generation;
    if unchanged {
        macro_rules! give_back {
            ($($level:ident $bit:literal)*) => {$(
                if levels & $bit != 0 {
                    $level.give_back(demand);
                }
            )*};
        }
        give_back!(l0 1 l1 2 l2 4 l3 8 l4 16);
    }
    // SAFETY: held.
    unsafe { kernel::unlock(&raw mut (*cell).lock) };
    if forward != 0 {
        return Some(Answer::again(forward));
    }
    let outcome = if unchanged {
        Outcome::Admitted
    } else {
        Outcome::Refused
    };
    Some(Answer::new(outcome, leaf, 0))
}
