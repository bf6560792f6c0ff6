//! Stands in for the court where the record book cannot be opened: what was in force by its copy is
//! so in the kernel, and the copy follows what operators say meanwhile, so that what they lift does
//! not come back with the next start.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use log::{error, warn};

use super::{
    bailiff::{KernelBailiff, Report},
    live::Cutter,
    state::{Shared, Trouble},
};
use crate::{
    court::{
        Bailiff, BailiffError, Found, SAME_END, owed,
        spare::{Kept, Spare, WITHOUT_BOOK},
        told, wanted,
    },
    offence::{Clock, Moment, Reading, Sanction, Span},
    report::problem::Problem,
    system::clock::MachineClock,
};

/// Keeps in force what the copy says.
pub struct Warden {
    shared: Shared,
    clock: Arc<MachineClock>,
    /// What came of it at first.
    said: String,
    watch: Mutex<Watch>,
}

struct Watch {
    bailiff: KernelBailiff,
    spare: Spare,
    clock: Clock,
    /// Of whoever is no tenant now, or whom the kernel refuses.
    waiting: Vec<Kept>,
}

impl Warden {
    /// Puts in force what the copy in the state directory says.
    pub fn open(shared: &Shared, clock: &Arc<MachineClock>, cutter: &Arc<dyn Cutter>) -> Self {
        let state_dir = shared.lock().state_dir();
        let (spare, found, broken) = Spare::open(&state_dir);
        let reading = clock.reading();
        let (mut engine, blank) = match &found {
            Some(found) => (found.clock.clone(), false),
            None => (Clock::default(), true),
        };
        let now = engine.look(&reading, blank);
        let mut left: Vec<Kept> = spare.sanctions().cloned().collect();
        // What operators said and neither the book nor the copy could take.
        for word in owed(&state_dir) {
            word.carry_into(&mut left);
        }
        let mut warden = Self {
            said: String::new(),
            shared: shared.clone(),
            clock: Arc::clone(clock),
            watch: Mutex::new(Watch {
                bailiff: KernelBailiff::new(shared.clone(), Arc::clone(cutter), Report::default()),
                spare,
                clock: engine,
                waiting: left
                    .into_iter()
                    .filter(|it| it.left(now).is_some())
                    .collect(),
            }),
        };
        let count = {
            let mut watch = warden.watch();
            for kept in &watch.waiting {
                warn!("in force by the copy: {}", told(kept));
            }
            let count = watch.waiting.len();
            watch.enforce(now);
            count
        };
        warden.follow();
        warden.said = match (count, found, broken) {
            (_, _, Some(broken)) => broken.problem,
            (_, None, None) => "there is no copy of what was in force".to_owned(),
            (0, Some(_), None) => "by its copy nothing was in force".to_owned(),
            (count, Some(_), None) => {
                format!("what was in force is so again by its copy ({count} in all)")
            }
        };
        warden
    }

    /// What is to be told of how it began.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Tries again what could not be enforced, and has the copy say what the kernel enforces: now
    /// and then, and after an operator's word, before the answer.
    pub fn follow(&self) {
        let reading = self.clock.reading();
        let mut watch = self.watch();
        let now = watch.clock.look(&reading, false);
        watch.enforce(now);
        let kept = match watch.bailiff.in_force() {
            Ok(found) => {
                watch.remember_absent(&found, now, &self.shared);
                watch.kept(found, now, &reading)
            }
            Err(error) => {
                error!("{error}");
                return;
            }
        };
        let outcome = watch.keep(kept);
        drop(watch);
        let mut state = self.shared.lock();
        match outcome {
            Ok(()) => state.mended(Trouble::Spare),
            Err(problem) => state.trouble(Trouble::Spare, problem),
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Puts in force what waits for it, beside what is.
    fn enforce(&mut self, now: Moment) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let left: Vec<(Kept, Option<Span>)> = waiting
            .into_iter()
            .filter_map(|kept| {
                let left = kept.left(now)?;
                Some((kept, left))
            })
            .collect();
        let mut wanted = wanted(&left);
        let found = self.bailiff.in_force().unwrap_or_default();
        for Found {
            tenant,
            sanction,
            left,
        } in found
        {
            if let Some(wanted) = wanted.get_mut(&tenant) {
                let entry = wanted.kernel.entry(sanction).or_insert(left);
                *entry = entry.zip(left).map(|(one, other)| one.max(other));
            }
        }
        for (tenant, wanted) in wanted {
            let Err(error) = self.bailiff.enforce(&tenant, &wanted) else {
                continue;
            };
            if !matches!(error, BailiffError::Absent(_)) {
                error!("what the copy says of {tenant:?} cannot be enforced: {error}");
            }
            let own = left.iter().filter(|(kept, _)| kept.tenant == tenant);
            self.waiting.extend(own.map(|(kept, _)| kept.clone()));
        }
    }

    /// Whoever is no tenant any more takes his sanctions along, and has them when he is back.
    fn remember_absent(&mut self, found: &[Found], now: Moment, shared: &Shared) {
        let state = shared.lock();
        let gone: Vec<Kept> = self
            .spare
            .sanctions()
            .filter(|kept| kept.left(now).is_some() && !self.waiting.contains(kept))
            .filter(|kept| !found.iter().any(|found| found.tenant == kept.tenant))
            .filter(|kept| state.own_sanctions(&kept.tenant).is_err())
            .cloned()
            .collect();
        self.waiting.extend(gone);
    }

    /// What the copy is to say: what the kernel enforces, and what waits.
    fn kept(&self, found: Vec<Found>, now: Moment, reading: &Reading) -> Vec<Kept> {
        let mut all: Vec<Kept> = found
            .into_iter()
            .map(|found| {
                let until = found.left.map(|left| now.plus(Span::from(left)));
                let known = self.spare.sanctions().find(|known| {
                    known.tenant == found.tenant
                        && known.sanction.in_kernel() == Some(found.sanction)
                        && is_same(known.until, until)
                });
                known.cloned().unwrap_or_else(|| Kept {
                    sanction: Sanction::of_kernel(found.sanction),
                    until,
                    ends: until.map(|until| self.clock.wall(until, reading).timestamp()),
                    cases: Vec::new(),
                    reason: WITHOUT_BOOK.to_owned(),
                    tenant: found.tenant,
                })
            })
            .collect();
        all.extend(self.waiting.iter().cloned());
        all
    }

    /// Has the copy say this.
    fn keep(&mut self, kept: Vec<Kept>) -> Result<(), Problem> {
        let mut tenants: BTreeMap<String, Vec<Kept>> = self
            .spare
            .sanctions()
            .map(|kept| (kept.tenant.clone(), Vec::new()))
            .collect();
        for kept in kept {
            tenants.entry(kept.tenant.clone()).or_default().push(kept);
        }
        for (tenant, mut own) in tenants {
            own.sort_by_key(|kept| kept.sanction);
            self.spare.set(&tenant, own);
        }
        self.spare.keep(&self.clock)
    }
}

fn is_same(one: Option<Moment>, other: Option<Moment>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.since(other).max(other.since(one)) <= SAME_END,
        _ => false,
    }
}
