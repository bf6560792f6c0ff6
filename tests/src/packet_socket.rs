//! A packet socket: whole Ethernet frames, as they come and as they go.

use std::{
    ffi::CString,
    io,
    mem::{size_of, size_of_val, zeroed},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Room for the largest frame there is: also those that the kernel has not segmented yet.
pub const FRAME_ROOM: usize = 70_000;

/// A packet socket of the network namespace it was made in.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// Where a frame that was received comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The index of the interface that received it.
    pub ifindex: i32,
    /// Whether the interface sends it, rather than receives it.
    pub outgoing: bool,
}

impl PacketSocket {
    /// A socket that hears every frame of every protocol: of one interface, or of all.
    ///
    /// # Errors
    ///
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn open(device: Option<&str>) -> io::Result<Self> {
        let every = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Without a protocol it hears nothing until it is bound.
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd };
        socket.set(libc::PACKET_AUXDATA, &1_i32)?;
        let room: libc::c_int = 64 << 20;
        socket
            .set_at(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &room)
            .or_else(|_| {
                // Only root of the machine may force it.
                socket.set_at(libc::SOL_SOCKET, libc::SO_RCVBUF, &room)
            })?;
        // SAFETY: all zeroes are a valid address of this kind.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family =
            libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        address.sll_protocol = every.to_be();
        address.sll_ifindex = device.map(index_of).transpose()?.unwrap_or(0);
        let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
        // SAFETY: the pointer and the length describe `address`, which lives until the call ends.
        check(unsafe { libc::bind(socket.raw(), (&raw const address).cast(), length) })?;
        Ok(socket)
    }

    /// Hears also what is for others, and not what this machine sends.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub fn overhear(&self, device: &str) -> io::Result<()> {
        self.set(libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let membership = libc::packet_mreq {
            mr_ifindex: index_of(device)?,
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).map_err(io::Error::other)?,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Sends past the queueing discipline of the interface.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn bypass_queue(&self) -> io::Result<()> {
        self.set(libc::PACKET_QDISC_BYPASS, &1_i32)
    }

    /// From now on every frame that is sent or received has a [header](crate::offload) in front.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn with_offloads(&self) -> io::Result<()> {
        self.set(libc::PACKET_VNET_HDR, &1_i32)
    }

    /// The next frame, if there is one: its length in `buffer` and where it comes from. A VLAN tag
    /// that the kernel has taken off is put back.
    ///
    /// # Errors
    ///
    /// Whatever the kernel says, but not that there is no frame.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Origin)>> {
        // SAFETY: all zeroes are a valid address of this kind.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len().saturating_sub(TAG),
        };
        // Aligned as control messages want it.
        let mut control = [0_u64; 16];
        // SAFETY: all zeroes are a valid message header.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen =
            libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the header points to memory that lives until the call ends, with true lengths.
        let length = unsafe { libc::recvmsg(self.raw(), &raw mut message, 0) };
        let Ok(mut length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                // The interface went down; it may come up again.
                _ if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
                _ => Err(error),
            };
        };
        // SAFETY: the kernel has filled in the header and the control messages it speaks of.
        if let Some((protocol, tag)) = unsafe { stripped_tag(&message) }
            && length >= ADDRESSES
        {
            buffer.copy_within(ADDRESSES..length, ADDRESSES + TAG);
            buffer[ADDRESSES..ADDRESSES + 2].copy_from_slice(&protocol.to_be_bytes());
            buffer[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&tag.to_be_bytes());
            length += TAG;
        }
        let origin = Origin {
            ifindex: address.sll_ifindex,
            outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        };
        Ok(Some((length, origin)))
    }

    /// Sends a frame by the interface that the socket is bound to.
    ///
    /// # Errors
    ///
    /// Whatever the kernel says.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `frame`.
        let sent = unsafe { libc::send(self.raw(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn raw(&self) -> libc::c_int {
        self.fd.as_raw_fd()
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_PACKET, option, value)
    }

    fn set_at<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
        let value: *const T = value;
        // SAFETY: the pointer and the length describe `value`, which lives until the call ends.
        check(unsafe { libc::setsockopt(self.raw(), level, option, value.cast(), length) })?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The length of the two Ethernet addresses.
const ADDRESSES: usize = 12;
/// The length of a VLAN tag.
const TAG: usize = 4;

/// The VLAN tag that the kernel has taken off the frame: its protocol and its value.
///
/// # Safety
///
/// The kernel must have filled in `message`, and its buffers must still live.
unsafe fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    const VALID: u32 = libc::TP_STATUS_VLAN_VALID;
    // SAFETY: the caller's promise.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: a header that is not null lies inside the control buffer.
        let header = unsafe { &*next };
        if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: messages of this type carry this structure, aligned or not.
            let data: libc::tpacket_auxdata = unsafe {
                libc::CMSG_DATA(next)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned()
            };
            let present = data.tp_status & VALID != 0;
            return present.then_some((data.tp_vlan_tpid, data.tp_vlan_tci));
        }
        // SAFETY: the caller's promise.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    None
}

/// An interface's index in the calling thread's network namespace.
///
/// # Errors
///
/// When there is no such interface.
pub fn index_of(device: &str) -> io::Result<i32> {
    let name = CString::new(device).map_err(io::Error::other)?;
    // SAFETY: the name ends with a zero byte.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => i32::try_from(index).map_err(io::Error::other),
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
