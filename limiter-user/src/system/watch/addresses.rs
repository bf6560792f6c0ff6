//! The kernel's messages about addresses (rtnetlink(7)).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::io::unix::AsyncFd;

use super::{Changes, WatchError};

/// Addresses of either family that come and go.
const GROUPS: u32 =
    libc::RTMGRP_IPV4_IFADDR.cast_unsigned() | libc::RTMGRP_IPV6_IFADDR.cast_unsigned();

/// A socket that gets a message for every address that comes or goes in its network namespace.
/// What a message says is not looked at: the addresses are listed again anyway.
#[derive(Debug)]
pub(super) struct AddressMessages {
    socket: AsyncFd<OwnedFd>,
}

impl AddressMessages {
    pub(super) fn open() -> Result<Self, WatchError> {
        let failed = |call| {
            move |error: Errno| WatchError::Open {
                call,
                source: io::Error::from(error),
            }
        };
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )
        .map_err(failed("socket NETLINK_ROUTE"))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))
            .map_err(failed("bind NETLINK_ROUTE"))?;
        let socket = AsyncFd::new(socket).map_err(|source| WatchError::Open {
            call: "epoll NETLINK_ROUTE",
            source,
        })?;
        Ok(Self { socket })
    }

    /// Waits for a message.
    pub(super) async fn read(&self) -> Result<Changes, WatchError> {
        let failed = |source| WatchError::Read {
            what: "messages about addresses",
            source,
        };
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let Ok(message) = ready.try_io(|socket| {
                let mut buffer = [0; 8192];
                Ok(recv(
                    socket.as_raw_fd(),
                    &mut buffer,
                    MsgFlags::MSG_DONTWAIT,
                )?)
            }) else {
                continue;
            };
            return match message {
                Ok(0) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => Ok(Changes {
                    addresses: true,
                    ..Changes::default()
                }),
                // Messages were lost: which does not matter.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Changes {
                    addresses: true,
                    ..Changes::default()
                }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(failed(error)),
            };
        }
    }
}
