//! The control socket and the commands, over real sockets and with the real binary.

mod cli;
mod events;
mod hostile;
mod node;
mod round_trip;
mod socket;
