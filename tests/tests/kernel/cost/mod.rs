//! What unrelated traffic pays, as ratios within one run, and printed as the tables of the README:
//!
//! ```sh
//! cargo xtask build
//! cargo build -p limiter-tests --bins
//! LIMITER_COST_ROUNDS=101 cargo test -p limiter-tests --test kernel -- \
//!     cost:: --nocapture --test-threads=1
//! ```
//!
//! Three minutes, on a machine that does nothing else; without the variable half a minute. What is
//! asserted holds on a busy one too.
//!
//! - [`runs`]: the programs alone, run by the kernel on one packet again and again.
//! - [`unrelated`]: real packets over a pair of interfaces, with and without the programs.
//!
//! The bench measures with [`arms`], [`figures`] and [`traffic`], too.

mod arms;
pub mod figures;
mod runs;
mod traffic;
mod unrelated;
