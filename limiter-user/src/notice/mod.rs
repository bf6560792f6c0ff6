//! Telling people: by mail through the local MTA, by a webhook, by a program.
//!
//! A notice of the engine becomes [`Facts`]; [`plan`] says which deliveries they become; whoever keeps
//! the [`Outbox`] writes those down in the same transaction as what they tell of; the [`Courier`] takes
//! them from there and delivers each at least once. Nothing here is ever waited for by enforcement.

pub mod evidence;
pub mod facts;

mod digest;
mod harmless;
mod template;
mod time;
mod words;

pub use facts::{Context, EventKind, Facts};
pub use template::{Kind, Rendered, TemplateFault, Templates, check as check_templates};
