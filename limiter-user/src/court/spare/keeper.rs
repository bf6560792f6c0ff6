//! Keeps the copy in step with what is in force.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{FILE, InForce, Kept, given};
use crate::{
    offence::{Clock, Moment, Reading, Record, Span},
    report::problem::Problem,
    system::sealed::SealedError,
};

/// How old the clock in the copy may be while a sanction in it has an end: what it does not know
/// of, a sanction would last longer.
const KEEP_CLOCK: Span = Span::seconds(60);

/// The copy and what it should say.
#[derive(Debug)]
pub struct Spare {
    state_dir: PathBuf,
    /// By tenant; nobody has an empty list.
    sanctions: BTreeMap<String, Vec<Kept>>,
    /// Whether the file says something else.
    stale: bool,
    /// The engine's time in the file.
    kept_at: Moment,
    /// Why it cannot be written.
    failing: Option<Problem>,
}

impl Spare {
    /// Reads the copy in `state_dir`, if there is one. What cannot be used is moved aside, and told
    /// as a problem.
    pub fn open(state_dir: &Path) -> (Self, Option<InForce>, Option<Problem>) {
        let (found, problem) = match FILE.load::<InForce>(state_dir) {
            Ok(found) => (found, None),
            Err(why) => (None, Some(unusable(state_dir, &why))),
        };
        let mut sanctions: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
        for kept in found.iter().flat_map(|found| &found.sanctions) {
            let own = sanctions.entry(kept.tenant.clone()).or_default();
            own.push(kept.clone());
        }
        let spare = Self {
            state_dir: state_dir.to_owned(),
            sanctions,
            stale: found.is_none(),
            kept_at: found.as_ref().map_or(Moment(0), |it| it.clock.now()),
            failing: None,
        };
        (spare, found, problem)
    }

    /// Takes over what the record of `tenant` says now.
    pub fn note(&mut self, tenant: &str, record: Option<&Record>, clock: &Clock, now: &Reading) {
        let wall = |moment| clock.wall(moment, now);
        let own = record.map(|record| given::of_record(tenant, record, wall));
        self.set(tenant, own.unwrap_or_default());
    }

    /// Takes over what all records say now.
    pub fn note_all(&mut self, records: &BTreeMap<String, Record>, clock: &Clock, now: &Reading) {
        let gone: Vec<String> = self
            .sanctions
            .keys()
            .filter(|tenant| !records.contains_key(*tenant))
            .cloned()
            .collect();
        for tenant in gone {
            self.set(&tenant, Vec::new());
        }
        for (tenant, record) in records {
            self.note(tenant, Some(record), clock, now);
        }
    }

    /// What `tenant` suffers now.
    pub fn set(&mut self, tenant: &str, own: Vec<Kept>) {
        let known = self.sanctions.get(tenant).map_or(&[][..], Vec::as_slice);
        let same = known.len() == own.len()
            && known
                .iter()
                .zip(&own)
                .all(|(known, own)| known.is_same(own));
        if same {
            return;
        }
        self.stale = true;
        if own.is_empty() {
            self.sanctions.remove(tenant);
        } else {
            self.sanctions.insert(tenant.to_owned(), own);
        }
    }

    /// Adds to what `tenant` suffers, in place of what it suffered of the same kind.
    pub fn add(&mut self, kept: Kept) {
        let tenant = kept.tenant.clone();
        let mut own = self.sanctions.get(&tenant).cloned().unwrap_or_default();
        own.retain(|other| other.sanction != kept.sanction);
        own.push(kept);
        self.set(&tenant, own);
    }

    /// All sanctions that it should say.
    pub fn sanctions(&self) -> impl Iterator<Item = &Kept> {
        self.sanctions.values().flatten()
    }

    /// Writes the copy if it says something else, or if its clock is old; `clock` is the engine's
    /// as the record book has it.
    ///
    /// # Errors
    ///
    /// It cannot be written; it is tried again with the next call.
    pub fn keep(&mut self, clock: &Clock) -> Result<(), Problem> {
        let ends = self.sanctions().any(|kept| kept.until.is_some());
        let old = ends && clock.now().since(self.kept_at) >= KEEP_CLOCK;
        if !self.stale && !old {
            return Ok(());
        }
        let all = InForce {
            clock: clock.clone(),
            sanctions: self.sanctions().cloned().collect(),
        };
        match FILE.keep(&self.state_dir, &all) {
            Ok(_) => {
                self.stale = false;
                self.kept_at = clock.now();
                self.failing = None;
                Ok(())
            }
            Err(error) => {
                let problem = unwritable(&self.state_dir, &error);
                self.failing = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Why it cannot be written, if it could not the last time.
    #[must_use]
    pub const fn failing(&self) -> Option<&Problem> {
        self.failing.as_ref()
    }
}

fn unwritable(state_dir: &Path, error: &io::Error) -> Problem {
    Problem::error(
        format!(
            "the copy of the sanctions in force cannot be written to {}: {error}; if the record \
             book were lost with the next reboot, what changed since would be lost too",
            FILE.path(state_dir).display()
        ),
        "make room or repair the directory; it is tried again every second",
    )
}

fn unusable(state_dir: &Path, why: &SealedError) -> Problem {
    let path = FILE.path(state_dir);
    let at = FILE.set_aside(state_dir).unwrap_or(path);
    Problem::warning(
        format!(
            "the copy of the sanctions in force cannot be used, it is made anew: {}: {why}",
            at.display()
        ),
        "look at the disk; the next start of the agent forgets this",
    )
}
