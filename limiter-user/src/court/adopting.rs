//! Taking over what is in force and no record knows of: from the kernel, and from the copy of what
//! was in force when the record book was lost.

use std::{collections::BTreeMap, thread, time::Duration};

use log::{error, warn};

use super::{
    bailiff::{Found, Wanted},
    bench::Bench,
    foresight::foresee,
    hearing::Submission,
    spare::{InForce, Kept},
};
use crate::{
    offence::{Clock, Moment, Sanction, Signal, Span, Standing},
    report::problem::Problem,
};

/// How far two ends of the same sanction may lie apart: both were rounded up to whole seconds, of clocks
/// that drift.
pub const SAME_END: Span = Span::seconds(2);

impl Bench {
    /// Takes over what the kernel enforces and no record knows of; `last` is when the last page of
    /// the book was written.
    pub(super) fn adopt(&mut self, last: Moment) {
        let found = match self.bailiff.in_force() {
            Ok(found) => found,
            Err(error) => {
                self.resisting = Some(error.to_string());
                return;
            }
        };
        let strange: Vec<Submission> = found
            .into_iter()
            .filter(|found| self.is_strange(found, last))
            .map(|found| {
                warn!(
                    "{:?} is under {} and no record says why: taken over as an operator's word",
                    found.tenant,
                    found.sanction.as_str()
                );
                Submission::of(Signal::Suspend {
                    tenant: found.tenant,
                    sanction: Sanction::of_kernel(found.sanction),
                    length: found.left.map(Span::from),
                    reason: "found in force in the kernel, with no record of it".to_owned(),
                    by: "limiter".to_owned(),
                })
            })
            .collect();
        if !strange.is_empty() {
            // What stands in the way, the bench notes.
            let _ = self.hear(strange, &[]);
        }
    }

    /// Takes over what the copy says, if the record book is new or older than the copy: `recorded`
    /// is the clock that stands in it.
    pub(super) fn restore(&mut self, copy: &InForce, recorded: Option<&Clock>) {
        // The copy is written after the book: what follows from the book is never older.
        if recorded.is_some_and(|recorded| recorded.now() >= copy.clock.now()) {
            return;
        }
        let reading = self.clocks.read();
        let (_, left) = copy.at(&reading);
        let lost: Vec<(Kept, Option<Span>)> = left
            .into_iter()
            .filter(|(kept, left)| {
                !self.later.is_of(&kept.tenant)
                    && !self.is_covered(&kept.tenant, kept.sanction, *left)
            })
            .collect();
        if lost.is_empty() && recorded.is_some() {
            return;
        }
        let problem = lost_book(recorded.is_some(), &lost);
        error!("{}; {}", problem.problem, problem.remedy);
        self.opening.push(problem);
        if lost.is_empty() {
            return;
        }
        let submissions: Vec<Submission> = lost
            .iter()
            .map(|(kept, left)| {
                warn!("taken over from the copy: {}", told(kept));
                Submission::of(Signal::Suspend {
                    tenant: kept.tenant.clone(),
                    sanction: kept.sanction,
                    length: *left,
                    reason: reason(kept),
                    by: "limiter".to_owned(),
                })
            })
            .collect();
        if self.hear(submissions.clone(), &[]).is_err() {
            // It cannot be recorded now; what was in force is so all the same.
            for (tenant, wanted) in wanted(&lost) {
                if let Err(error) = self.bailiff.enforce(&tenant, &wanted) {
                    self.resisting = Some(format!("{tenant}: {error}"));
                }
            }
            let (now, reading) = self.now();
            for submission in submissions {
                self.later.say(submission, now, reading.wall);
            }
        }
    }

    /// Hears what operators said while there was no court: it holds in the kernel already. What
    /// cannot be recorded yet waits.
    pub(super) fn hear_what_holds(&mut self) {
        if !self.later.is_empty() && self.hear_later().is_ok() {
            // A word counts for what began before it, from the next moment on.
            thread::sleep(Duration::from_millis(2));
            let _ = self.hear(vec![Submission::of(Signal::Tick)], &[]);
        }
    }

    /// Whether a sanction that the kernel enforces is an operator's word that could not be recorded,
    /// and not one that was lifted by the last page of the book: whoever wrote that was killed before
    /// the kernel heard of it. What earlier pages lifted was carried out before the next was begun.
    fn is_strange(&self, found: &Found, last: Moment) -> bool {
        if self.later.is_of(&found.tenant) {
            return false;
        }
        let Some(record) = self.state.records.get(&found.tenant) else {
            return true;
        };
        let same = |sanction: &Sanction| sanction.in_kernel() == Some(found.sanction);
        if record.effective.keys().any(same) {
            return false;
        }
        let last = last.millis();
        let lifted = self.ledger.sanctions(&found.tenant, Moment(0));
        // What cannot be read may be known.
        lifted.is_ok_and(|mut rows| {
            rows.retain(|row| row.lifted.is_none_or(|lifted| lifted >= last));
            let known = Sanction::WORDS.iter().filter(|(_, which)| same(which));
            !known
                .into_iter()
                .any(|(word, _)| rows.iter().any(|row| row.sanction == *word))
        })
    }

