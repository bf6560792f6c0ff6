//! The courier with real receivers on the loopback.

mod courier;
mod memory;
mod plans;
pub(super) mod smtp_server;
