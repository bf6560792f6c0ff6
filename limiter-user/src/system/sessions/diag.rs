//! The kernel's list of TCP sockets, and its command to end one (sock_diag(7), `linux/inet_diag.h`).
//!
//! Written by hand over a netlink socket: two messages are needed. The crate for them
//! (`netlink-packet-sock-diag`) sends every message as `SOCK_DIAG_BY_FAMILY`, so that it can list
//! sockets and not end them, does not know the cgroup's id, and takes the socket's id apart that has
//! to be handed back bit by bit. Messages are read and written as bytes, bounds checked; nothing
//! here is unsafe.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv,
            send, setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

/// `SOCK_DIAG_BY_FAMILY`.
const LIST: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const NLM_F_DUMP: u16 = 0x300;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface and cookie.
const ID: usize = 48;
/// `struct inet_diag_msg`.
const ENTRY: usize = 72;
/// `INET_DIAG_ULP_INFO` and, within it, `INET_ULP_INFO_NAME`.
const ULP_INFO: u16 = 19;
const ULP_NAME: u16 = 1;
/// The bit of `INET_DIAG_INFO`, without which the kernel leaves that out. The cgroup's id comes
/// by itself.
const ULP_INFO_TOO: u8 = 1 << 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `INET_DIAG_CGROUP_ID`.
const CGROUP_ID: u16 = 21;
/// `INET_DIAG_REQ_PROTOCOL`.
const REQ_PROTOCOL: u16 = 3;
/// A number no kernel message exceeds: dumps come in pieces of at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once; whoever waits this long waits for an answer that was lost.
const PATIENCE_S: i64 = 2;

/// Which sockets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// TCP, the subflows of MPTCP included.
    Tcp,
    /// MPTCP's own sockets, which programs hold.
    Mptcp,
}

/// A state of TCP in which a socket has a peer. `LISTEN`, `CLOSE` and `TIME_WAIT` are none: in the
/// last the kernel only remembers what was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both sides can send.
    Established,
    /// Asked, no answer yet.
    SynSent,
    /// Was asked and answered.
    SynReceived,
    /// This side has ended; not acknowledged.
    FinWait1,
    /// This side has ended; the peer can still send.
    FinWait2,
    /// The peer has ended; this side can still send.
    CloseWait,
    /// Both have ended, this side last; not acknowledged.
    LastAck,
    /// Both have ended at the same time.
    Closing,
}

impl State {
    /// Every one, with the kernel's number.
    const ALL: [(u8, Self); 8] = [
        (1, Self::Established),
        (2, Self::SynSent),
        (3, Self::SynReceived),
        (4, Self::FinWait1),
        (5, Self::FinWait2),
        (8, Self::CloseWait),
        (9, Self::LastAck),
        (11, Self::Closing),
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(of, _)| *of == number)
            .map(|(_, state)| *state)
    }

    /// All of them, as the kernel wants it: a bit each.
    fn mask() -> u32 {
        Self::ALL
            .iter()
            .fold(0, |mask, (number, _)| mask | 1 << number)
    }
}

/// The kernel's id of one socket, as it gave it: with the cookie that no later socket has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketId([u8; ID]);

impl SocketId {
    /// Of a socket that is known by its addresses, which are of one family.
    fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        let mut id = [0; ID];
        id[0..2].copy_from_slice(&local.port().to_be_bytes());
        id[2..4].copy_from_slice(&remote.port().to_be_bytes());
        for (at, address) in [(4, local.ip()), (20, remote.ip())] {
            match address {
                IpAddr::V4(v4) => id[at..at + 4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => id[at..at + 16].copy_from_slice(&v6.octets()),
            }
        }
        // `INET_DIAG_NOCOOKIE`: whichever it is.
        id[40..48].fill(0xff);
        Self(id)
    }

    /// The cookie, as `SO_COOKIE` gives it.
    pub(super) fn cookie(&self) -> u64 {
        let half = |at| u64::from(u32_at(&self.0, at).unwrap_or(0));
        half(40) | half(44) << 32
    }
}

/// A socket, as the kernel lists it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `AF_INET` or `AF_INET6`; IPv4 over an IPv6 socket is the latter.
    pub(super) family: u8,
    pub(super) id: SocketId,
    pub(super) state: State,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) uid: u32,
    /// The inode of the socket; 0 if no file belongs to it.
    pub(super) inode: u32,
    pub(super) cgroup_id: Option<u64>,
    pub(super) is_subflow: bool,
}

