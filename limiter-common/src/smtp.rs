//! What one direct SMTP session sent.
use crate::assert_layout;

/// Factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Factors {
    /// x
    pub words: [u32; 8],
}
assert_layout!(Factors, 32, 4);

/// Session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// x
    pub words: [u64; 8],
}
assert_layout!(Session, 64, 8);
