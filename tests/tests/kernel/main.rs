//! The kernel programs and the agent's side of them, on the real kernel: no mocks, no agent
//! process in between. Needs root and the kernel object (`cargo xtask build`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod adoption;
mod arithmetic;
mod attaching;
mod bulk;
mod changes;
mod charging;
mod cost;
mod counting;
mod errors;
mod foreign;
mod frames;
mod gate;
mod guard;
mod images;
mod lab;
mod networks;
mod sanctions;
mod senders;
mod snapshots;
mod trees;
mod verifier;
