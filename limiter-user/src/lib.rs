//! The limiter agent as a library: policies in, violations out.

pub mod agent;
pub mod cli;
pub mod control;
pub mod inspect;
pub mod kernel;
pub mod mta;
pub mod offence;
pub mod policy;
pub mod report;
pub mod system;
