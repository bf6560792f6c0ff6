//! The limiter agent as a library: policies in, violations out.

pub mod kernel;
pub mod policy;
pub mod system;
