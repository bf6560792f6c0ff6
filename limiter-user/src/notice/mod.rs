//! Telling people: by mail through the local MTA, by a webhook, by a program.
//!
//! A notice of the engine becomes [`Facts`]; [`plan`] says which deliveries they become; whoever keeps
//! the [`Outbox`] writes those down in the same transaction as what they tell of; the [`Courier`] takes
//! them from there and delivers each at least once. Nothing here is ever waited for by enforcement.

pub mod evidence;
pub mod facts;

mod backoff;
mod channel;
mod check;
mod courier;
mod digest;
mod exec;
mod harmless;
mod mail;
mod message;
mod outbox;
mod plan;
mod quota;
mod template;
mod time;
mod webhook;
mod words;

pub use backoff::{Failure, LONGEST_WAIT};
pub use channel::{Channel, Lane, Planned};
pub use check::check;
pub use courier::{Clock, Courier, CourierHealth, CourierSettings, HealthTeller, LaneHealth};
pub use facts::{Context, EventKind, Facts};
pub use message::NOTICE_HEADER;
pub use outbox::{Backlog, Delivery, Outbox, OutboxError, Stuck};
pub use plan::{Contacts, plan};
pub use template::{Kind, Rendered, TemplateFault, Templates};

#[cfg(test)]
mod tests;
