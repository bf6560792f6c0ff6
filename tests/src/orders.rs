//! What the sending process is told, and what it reports: one line of JSON each way.
//!
//! The process prints [`READY`] once it has become whom it is to be. If it is told to wait, it
//! connects only when a line comes in, so that others can look at it before.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// The line that says that the process is whom it is to be.
pub const READY: &str = "ready";

/// The line that says that a connection is established and the server has greeted, if there is
/// something to wait for then.
pub const CONNECTED: &str = "connected";

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// `socket`, `connect`.
    Plain,
    /// A non-blocking socket, and `poll`.
    NonBlocking,
    /// `sendto` with `MSG_FASTOPEN`.
    FastOpenSend,
    /// `TCP_FASTOPEN_CONNECT`, `connect`, `send`.
    FastOpenConnect,
    /// An MPTCP socket.
    Mptcp,
    /// `IORING_OP_CONNECT`, in the process's own context.
    IoUring,
    /// The same, by a worker thread of the kernel.
    IoUringWorker,
    /// The same, by the kernel's thread that polls the ring.
    IoUringPolled,
    /// With a socket that was connected to port 80 of the same server before.
    Reconnect,
}

impl How {
    /// Every way there is.
    pub const ALL: [Self; 9] = [
        Self::Plain,
        Self::NonBlocking,
        Self::FastOpenSend,
        Self::FastOpenConnect,
        Self::Mptcp,
        Self::IoUring,
        Self::IoUringWorker,
        Self::IoUringPolled,
        Self::Reconnect,
    ];
}

/// Whose socket it is that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketOf {
    /// The caller's own.
    Caller,
    /// Made while the process was still as given here, and kept while its identity changed.
    Before {
        /// Its uid then.
        uid: u32,
        /// The directory of its cgroup then; `None`: the same.
        cgroup: Option<PathBuf>,
    },
    /// Made by another process, and passed over a UNIX socket.
    Other {
        /// The other's uid.
        uid: u32,
        /// The directory of the other's cgroup; `None`: the same.
        cgroup: Option<PathBuf>,
    },
}

/// What the sending process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Whom to become before connecting; the group has the same number.
    pub uid: u32,
    /// Which cgroup to enter before connecting: its directory.
    pub cgroup: Option<PathBuf>,
    /// Where to.
    pub to: SocketAddr,
    /// Dial an IPv4 address through an IPv6 socket.
    pub mapped: bool,
    /// In which way.
    pub how: How,
    /// Whose socket.
    pub socket: SocketOf,
    /// Bind the socket to this interface.
    pub device: Option<String>,
    /// Bind the socket to this source address.
    pub from: Option<IpAddr>,
    /// How many times to try.
    pub count: u64,
    /// The pause between two tries, microseconds.
    pub pause_us: u64,
    /// Wait for a line on standard input before connecting.
    pub wait: bool,
    /// Greet back under this name once the server has greeted, and wait for its answer.
    pub say: Option<String>,
    /// Wait for a line on standard input before greeting back, having said [`CONNECTED`].
    pub hold: bool,
    /// A file to write the report to besides standard output.
    pub report_to: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many connections were established.
    pub connected: u64,
    /// How many failed, by errno.
    pub failed: BTreeMap<i32, u64>,
    /// The slowest failure, nanoseconds from the call to its return.
    pub slowest_failure_ns: u64,
    /// The source of the last connection.
    pub source: Option<SocketAddr>,
    /// The server's greeting on the last connection.
    pub greeting: Option<String>,
}

impl Report {
    /// The errno of the only failure, if that is all there was.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        let mut failed = self.failed.keys();
        let first = failed.next().copied();
        (self.connected == 0 && failed.next().is_none())
            .then_some(first)
            .flatten()
    }

    /// How many tries there were.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.connected + self.failed.values().sum::<u64>()
    }

    /// How many were refused with EPERM.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.failed.get(&libc::EPERM).copied().unwrap_or(0)
    }
}
