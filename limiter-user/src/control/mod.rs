//! How the commands and the agent talk: HTTP/1.1 and JSON over a UNIX socket.

pub mod audit;
pub mod client;
mod follow;
mod gate;
pub mod node;
pub mod peer;
mod query;
pub mod reply;
pub mod routes;
pub mod routes_clock;
pub mod routes_complaints;
pub mod routes_court;
pub mod routes_watch;
pub mod server;
pub mod socket;
mod users;

/// Where the control socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/limiter/control.sock";