/// What came of a command to end a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destroyed {
    /// It is gone, and the peer was told.
    Yes,
    /// It was gone already, or another has its addresses now.
    WasGone,
    /// The kernel does not do that with this kind of socket, or with any.
    Unsupported,
}

/// A connection to the kernel, in the network namespace of the thread that opened it.
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// Opens one.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        // Connected to the kernel: root of a container could otherwise answer in its place.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Calls `found` for every socket of `family` that has a peer.
    ///
    /// A socket is missed if another of its hash bucket goes away between two pieces of the
    /// answer: whoever needs all asks until there is none.
    pub(super) fn list(
        &mut self,
        family: AddressFamily,
        protocol: Protocol,
        mut found: impl FnMut(Entry),
    ) -> io::Result<()> {
        let sequence = self.request(
            LIST,
            NLM_F_DUMP,
            family_number(family),
            protocol,
            &SocketId([0; ID]),
        )?;
        loop {
            let done = self.receive(sequence, |kind, payload| match kind {
                LIST => {
                    if let Some(entry) = Entry::parse(payload) {
                        found(entry);
                    }
                    Ok(false)
                }
                NLMSG_DONE | NLMSG_ERROR => {
                    code(payload)?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// The one socket with these addresses, if there is one that has a peer. The kernel may give another
    /// instead, such as whoever listens there: compare.
    pub(super) fn find(
        &mut self,
        family: AddressFamily,
        protocol: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<Entry>> {
        let id = SocketId::of(local, remote);
        let sequence = self.request(LIST, 0, family_number(family), protocol, &id)?;
        loop {
            let mut answer = None;
            self.receive(sequence, |kind, payload| {
                match kind {
                    LIST => answer = Some(Ok(Entry::parse(payload))),
                    NLMSG_ERROR => answer = Some(code(payload).map(|()| None)),
                    _ => {}
                }
                Ok(true)
            })?;
            return match answer {
                None => continue,
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
                Some(found) => found,
            };
        }
    }

    /// Ends a socket: its program gets `ECONNABORTED`, its peer a reset.
    pub(super) fn destroy(
        &mut self,
        family: u8,
        protocol: Protocol,
        id: &SocketId,
    ) -> io::Result<Destroyed> {
        let sequence = self.request(DESTROY, NLM_F_ACK, family, protocol, id)?;
        loop {
            let mut answer = None;
            self.receive(sequence, |kind, payload| {
                if kind == NLMSG_ERROR {
                    answer = Some(code(payload));
                }
                Ok(kind == NLMSG_ERROR)
            })?;
            return match answer {
                None => continue,
                Some(Ok(())) => Ok(Destroyed::Yes),
                Some(Err(error)) => match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ESTALE) => Ok(Destroyed::WasGone),
                    Some(libc::EOPNOTSUPP) => Ok(Destroyed::Unsupported),
                    _ => Err(error),
                },
            };
        }
    }

    /// Whether the kernel ends sockets on command (`CONFIG_INET_DIAG_DESTROY`). It is asked to end
    /// one that cannot exist.
    pub(super) fn can_destroy(&mut self) -> io::Result<bool> {
        let nobody = SocketId([0; ID]);
        let answer = self.destroy(family_number(AddressFamily::Inet), Protocol::Tcp, &nobody)?;
        Ok(answer != Destroyed::Unsupported)
    }

    #[cfg(test)]
    pub(super) fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends a `struct inet_diag_req_v2` and says under which number.
    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        protocol: Protocol,
        id: &SocketId,
    ) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER + 8 + ID + 8);
        message.extend(0_u32.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend([family, TCP, ULP_INFO_TOO, 0]);
        message.extend(State::mask().to_ne_bytes());
        message.extend(id.0);
        if protocol == Protocol::Mptcp {
            message.extend(8_u16.to_ne_bytes());
            message.extend(REQ_PROTOCOL.to_ne_bytes());
            message.extend(libc::IPPROTO_MPTCP.to_ne_bytes());
        }
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        message[..4].copy_from_slice(&length.to_ne_bytes());
        loop {
            match send(self.socket.as_raw_fd(), &message, MsgFlags::empty()) {
                Ok(_) => return Ok(self.sequence),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives a piece of an answer; `each` gets the type and content of every message in it and
    /// says whether it was the last.
    fn receive(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(u16, &[u8]) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        };
        let mut rest = &self.buffer[..length];
        let mut done = false;
        while let Some((kind, of, payload, next)) = split_message(rest) {
            if of == sequence {
                done |= each(kind, payload)?;
            }
            rest = next;
        }
        Ok(done)
    }
}

/// The number of an address family in these messages.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn family_number(family: AddressFamily) -> u8 {
    // AF_INET is 2, AF_INET6 is 10.
    family as i32 as u8
}

/// Takes the first message off: its type, number and content, and what follows.
fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let payload = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u32_at(bytes, 8)?, payload, next))
}

