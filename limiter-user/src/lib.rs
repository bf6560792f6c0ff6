//! The limiter agent as a library: policies in, violations out.

pub mod control;
pub mod policy;
pub mod report;
