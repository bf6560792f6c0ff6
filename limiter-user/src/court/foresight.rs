//! What a record will say once what was said is heard: what the kernel enforces until then.

use super::{door::Court, hearing::Submission, later::Owed};
use crate::offence::{Book, Moment, Reading, Record, Signal, Span, State, step};

/// What will be.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The tenant's record.
    pub record: Record,
    /// When, in the engine's time.
    pub now: Moment,
    /// The same moment on the wall clock.
    pub wall: Moment,
}

impl Court {
    /// What the record of `tenant` will say when `submission` is heard, after all that waits to be.
    #[must_use]
    pub fn foresee(&self, tenant: &str, submission: &Submission) -> Foreseen {
        let (mut state, book, reading) = self.shown.state();
        let said = state.clock.look(&reading, state.records.is_empty());
        let mut later = self.later.all();
        later.push(Owed {
            key: String::new(),
            signal: submission.signal.clone(),
            by: None,
            reason: None,
            said,
            wall: reading.wall,
        });
        let wall = reading.wall;
        let (mut state, now) = foresee(state, &book, &later, reading);
        let record = state.records.remove(tenant).unwrap_or_default();
        Foreseen { record, now, wall }
    }
}

/// What follows when all of it is heard now, and when that is.
pub(super) fn foresee(
    mut state: State,
    book: &Book,
    later: &[Owed],
    mut reading: Reading,
) -> (State, Moment) {
    let now = state.clock.look(&reading, state.records.is_empty());
    for owed in later {
        step(&mut state, book, &owed.submission(now).signal, &reading);
        // A word counts for what began before it, from the next moment on.
        reading.up = Span(reading.up.0.saturating_add(1));
        reading.wall = reading.wall.plus(Span(1));
    }
    step(&mut state, book, &Signal::Tick, &reading);
    let now = state.clock.now();
    (state, now)
}
