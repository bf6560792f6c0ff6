//! The kernel programs, inside the binary.

use aya::include_bytes_aligned;

use super::KernelError;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/limiter.o"));

/// The object file with the kernel programs.
///
/// # Errors
///
/// [`KernelError::NoObject`] if the agent was built without it.
pub fn bytes() -> Result<&'static [u8], KernelError> {
    if OBJECT.is_empty() { Err(KernelError::NoObject) } else { Ok(OBJECT) }
}
