//! Sessions from both ends: what the peers said, cut into packets, and what was counted.

mod dialog;
mod exact;
mod first;
mod lies;
mod servers;
mod tls;
