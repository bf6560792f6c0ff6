//! One attempt to connect, and how long the kernel was busy with it.

use std::{fmt, io, mem, time::Instant};

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The SYN is on its way.
    Allowed,
    /// It was refused at once.
    Refused,
}

/// By which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// A socket that does not wait.
    pub fn socket(self) -> i32 {
        let domain = match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        };
        // SAFETY: takes numbers only.
        let socket = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        socket
    }

    /// Connects it to a mail server behind which nobody is: the error number.
    pub fn connect(self, socket: i32) -> i32 {
        match self {
            Self::V4 => {
                // SAFETY: all bytes may be zero.
                let mut to: libc::sockaddr_in = unsafe { mem::zeroed() };
                to.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
                to.sin_port = 25_u16.to_be();
                to.sin_addr.s_addr = u32::from_ne_bytes([198, 51, 100, 7]);
                connect(socket, &to)
            }
            Self::V6 => {
                // SAFETY: all bytes may be zero.
                let mut to: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                to.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).unwrap();
                to.sin6_port = 25_u16.to_be();
                to.sin6_addr.s6_addr = [0x20, 1, 0xd, 0xb8, 1, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
                connect(socket, &to)
            }
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn connect<A>(socket: i32, to: &A) -> i32 {
    let length = libc::socklen_t::try_from(size_of::<A>()).unwrap();
    // SAFETY: the address is as long as said, and outlives the call.
    let result = unsafe { libc::connect(socket, std::ptr::from_ref(to).cast(), length) };
    let error = io::Error::last_os_error();
    assert_eq!(result, -1, "nobody answers");
    error.raw_os_error().unwrap()
}

/// Closes a socket that was opened here.
pub fn close(socket: i32) {
    // SAFETY: it was opened here, and nobody else has it.
    unsafe { libc::close(socket) };
}

/// Tries to connect to a mail server as this user: nanoseconds until it is known to be on its way, or, of whoever
/// is to be refused, until it is known that it is not.
pub fn attempt(uid: u32, family: Family, expected: Outcome) -> f64 {
    become_user(uid);
    let socket = family.socket();
    let start = Instant::now();
    let outcome = match family.connect(socket) {
        libc::EPERM => Outcome::Refused,
        libc::EINPROGRESS if expected == Outcome::Refused => wait_for_refusal(socket),
        libc::EINPROGRESS => Outcome::Allowed,
        error => panic!("connect: {}", io::Error::from_raw_os_error(error)),
    };
    let took = start.elapsed();
    close(socket);
    become_root();
    assert_eq!(outcome, expected, "uid {uid}, {family}");
    took.as_secs_f64() * 1e9
}

/// Waits for a reset.
fn wait_for_refusal(socket: i32) -> Outcome {
    let mut waits = libc::pollfd {
        fd: socket,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: there is one, and it outlives the call.
    let ready = unsafe { libc::poll(&raw mut waits, 1, 1_000) };
    if ready == 1 && waits.revents & libc::POLLERR != 0 {
        Outcome::Refused
    } else {
        Outcome::Allowed
    }
}

/// This thread alone takes the user on: real, effective, and for files and sockets. It may become root again.
pub fn become_user(uid: u32) {
    set_uids(uid, uid, 0);
}

/// This thread is root again.
pub fn become_root() {
    set_uids(0, 0, 0);
}

fn set_uids(real: u32, effective: u32, saved: u32) {
    // SAFETY: takes numbers only. The C library's own would change all threads.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) };
    assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
}
