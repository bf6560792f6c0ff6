//! Waiting for something to become true, and never longer than it takes.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::machine;

/// Asks `question` until it answers with a value, and fails the test after `patience` (more where
/// the machine is slow), saying `what` did not come.
pub fn until<T>(what: &str, patience: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let patience = machine::patience(patience);
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Like [`until`], for a yes or no.
pub fn until_true(what: &str, patience: Duration, mut question: impl FnMut() -> bool) {
    until(what, patience, || question().then_some(()));
}

/// Sees to it that `fact` stays true for `time`.
pub fn stays_true(what: &str, time: Duration, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(fact(), "no longer true after {:?}: {what}", start.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
}

/// How long something may take that ought to take no time at all, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);
