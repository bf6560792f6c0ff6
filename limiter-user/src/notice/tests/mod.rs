//! The courier with real receivers on the loopback.

mod courier;
mod memory;
mod plans;
mod smtp_server;
