//! The product against a real kernel and real mail programs. Run as root: `cargo xtask test e2e`.
//!
//! Every attempt that a test makes is first put to `limiter explain`, which has to foretell what
//! then happens; and what happens is read off the server's count, not only the sender's word.

#![allow(clippy::panic, reason = "tests: a wait that was in vain says so")]
#![expect(
    clippy::expect_used,
    reason = "tests: also what they share may fail with a trace"
)]

mod blocked;
mod bounces;
mod bounds;
mod cases;
mod charged;
mod clock;
mod commands;
mod complaints;
mod confined;
mod coverage;
mod crashes;
mod defence;
mod destinations;
mod evasion;
mod events;
mod faults;
mod following;
#[path = "../kernel/foreign.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests of the kernel alone"
)]
mod foreign;
mod ground;
mod hotplug;
mod limits;
mod lost;
mod mail;
#[expect(clippy::panic, reason = "helpers of tests fail the test")]
mod mailbox;
mod mailcount;
mod marks;
mod matrix;
mod observe;
mod post;
mod queue;
mod reboot;
mod recordbook;
mod reload;
mod sanctions;
mod sockets;
mod spread;
mod stage;
mod submission;
mod survival;
mod suspension;
mod trees;
mod tunnels;
mod unrelated;
mod verdicts;
mod walks;
mod who;
