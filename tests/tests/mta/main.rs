//! Mail that waits in the queue of a real Postfix or Exim: held, and released; and what mail programs
//! ask before they take any. Run as root.

#![allow(clippy::panic, reason = "tests: a wait that was in vain says so")]
#![expect(
    clippy::expect_used,
    reason = "tests: also what they share may fail with a trace"
)]

mod asked;
mod dovecot;
mod exim;
mod journal;
mod many;
mod milter;
mod postfix;
mod thread;
mod town;
