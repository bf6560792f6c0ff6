//! Mail that waits in the queue of a real Postfix or Exim: held, and released. Run as root.

#![allow(clippy::panic, reason = "tests: a wait that was in vain says so")]
#![expect(
    clippy::expect_used,
    reason = "tests: also what they share may fail with a trace"
)]

mod asked;
mod exim;
mod many;
mod postfix;
mod thread;
mod town;
