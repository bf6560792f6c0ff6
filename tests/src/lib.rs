//! End-to-end tests of limiter: a real kernel, real network namespaces, real mail programs.
//!
//! This library is what the tests and the demo stand on. A [`Node`] is a hosting node in
//! namespaces of its own, wired to an outside world in another: documentation addresses only,
//! nothing leaves the machine. An [`Agent`] is the product, started as an administrator would. A
//! [`Sink`], [`Postfix`] or [`Exim`] is somebody's mail server, and a [`Sender`] somebody
//! who tries to reach one. Everything lives in namespaces that are held open by
//! file descriptors, so that it vanishes with the process that made it, however that ends.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a harness: whatever fails here is to fail the test that uses it, with a trace"
)]

mod agent;
mod attempt;
pub mod bulk;
mod capture;
mod cgroup;
mod checksums;
mod container;
pub mod control;
pub mod disguise;
mod dovecot;
mod etc;
mod exim;
pub mod forge;
pub mod guest;
pub mod load;
pub mod machine;
mod mail;
mod maildir;
pub mod mixture;
mod namespace;
mod node;
mod notify;
pub mod offload;
pub mod orders;
mod packet_attempt;
pub mod packet_socket;
pub mod packets;
mod place;
pub mod post;
mod postfix;
pub mod process;
pub mod programs;
mod refused;
mod sink;
mod smtp_sink;
pub mod talk;
mod test_clock;
pub mod wait;

pub use agent::{Agent, Config, find_tenant, repeated};
pub use attempt::{Attempt, Flood, Reached, Running, Sender};
pub use capture::{Capture, Seen, Traffic};
pub use cgroup::Cgroup;
pub use checksums::WrittenChecksums;
pub use container::Container;
pub use dovecot::Dovecot;
pub use etc::Etc;
pub use exim::Exim;
pub use guest::{Guest, Wiring};
pub use load::{LOAD_PORT, Load, LoadSink, Loader, Rate, Sent};
pub use mail::{Letter, Mailer};
pub use maildir::Maildir;
pub use namespace::Namespace;
pub use node::{
    CONTAINER4, NATTED, NODE4, NODE6, Node, OUTSIDE_LINK_LOCAL, OUTSIDE_MX, OUTSIDE_MX_EXEMPT,
    OUTSIDE_MX6, OUTSIDE_MX6_EXEMPT, mx,
};
pub use packet_attempt::PacketAttempt;
pub use place::Place;
pub use postfix::Postfix;
pub use process::{Output, Process};
pub use sink::{Sink, Visit};
pub use smtp_sink::SmtpSink;
pub use test_clock::TestClock;
