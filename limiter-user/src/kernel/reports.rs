//! The kernel's reports, as they come out of the ring buffers.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::maps::{MapData, RingBuf};
use limiter_common::event::{Attempt, Event};

/// What woke a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Refused attempts.
    Events,
    /// Allowed attempts.
    Attempts,
    /// A second passed.
    Second,
}

/// The kernel's reports.
pub struct Reports {
    events: RingBuf<MapData>,
    attempts: RingBuf<MapData>,
}

impl Reports {
    pub(super) fn new(events: RingBuf<MapData>, attempts: RingBuf<MapData>) -> Self {
        Self { events, attempts }
    }

    /// A descriptor that becomes readable when there are refused attempts.
    ///
    /// # Errors
    ///
    /// The process has too many descriptors.
    pub fn events_fd(&self) -> io::Result<OwnedFd> {
        duplicate(&self.events)
    }

    /// A descriptor that becomes readable when there are allowed attempts.
    ///
    /// # Errors
    ///
    /// The process has too many descriptors.
    pub fn attempts_fd(&self) -> io::Result<OwnedFd> {
        duplicate(&self.attempts)
    }

    /// The next refused attempt.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            // SAFETY: integers only, for which every bit pattern is valid.
            if let Some(event) = unsafe { decode(&self.events.next()?) } {
                return Some(event);
            }
        }
    }

    /// The next allowed attempt.
    pub fn next_attempt(&mut self) -> Option<Attempt> {
        loop {
            // SAFETY: integers only, for which every bit pattern is valid.
            if let Some(attempt) = unsafe { decode(&self.attempts.next()?) } {
                return Some(attempt);
            }
        }
    }
}

fn duplicate(ring: &RingBuf<MapData>) -> io::Result<OwnedFd> {
    // SAFETY: the ring keeps its descriptor open while it is borrowed.
    unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }.try_clone_to_owned()
}

/// A report of another length is of another version and is left out.
///
/// # Safety
///
/// Every bit pattern is a value of `T`.
unsafe fn decode<T: Copy>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: as long as it has to be; read without asking for alignment.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}
