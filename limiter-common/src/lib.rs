//! The vocabulary that limiter's kernel programs and its agent share: the layout of every map
//! value, the names of maps and pins, and the pure arithmetic of windows and pace.
//!
//! Everything here is integers in `#[repr(C)]` structures without padding, whose sizes are
//! asserted at compile time: the same bytes are written by one side and read by the other.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod address;
pub mod blocked;
pub mod charge;
pub mod command;
pub mod event;
pub mod flow;
pub mod limit;
pub mod mailbox;
pub mod mark;
pub mod owner;
pub mod pace;
pub mod packet;
#[cfg(feature = "user")]
mod pod;
pub mod sanction;
pub mod settings;
pub mod smtp;
pub mod stats;
pub mod tenant;
pub mod verdict;
pub mod window;

/// Asserts the size and alignment of a map value, so that a new field cannot change the layout
/// unnoticed.
macro_rules! assert_layout {
    ($type:ty, $size:expr, $align:expr) => {
        const _: () = assert!(
            size_of::<$type>() == $size && align_of::<$type>() == $align,
            concat!(stringify!($type), " changed its layout: raise abi::VERSION")
        );
    };
}
pub(crate) use assert_layout;
