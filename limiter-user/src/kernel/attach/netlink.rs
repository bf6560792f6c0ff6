//! The few rtnetlink messages that classic classifiers take: queueing disciplines and BPF filters.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// Asks for one thing, and for the answer to have an end.
pub const ACK: u16 = 0x5;
/// Asks for a list.
pub const LIST: u16 = 0x301;
/// Makes what is missing.
pub const CREATE: u16 = 0x400;
/// Refuses to touch what is there.
pub const EXCLUSIVE: u16 = 0x200;

pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_DELQDISC: u16 = 37;
pub const RTM_GETQDISC: u16 = 38;
pub const RTM_NEWTFILTER: u16 = 44;
pub const RTM_DELTFILTER: u16 = 45;
pub const RTM_GETTFILTER: u16 = 46;

const HEADER: usize = 16;
/// `struct tcmsg`.
const TC_HEADER: usize = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel writes at most 32 KiB at once.
const BUFFER: usize = 64 * 1024;

/// What a message about traffic control is about (`struct tcmsg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcHeader {
    /// The interface.
    pub ifindex: u32,
    /// The discipline's or filter's own number.
    pub handle: u32,
    /// What it hangs on.
    pub parent: u32,
    /// Of a filter: priority in the upper half, protocol in network order in the lower.
    pub info: u32,
}

/// A message about traffic control.
#[derive(Clone, Copy, Debug)]
pub struct TcMessage<'a> {
    /// `RTM_…`.
    pub kind: u16,
    /// What it is about.
    pub header: TcHeader,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

/// Attributes: number (without its flags) and value. What is cut short ends them.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let number = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((number, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute with this number.
    #[must_use]
    pub fn get(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find(|(number, _)| *number == wanted)
            .map(|(_, value)| value)
    }
}

/// A request that is being written.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request about traffic control without attributes.
    #[must_use]
    pub fn new(kind: u16, flags: u16, header: TcHeader) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        // Family and padding.
        bytes.extend([0; 4]);
        for word in [header.ifindex, header.handle, header.parent, header.info] {
            bytes.extend(word.to_ne_bytes());
        }
        Self(bytes)
    }

    /// With an attribute of at most 64 KiB.
    #[must_use]
    pub fn with(mut self, number: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// With a text that ends at its zero.
    #[must_use]
    pub fn with_text(self, number: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.with(number, &bytes)
    }

    /// With attributes inside an attribute.
    #[must_use]
    pub fn with_nested(mut self, number: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self = inside(self.with(number, &[]));
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// A connection to the kernel, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// The system has no room for a socket.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends a request and hands every message of the answer to `take`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn ask(&mut self, request: Request, mut take: impl FnMut(TcMessage<'_>)) -> io::Result<()> {
        let mut bytes = request.0;
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        loop {
            let length = match recv(
                self.socket.as_raw_fd(),
                &mut self.buffer,
                MsgFlags::MSG_TRUNC,
            ) {
                Err(nix::errno::Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = self.buffer.get(..length).ok_or_else(malformed)?;
            while let Some(size) = u32_at(rest, 0) {
                let size = usize::try_from(size).map_err(|_| malformed())?;
                let message = rest.get(..size).ok_or_else(malformed)?;
                rest = rest.get(align(size)..).unwrap_or_default();
                let kind = u16_at(message, 4).ok_or_else(malformed)?;
                let body = message.get(HEADER..).ok_or_else(malformed)?;
                if u32_at(message, 8) != Some(self.sequence) {
                    continue;
                }
                match kind {
                    ERROR | DONE => {
                        // Both start with an error's negative number, or zero.
                        let code = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => {
                        if let Some(message) = TcMessage::parse(kind, body) {
                            take(message);
                        }
                    }
                }
            }
        }
    }
}

impl<'a> TcMessage<'a> {
    fn parse(kind: u16, body: &'a [u8]) -> Option<Self> {
        Some(Self {
            kind,
            header: TcHeader {
                ifindex: u32_at(body, 4)?,
                handle: u32_at(body, 8)?,
                parent: u32_at(body, 12)?,
                info: u32_at(body, 16)?,
            },
            attributes: Attributes(body.get(TC_HEADER..)?),
        })
    }
}

/// A number of the kernel's in an attribute.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// A text that ends at its zero.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|byte| *byte == 0);
    std::str::from_utf8(&value[..end.unwrap_or(value.len())]).ok()
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let header = TcHeader {
            ifindex: 7,
            handle: 1,
            parent: 2,
            info: 3,
        };
        let request = Request::new(RTM_NEWTFILTER, ACK, header)
            .with_text(1, "bpf")
            .with_nested(2, |inside| {
                inside.with(6, &9_u32.to_ne_bytes()).with_text(7, "name")
            });
        let message = TcMessage::parse(RTM_NEWTFILTER, &request.0[HEADER..]).unwrap();
        assert_eq!(message.header, header);
        assert_eq!(message.attributes.get(1).and_then(text), Some("bpf"));
        let inside = Attributes(message.attributes.get(2).unwrap());
        assert_eq!(inside.get(6).and_then(number), Some(9));
        assert_eq!(inside.get(7).and_then(text), Some("name"));
        assert_eq!(inside.get(8), None);
    }

    #[test]
    fn what_is_cut_short_ends() {
        assert_eq!(Attributes(&[8, 0, 1, 0, 5]).next(), None);
        assert_eq!(
            Attributes(&[3, 0, 1, 0]).next(),
            None,
            "shorter than itself"
        );
    }
}
