//! Sockets as the orders want them.

use std::{
    ffi::OsString,
    io,
    mem::size_of_val,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use limiter_tests::orders::{How, Orders};
use nix::sys::socket::{SockaddrStorage, bind, setsockopt, sockopt};

/// The option's number where the C library does not name it.
const TCP_FASTOPEN_CONNECT: libc::c_int = 30;

/// Where the socket is to connect to: the destination, in the socket's own family.
pub fn destination(orders: &Orders) -> SocketAddr {
    match orders.to {
        SocketAddr::V4(to) if orders.mapped => {
            SocketAddr::V6(SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0))
        }
        to => to,
    }
}

/// Makes and prepares a socket.
pub fn make(orders: &Orders) -> io::Result<OwnedFd> {
    let destination = destination(orders);
    let family = if destination.is_ipv6() {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let protocol = if orders.how == How::Mptcp {
        libc::IPPROTO_MPTCP
    } else {
        libc::IPPROTO_TCP
    };
    let mut kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    if orders.how == How::NonBlocking {
        kind |= libc::SOCK_NONBLOCK;
    }
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };

    if orders.how == How::FastOpenConnect {
        set_int(fd, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
    }
    if orders.count > 1 {
        // Close with a reset, so that a flood does not run out of ports.
        setsockopt(
            &socket,
            sockopt::Linger,
            &libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
    }
    if let Some(device) = &orders.device {
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device))?;
    }
    if let Some(from) = orders.from {
        let from = match from {
            IpAddr::V4(from) if orders.mapped => {
                IpAddr::V6(Ipv6Addr::from(from.to_ipv6_mapped().octets()))
            }
            from => from,
        };
        bind(fd, &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    Ok(socket)
}

/// Sets an option whose value is a whole number.
fn set_int(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("an integer is small");
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A borrowed raw descriptor, for calls that want a number.
pub fn raw(socket: &OwnedFd) -> RawFd {
    socket.as_raw_fd()
}
