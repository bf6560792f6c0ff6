//! The control socket and the commands, over real sockets and with the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod cli;
mod events;
mod hostile;
mod node;
mod round_trip;
mod socket;
