//! Netlink as far as it is needed: opening a socket, asking for a list, reading messages and their
//! attributes. Every length is checked, and nothing is believed that does not come from the kernel.

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, send, socket,
};

use super::InterfacesError;

/// What a list is read into at once: the kernel writes at most 32 KiB, or one
/// object where that is longer.
const BUFFER: usize = 256 * 1024;
/// How often a list is asked for again that changed while it was read.
const ATTEMPTS: u32 = 5;

/// The length of a message's header.
pub(super) const HEADER: usize = 16;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_LIST: u16 = 0x301;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NETLINK_GET_STRICT_CHK`, since Linux 4.20.
const GET_STRICT_CHK: libc::c_int = 12;

/// A message of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// What it is about (`RTM_…`).
    pub kind: u16,
    /// What follows the header.
    pub body: &'a [u8],
    /// The number of the request that it answers.
    pub sequence: u32,
    flags: u16,
}

/// The messages in a buffer. What is cut short ends it, after an `Err`.
pub(super) struct Messages<'a>(pub &'a [u8]);

/// Bytes that are not whole messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = || {
            let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
            let message = Message {
                kind: u16_at(self.0, 4)?,
                flags: u16_at(self.0, 6)?,
                sequence: u32_at(self.0, 8)?,
                body: self.0.get(HEADER..length)?,
            };
            Some((message, self.0.get(align(length)..).unwrap_or_default()))
        };
        if let Some((message, rest)) = read() {
            self.0 = rest;
            Some(Ok(message))
        } else {
            self.0 = &[];
            Some(Err(Cut))
        }
    }
}

/// Attributes: number (without its flags) and value. What is cut short ends them.
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        // The two upper bits say "nested" and "in network order".
        let number = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((number, value))
    }
}

/// The next multiple of four.
pub(super) const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// A text that ends at its zero. Names are bytes to the kernel; what is not UTF-8 is replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// A socket for the routing family in the calling thread's network namespace, in these multicast
/// groups. On failure it says which call failed.
pub(super) fn open(groups: u32, flags: SockFlag) -> Result<OwnedFd, (&'static str, io::Error)> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        SockProtocol::NetlinkRoute,
    )
    .map_err(|error| ("socket", error.into()))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))
        .map_err(|error| ("bind", error.into()))?;
    Ok(socket)
}

/// Reads one datagram, if it is the kernel's: none if somebody else sent it. The length is the real
/// one: when it is greater than the buffer, the rest is lost.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: all zeros are an address of no family.
    let mut from: libc::sockaddr_nl = unsafe { mem::zeroed() };
    let mut size = libc::socklen_t::try_from(size_of_val(&from)).unwrap_or(0);
    // SAFETY: the socket is open, and the pointers are to as many bytes as the lengths beside them say.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_TRUNC,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    // Negative is an error.
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok((from.nl_pid == 0).then_some(length))
}

/// Asks for a list and hands every message of it to `take`, with what `start` made.
///
/// When something came or went meanwhile, the list is asked for again; after some attempts it is
/// taken as it is, because what came or went is told to whoever watches.
///
/// # Errors
/// When the kernel cannot be asked, refuses, or answers nonsense.
pub(super) fn list<T>(
    what: &'static str,
    request: u16,
    body: &[u8],
    start: impl Fn() -> T,
    mut take: impl FnMut(&mut T, Message<'_>),
) -> Result<T, InterfacesError> {
    let failed = |call| move |source| InterfacesError::Netlink { what, call, source };
    let socket = open(0, SockFlag::empty()).map_err(|(call, error)| failed(call)(error))?;
    // Best effort: without it the kernel ignores what the request filters by.
    let _ = set_strict(&socket);
    let mut buffer = vec![0; BUFFER];
    for attempt in 1..=ATTEMPTS {
        let mut taken = start();
        let message = compose(request, REQUEST_LIST, attempt, body);
        send(socket.as_raw_fd(), &message, MsgFlags::empty())
            .map_err(|error| failed("send")(error.into()))?;
        let mut torn = false;
        let mut whole = false;
        while !whole {
            let length = match receive(&socket, &mut buffer) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("recv")(error)),
            };
            let Some(datagram) = buffer.get(..length) else {
                return Err(InterfacesError::Malformed { what });
            };
            if datagram.is_empty() {
                return Err(InterfacesError::Malformed { what });
            }
            for message in Messages(datagram) {
                let message = message.map_err(|Cut| InterfacesError::Malformed { what })?;
                if message.sequence != attempt {
                    continue;
                }
                torn |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        // Both start with an error's negative number, or zero.
                        let code = u32_at(message.body, 0).unwrap_or(0).cast_signed();
                        if code != 0 {
                            let error = io::Error::from_raw_os_error(code.saturating_neg());
                            return Err(failed("answer")(error));
                        }
                        whole = true;
                    }
                    _ => take(&mut taken, message),
                }
            }
        }
        if !torn || attempt == ATTEMPTS {
            return Ok(taken);
        }
    }
    Err(InterfacesError::Malformed { what })
}

/// A request.
pub(super) fn compose(request: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// Asks the kernel to go by what a request filters by.
fn set_strict(socket: &OwnedFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&yes)).unwrap_or(0);
    // SAFETY: the socket is open, and the pointer is to as many bytes as the size says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            GET_STRICT_CHK,
            (&raw const yes).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
