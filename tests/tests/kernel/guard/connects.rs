//! Real calls of `connect(2)`: the kernel runs no program at these hooks on request.

use std::{
    io,
    mem::size_of_val,
    net::{Ipv4Addr, Ipv6Addr},
};

/// How an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its first packet is on its way.
    Allowed,
    /// EPERM.
    Refused,
}

const TO4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const TO6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 5);

/// Tries to connect as this user, without waiting for an answer.
pub fn connect(uid: u32, v6: bool, port: u16) -> Outcome {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    become_user(uid);
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    let result = if v6 {
        // SAFETY: all bytes may be zero.
        let mut to: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        to.sin6_family = libc::sa_family_t::try_from(family).unwrap();
        to.sin6_port = port.to_be();
        to.sin6_addr.s6_addr = TO6.octets();
        let length = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
        // SAFETY: the address is as long as said, and outlives the call.
        unsafe { libc::connect(socket, (&raw const to).cast(), length) }
    } else {
        // SAFETY: all bytes may be zero.
        let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        to.sin_family = libc::sa_family_t::try_from(family).unwrap();
        to.sin_port = port.to_be();
        to.sin_addr.s_addr = u32::from_ne_bytes(TO4.octets());
        let length = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
        // SAFETY: as above.
        unsafe { libc::connect(socket, (&raw const to).cast(), length) }
    };
    let error = io::Error::last_os_error();
    // SAFETY: it was opened here.
    unsafe { libc::close(socket) };
    become_user(0);
    assert_eq!(result, -1, "nobody answers");
    match error.raw_os_error() {
        Some(libc::EINPROGRESS) => Outcome::Allowed,
        Some(libc::EPERM) => Outcome::Refused,
        _ => panic!("connect as {uid} to port {port}, IPv6 {v6}: {error}"),
    }
}

/// This thread alone becomes that user, and can become root again.
fn become_user(uid: u32) {
    // SAFETY: takes numbers only. The C library's own would change all threads.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, 0) };
    assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
}