    /// Whether the record of `tenant` has it suffer at least this.
    fn is_covered(&mut self, tenant: &str, sanction: Sanction, left: Option<Span>) -> bool {
        let (now, _) = self.now();
        let Some(record) = self.state.records.get(tenant) else {
            return false;
        };
        let same = record.effective.iter();
        let mut same = same.filter(|(other, _)| other.in_kernel() == sanction.in_kernel());
        same.any(|(_, until)| match (until, left) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(until), Some(left)) => until.plus(SAME_END).since(now) >= left,
        })
    }

    /// The copy says what all records say.
    pub(super) fn renew_spare(&mut self) {
        let reading = self.clocks.read();
        let (records, clock) = (&self.state.records, &self.state.clock);
        self.spare.note_all(records, clock, &reading);
        self.spare_what_holds();
    }

    /// The copy says what holds and could not be recorded yet, too.
    pub(super) fn spare_what_holds(&mut self) {
        let later = self.later.all();
        if !later.is_empty() {
            let reading = self.clocks.read();
            let (state, _) = foresee(self.state.clone(), self.book(), &later, reading.clone());
            for tenant in later.iter().filter_map(|owed| owed.signal.tenant()) {
                let record = state.records.get(tenant);
                self.spare.note(tenant, record, &state.clock, &reading);
            }
        }
        self.keep_spare();
    }

    /// Writes the copy, if it says something else.
    pub(super) fn keep_spare(&mut self) {
        let failed_before = self.spare.failing().is_some();
        let clock = if self.later.is_empty() {
            self.state.clock.clone()
        } else {
            // The copy is ahead of the book.
            let (mut clock, reading) = (self.state.clock.clone(), self.clocks.read());
            clock.look(&reading, self.state.records.is_empty());
            clock
        };
        if let Err(problem) = self.spare.keep(&clock)
            && !failed_before
        {
            error!("{}; {}", problem.problem, problem.remedy);
        }
    }
}

/// What the kernel is to enforce for these sanctions, by tenant.
#[must_use]
pub fn wanted(sanctions: &[(Kept, Option<Span>)]) -> BTreeMap<String, Wanted> {
    let mut all: BTreeMap<String, Wanted> = BTreeMap::new();
    for (kept, left) in sanctions {
        let Some(in_kernel) = kept.sanction.in_kernel() else {
            continue;
        };
        let wanted = all.entry(kept.tenant.clone()).or_insert_with(|| Wanted {
            kernel: BTreeMap::new(),
            standing: Standing::Suspended,
        });
        let left = left.map(Duration::from);
        let entry = wanted.kernel.entry(in_kernel).or_insert(left);
        *entry = entry.zip(left).map(|(one, other)| one.max(other));
    }
    all
}

/// A sanction of the copy's, in words.
#[must_use]
pub fn told(kept: &Kept) -> String {
    let end = kept.ends.map_or_else(
        || "until it is lifted".to_owned(),
        |ends| format!("until {ends:.0}"),
    );
    let (tenant, sanction) = (&kept.tenant, kept.sanction.as_str());
    format!("{tenant:?} under {sanction} {end}: {}", kept.reason)
}

fn reason(kept: &Kept) -> String {
    const BEFORE: &str = "taken over when the record book was lost; before: ";
    // Where it is lost again, the first reason is what counts.
    match kept.reason.strip_prefix(BEFORE) {
        Some(_) => kept.reason.clone(),
        None => format!("{BEFORE}{}", kept.reason),
    }
}

fn lost_book(old: bool, lost: &[(Kept, Option<Span>)]) -> Problem {
    let what = if old {
        "the record book is older than the copy of the sanctions in force"
    } else {
        "the record book was lost (there is a new, empty one): cases, evidence and earlier offences \
         are gone"
    };
    if lost.is_empty() {
        return Problem::warning(
            format!("{what}; nothing was in force"),
            "stop the agent, put the last backup of ledger.db back and start it, if there is one. \
             The next start of the agent forgets this",
        );
    }
    let some: Vec<String> = lost.iter().take(5).map(|(kept, _)| told(kept)).collect();
    let more = match lost.len().saturating_sub(some.len()) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Problem::error(
        format!(
            "{what}; what was in force is so again by the copy, as an operator's word ({} in all): \
             {}{more}",
            lost.len(),
            some.join(", ")
        ),
        "stop the agent, put the last backup of ledger.db back and start it; without one, look \
         through `limiter status` and `limiter reinstate` whoever is to be free: nothing but time \
         or your word lifts these. The next start of the agent forgets this",
    )
}
