//! The kernel side seen from the agent: loading, attaching, pinning, and keeping the maps what the
//! compiled policy says. The only place that names aya.

pub mod alloc;
pub mod attach;
mod batch;
pub mod btf;
pub mod calls;
pub mod charge;
pub mod clock;
mod command;
mod debug;
mod dense;
pub mod detach;
pub mod doctor;
mod error;
pub mod identities;
pub mod interfaces;
pub mod limits;
mod load;
pub mod maps;
pub mod object;
mod own;
pub mod pins;
mod prefixes;
pub mod read;
pub mod reports;
pub mod snapshot;
mod sync;
mod sys;
mod typed;
pub mod verifier;

pub use attach::{LayerState, Outcome, Wanted};
pub use detach::{Detached, detach};
pub use error::KernelError;
pub use interfaces::sync_interfaces;
pub use load::{Kernel, Needs};
pub use sync::{
    Changes, Ended, InForce, LONGEST_SANCTION, LayerNeeds, Mirror, Reinstated, SHORTEST_SANCTION,
    SanctionError, Sanctioned,
};
