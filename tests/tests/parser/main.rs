//! The packet parser against everything that somebody might forge. No root is needed.
//!
//! `LIMITER_FUZZ_SEED` and `LIMITER_FUZZ_FRAMES` make the random ones others and more.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod fuzz;
mod shapes;

use limiter_common::packet::{Kind, Packet};

/// The ports that count as mail here.
const GUARDED: [u16; 2] = [25, 587];

fn read(frame: &[u8]) -> Packet {
    Packet::of_frame(frame, length(frame))
}

fn inside(frame: &[u8]) -> Packet {
    read(frame).inside(frame, length(frame))
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).unwrap()
}

/// Whether it is held back where mail is refused.
fn is_held(packet: &Packet) -> bool {
    match packet.kind {
        Kind::Unresolved => true,
        Kind::Tcp => GUARDED.contains(&packet.destination_port),
        Kind::Foreign | Kind::Other | Kind::Rest => false,
    }
}