/// The error number that an answer starts with, negated; 0 is none.
fn code(payload: &[u8]) -> io::Result<()> {
    match u32_at(payload, 0).map(u32::cast_signed) {
        None | Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
    }
}

/// The attributes in `bytes`: type and content.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two highest bits say how the content is written, not what it is.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

impl Entry {
    /// Reads a `struct inet_diag_msg` and its attributes; none if it is not of IP, or in a state
    /// that was not asked for.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let id: [u8; ID] = bytes.get(4..4 + ID)?.try_into().ok()?;
        let family = *bytes.first()?;
        let address = |at: usize| -> Option<IpAddr> {
            Some(match i32::from(family) {
                libc::AF_INET => IpAddr::V4(<[u8; 4]>::try_from(id.get(at..at + 4)?).ok()?.into()),
                libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(
                    <[u8; 16]>::try_from(id.get(at..at + 16)?).ok()?,
                ))
                .to_canonical(),
                _ => return None,
            })
        };
        let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
        let mut entry = Self {
            family,
            id: SocketId(id),
            state: State::from_number(*bytes.get(1)?)?,
            local: SocketAddr::new(address(4)?, port(0)),
            remote: SocketAddr::new(address(20)?, port(2)),
            uid: u32_at(bytes, 64)?,
            inode: u32_at(bytes, 68)?,
            cgroup_id: None,
            is_subflow: false,
        };
        for (kind, content) in attributes(bytes.get(ENTRY..)?) {
            match kind {
                CGROUP_ID => {
                    entry.cgroup_id = content.try_into().ok().map(u64::from_ne_bytes);
                }
                ULP_INFO => {
                    entry.is_subflow = attributes(content)
                        .any(|(kind, name)| kind == ULP_NAME && name.starts_with(b"mptcp\0"));
                }
                _ => {}
            }
        }
        Some(entry)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?;
    word.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_no_socket() {
        let mut whole = vec![0_u8; ENTRY];
        whole[0] = 2;
        whole[1] = 1;
        whole[4..8].copy_from_slice(&[0x1f, 0x90, 0, 25]);
        whole[8..12].copy_from_slice(&[192, 0, 2, 1]);
        whole[24..28].copy_from_slice(&[198, 51, 100, 7]);
        whole[64..68].copy_from_slice(&2001_u32.to_ne_bytes());
        // The cgroup's id, then a nested name, then an attribute that promises more than there is.
        whole.extend([12, 0, 21, 0]);
        whole.extend(77_u64.to_ne_bytes());
        whole.extend([16, 0, 19, 0x80, 10, 0, 1, 0]);
        whole.extend(b"mptcp\0\0\0");
        whole.extend([200, 0, 21, 0]);
        let entry = Entry::parse(&whole).unwrap();
        assert_eq!(entry.local, "192.0.2.1:8080".parse().unwrap());
        assert_eq!(entry.remote, "198.51.100.7:25".parse().unwrap());
        assert_eq!(
            (entry.uid, entry.cgroup_id, entry.is_subflow),
            (2001, Some(77), true)
        );
        for length in 0..ENTRY {
            assert!(Entry::parse(&whole[..length]).is_none(), "{length}");
        }
        // A state that was not asked for, and a family that is none of IP.
        for (at, value) in [(1, 6), (1, 10), (0, 1)] {
            let mut other = whole.clone();
            other[at] = value;
            assert!(Entry::parse(&other).is_none());
        }
    }

    #[test]
    fn messages_are_taken_off_one_by_one() {
        let mut bytes = Vec::new();
        for (kind, content) in [(20_u16, &b"abc"[..]), (3, &[0, 0, 0, 0])] {
            let length = HEADER + content.len();
            bytes.extend(u32::try_from(length).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0, 0]);
            bytes.extend(9_u32.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let (kind, number, payload, rest) = split_message(&bytes).unwrap();
        assert_eq!((kind, number, payload), (20, 9, &b"abc"[..]));
        let (kind, _, payload, rest) = split_message(rest).unwrap();
        assert!(kind == 3 && code(payload).is_ok() && split_message(rest).is_none());
        assert!(split_message(&bytes[..HEADER + 2]).is_none(), "cut short");
        assert_eq!(
            code(&(-2_i32).to_ne_bytes()).unwrap_err().raw_os_error(),
            Some(libc::ENOENT)
        );
    }
}
