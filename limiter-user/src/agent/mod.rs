//! The running agent: loads the policy into the kernel, keeps it in step with the machine, reads
//! what the kernel reports, and answers on the control socket.
//!
//! When it stops, enforcement goes on: everything that refuses is pinned in the kernel.

mod bailiff;
mod boot;
mod bounces;
mod budgets;
mod cases;
mod chambers;
mod clerk;
mod clock;
mod counts;
mod court;
mod cutter;
mod desk;
mod error;
mod events;
mod eyes;
mod feed;
mod gatehouse;
mod heard;
mod herald;
mod hints;
mod judiciary;
mod kept;
mod lists;
mod live;
mod names;
mod networks;
mod queues;
mod run;
mod sent;
mod services;
mod spread;
mod stages;
mod state;
mod tally;
mod warden;

pub use error::AgentError;
pub use run::{RunOptions, run};
