//! One attempt to connect, and how long the kernel was busy with it.

use std::{io, time::Instant};

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The SYN is on its way.
    Allowed,
    /// It was refused at once.
    Refused,
}

/// Tries to connect to a mail server as this user: nanoseconds until it is known to be on its way, or, of whoever
/// is to be refused, until it is known that it is not.
pub fn attempt(uid: u32, expected: Outcome) -> f64 {
    become_user(uid);
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: all bytes may be zero.
    let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    to.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
    to.sin_port = 25_u16.to_be();
    to.sin_addr.s_addr = u32::from_ne_bytes([198, 51, 100, 7]);
    let length = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
    let start = Instant::now();
    // SAFETY: the address is as long as said, and outlives the call.
    let result = unsafe { libc::connect(socket, (&raw const to).cast(), length) };
    let error = io::Error::last_os_error();
    assert_eq!(result, -1, "nobody answers");
    let outcome = match error.raw_os_error() {
        Some(libc::EPERM) => Outcome::Refused,
        Some(libc::EINPROGRESS) if expected == Outcome::Refused => wait_for_refusal(socket),
        Some(libc::EINPROGRESS) => Outcome::Allowed,
        _ => panic!("connect: {error}"),
    };
    let took = start.elapsed();
    // SAFETY: it was opened here.
    unsafe { libc::close(socket) };
    become_root();
    assert_eq!(outcome, expected);
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

/// This thread alone takes the user on: real, effective, and for files and sockets.
fn become_user(uid: u32) {
    set_uids(uid, uid, 0);
}

fn become_root() {
    set_uids(0, 0, 0);
}

fn set_uids(real: u32, effective: u32, saved: u32) {
    // SAFETY: takes numbers only. The C library's own would change all threads.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) };
    assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
}
