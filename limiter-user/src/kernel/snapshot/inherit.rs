//! Putting the counts of an earlier boot into new maps.

use std::{collections::HashMap, time::Duration};

use limiter_common::{
    command::{SlotChange, change},
    limit::{BLOCK_SLOTS, Kind, LimitDef, LimitSet},
    window::{Head, Slot},
};

use super::{Counts, Snapshot, is_long};
use crate::{
    kernel::limits::{Layout, defs, match_up},
    offence::Reading,
    policy::image::ImageLimit,
};

/// How wrong a wall clock may be that is known to be right.
const WALL_ERROR: Duration = Duration::from_secs(1);

/// What tenants begin with that come into new maps.
#[derive(Debug)]
pub struct Inheritance {
    /// The moment of the programs' clock at which it is as old as is said here.
    at_ns: u64,
    /// How long ago the snapshot was taken, at least, ns.
    elapsed_ns: u64,
    /// The limits of each plan, each with its place as slot. Those that this version does not know
    /// are left out.
    plans: Vec<LimitSet>,
    tenants: HashMap<String, (usize, Vec<Counts>)>,
}

impl Inheritance {
    /// What a snapshot leaves to maps that are made now. `now_ns` is the programs' clock, read after
    /// the clocks in `now`.
    #[must_use]
    pub fn new(snapshot: Snapshot, now: &Reading, now_ns: u64) -> Self {
        let elapsed = elapsed(&snapshot.taken, now);
        let plans = snapshot.plans.iter().map(|limits| {
            let mut set = LimitSet::default();
            for (slot, limit) in (0_u8..).zip(limits.iter().take(BLOCK_SLOTS)) {
                let place = usize::try_from(set.count).unwrap_or(BLOCK_SLOTS);
                if let (Some(def), Some(place)) = (limit.def(slot), set.defs.get_mut(place)) {
                    *place = def;
                    set.count += 1;
                }
            }
            set
        });
        Self {
            at_ns: now_ns,
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            plans: plans.collect(),
            tenants: snapshot
                .tenants
                .into_iter()
                .map(|tenant| (tenant.0, (tenant.1, tenant.2)))
                .collect(),
        }
    }

    /// How many tenants have something to begin with.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether nobody has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// How much of the time since the snapshot is known to have passed.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns)
    }

    /// What the slots of a new tenant begin with, whose limits were laid out over none. A limit
    /// that changed goes on as it would with a reload; short ones begin empty.
    pub(in crate::kernel) fn slots(
        &self,
        tenant: &str,
        limits: &[ImageLimit],
        layout: &Layout,
    ) -> Option<Vec<SlotChange>> {
        let (plan, counts) = self.tenants.get(tenant)?;
        let old = defs(self.plans.get(*plan)?);
        let mut slots = vec![SlotChange::CLEARED; layout.slots.len()];
        for (new, source) in defs(&layout.set).iter().zip(match_up(limits, old)) {
            let kept = source.and_then(|at| counts.get(usize::from(old[at].slot)));
            let place = slots.get_mut(usize::from(new.slot));
            if let (true, Some(counts), Some(place)) = (is_long(new), kept, place) {
                place.change = change::CLEAR;
                place.state = self.state(counts, new);
            }
        }
        Some(slots)
    }

    /// The state of a limit that has counted this.
    fn state(&self, counts: &Counts, def: &LimitDef) -> Slot {
        const SECOND: u64 = 1_000_000_000;
        match counts {
            Counts::Window(ages) if def.kind == Kind::Window as u8 => {
                let ages: Vec<(u64, u32)> = ages
                    .iter()
                    .map(|(age_s, units)| {
                        let age_ns = age_s.saturating_mul(SECOND);
                        (age_ns.saturating_add(self.elapsed_ns), *units)
                    })
                    .collect();
                Slot::from_ages(&ages, self.at_ns, def.span_ns)
            }
            Counts::Pace(ahead_s) if def.kind == Kind::Pace as u8 => {
                let most_ns = def.span_ns.saturating_mul(u64::from(def.max));
                let ahead_ns = ahead_s.saturating_mul(SECOND).min(most_ns);
                let left_ns = ahead_ns.saturating_sub(self.elapsed_ns);
                let head = Head {
                    epoch: self.at_ns.saturating_add(left_ns),
                    ..Head::EMPTY
                };
                Slot {
                    head,
                    ..Slot::EMPTY
                }
            }
            _ => Slot::EMPTY,
        }
    }
}

/// How much time passed between two readings, at least.
#[must_use]
pub fn elapsed(then: &Reading, now: &Reading) -> Duration {
    if now.boot == then.boot {
        // Both were rounded down to a millisecond.
        let passed = now.up.0.saturating_sub(then.up.0);
        Duration::from_millis(passed.saturating_sub(1))
    } else if then.trusted && now.trusted {
        Duration::from_millis(now.wall.since(then.wall).0).saturating_sub(WALL_ERROR)
    } else {
        Duration::ZERO
    }
}
