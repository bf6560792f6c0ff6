//! Reports of abuse: from the bytes of a mail to the tenant it is about.
//!
//! ```text
//! Maildir, FILE ──> read ──> parse ──> Report ──> attribute (+ Facts) ──> Tenant | Ambiguous | Unknown
//!   (bounded)              or Refusal: why, and what a person does
//! ```
//!
//! Everything here is written by strangers, and some of them are the tenants complained about, or
//! their rivals. [`parse`] believes nothing: it says what the report claims. [`attribute`](attribute()) holds
//! the claims against what this node itself recorded, and names a tenant only where that proves it.

pub mod attribute;
mod convert;
mod limits;
pub mod log;
pub mod maildir;
mod parse;
mod read;
mod refusal;
mod report;

pub use attribute::{Attribution, Vouched, attribute};
pub use convert::NotCounted;
pub use limits::Limits;
pub use parse::{Trust, parse};
pub use read::{read_bounded, read_file};
pub use refusal::Refusal;
pub use report::{AuthFailure, Feedback, Format, Hop, Original, Report, Reporter, SourceFrom};

#[cfg(test)]
mod tests;
