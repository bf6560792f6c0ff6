//! An interface that leaves no checksum to its device: as real ones without that art.

use std::{ffi::CString, io, mem::zeroed, os::fd::AsRawFd, os::fd::OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::Namespace;

/// What a frame is asked to have done to it is done by the kernel while this lives, right before
/// the interface sends it. Pairs of interfaces otherwise pass the wish on.
#[derive(Debug)]
pub struct WrittenChecksums {
    namespace: Namespace,
    device: String,
}

impl WrittenChecksums {
    /// On this interface there.
    #[must_use]
    pub fn on(namespace: &Namespace, device: &str) -> Self {
        set_offload(namespace, device, false).expect("every interface can do without");
        Self {
            namespace: namespace.clone(),
            device: device.to_owned(),
        }
    }
}

impl Drop for WrittenChecksums {
    fn drop(&mut self) {
        // Without the interface there is nothing to restore.
        let _ = set_offload(&self.namespace, &self.device, true);
    }
}

/// Whether the device is to write checksums of what it sends.
fn set_offload(namespace: &Namespace, device: &str, on: bool) -> io::Result<()> {
    /// `ETHTOOL_STXCSUM`.
    const SET_TRANSMIT_CHECKSUMS: u32 = 0x17;
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let name = CString::new(device).map_err(io::Error::other)?;
    let value = [SET_TRANSMIT_CHECKSUMS, u32::from(on)];
    namespace.enter(|| {
        let none = SockFlag::SOCK_CLOEXEC;
        let any: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, none, None)?;
        // SAFETY: all zeroes are a valid request.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()).take(15) {
            *to = libc::c_char::try_from(*from).map_err(io::Error::other)?;
        }
        request.ifr_ifru.ifru_data = (&raw const value).cast_mut().cast();
        // SAFETY: the kernel reads the request and the value, which live until the call ends.
        match unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}
