//! How many calls of the kernel a thread made for maps and commands: what a change costs does not
//! depend on how fast the machine is.

use std::cell::Cell;

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// How many the calling thread made so far. A listing of a map that the kernel cannot give at once
/// counts as one.
#[must_use]
pub fn made() -> u64 {
    MADE.get()
}

/// Counts one.
pub(super) fn count() {
    MADE.set(MADE.get().wrapping_add(1));
}
