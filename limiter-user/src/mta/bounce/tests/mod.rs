//! Logs of both mail servers, honest and not.

mod following;
mod hostile;
mod lines;
mod whose;
