//! The limiter agent as a library: policies in, violations out.

pub mod policy;
pub mod system;
