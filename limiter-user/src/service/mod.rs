//! What the mail programs ask, each in its own protocol: read, brought before the
//! [`Gate`](crate::submission::Gate), and answered.

pub mod dovecot;
pub mod milter;
