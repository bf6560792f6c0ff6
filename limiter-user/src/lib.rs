//! The limiter agent as a library: policies in, violations out.

pub mod agent;
pub mod cli;
pub mod complaint;
pub mod control;
pub mod court;
pub mod inspect;
pub mod kernel;
pub mod ledger;
pub mod mta;
pub mod notice;
pub mod offence;
pub mod policy;
pub mod report;
pub mod service;
pub mod submission;
pub mod system;
