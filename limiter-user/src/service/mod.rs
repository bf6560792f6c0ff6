//! What the mail programs ask, each in its own protocol: read, brought before the
//! [`Gate`](crate::submission::Gate), and answered.
//!
//! [`doors`] are kept open, those of mail servers by a thread of its own ([`counter`]); [`listen`] looks
//! who stands there ([`callers`]). [`policy`] is the service that
//! Postfix and Exim ask, over one socket, since the first word of a question tells them apart;
//! [`postfix`] and [`exim`] are their languages, pure. [`ask`] brings a question before the gate, waits
//! where it is told to, and knows what to say when the gate fails. [`watch`] is how people find out whether
//! anybody asks.

pub mod access;
pub mod ask;
pub mod callers;
pub mod counter;
pub mod doors;
pub mod dovecot;
pub mod exim;
pub mod lines;
pub mod listen;
pub mod milter;
pub mod policy;
pub mod postfix;
pub mod watch;

mod messages;
