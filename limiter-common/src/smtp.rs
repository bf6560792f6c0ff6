//! What one direct SMTP session sends, as seen from the client's packets alone.
//!
//! A session in the clear that keeps to the letter of RFC 5321 is read byte by byte and counted
//! exactly. All else is estimated from what the server must have answered: the
//! acknowledgements that the client sends say how often and how much. What an honest client never
//! does (bare line ends where commands end, gaps, verbs that servers understand differently) is not
//! guessed at: the session is estimated from there on, for good.
//!
//! How a packet layer uses it, for every packet of the client that carries the ACK flag, pure
//! acknowledgements included:
//!
//! 1. [`Session::segment`] says which part of the payload is new;
//! 2. each byte of that part goes to [`Session::byte`], or is passed over with [`Session::skip`] as
//!    far as [`Session::body_left`] says; what cannot be read for whatever reason: [`Session::distrust`];
//! 3. [`Session::due`] says what is to be counted.
//!
//! Data in a SYN, urgent data and fragments: [`Session::distrust`]. The end of a session as the
//! client tells it (FIN, RST) may be a lie with a short life: keep the state.

mod estimate;
mod factors;
mod session;
mod stream;

pub use factors::Factors;
pub use session::{Due, Scan, Session};

#[cfg(test)]
mod tests;
