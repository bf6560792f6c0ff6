//! What the program that brings packets of its own making is told, and what it reports: one line
//! of JSON each way, as for [`crate::orders`].

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{disguise::Disguise, offload::Offload};

/// What its frames go through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// A tap interface, as a virtual machine has it. It is made if it is not there.
    Tap {
        /// The interface's name.
        name: String,
    },
    /// A macvtap interface, by its character device.
    Macvtap {
        /// The interface's name.
        name: String,
    },
    /// A packet socket on an interface.
    Packet {
        /// The interface's name.
        device: String,
        /// Past the queueing discipline.
        bypass: bool,
    },
    /// Raw IP sockets, which take packets with their headers. Answers are heard by a packet socket
    /// on the interface, which also finds the neighbours.
    Raw {
        /// The interface's name.
        device: String,
    },
}

/// What it is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketOrders {
    /// What its frames go through.
    pub link: Link,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its own address and port. The kernel must not have the address, or it would answer too.
    pub from: SocketAddr,
    /// Its own address, if [`Self::from`] is somebody else's: neighbours are told of this one.
    pub own: Option<IpAddr>,
    /// How many bits of the address are the network's.
    pub prefix: u8,
    /// Who takes what is not for the network.
    pub gateway: IpAddr,
    /// Where to.
    pub to: SocketAddr,
    /// What is done to each TCP frame, first to last.
    pub disguises: Vec<Disguise>,
    /// What the kernel or the device is asked to do to each TCP frame then.
    pub offload: Option<Offload>,
    /// What TCP frames with payload go through instead.
    pub second: Option<Link>,
    /// What it calls itself in the dialog: it is looked for on the wire.
    pub name: String,
    /// The whole dialog, with a message; else only a greeting each way.
    pub message: bool,
    /// How many messages more than that one are sent in the same session.
    #[serde(default)]
    pub more: u32,
    /// How long to go on saying nothing of importance after the greetings, milliseconds.
    #[serde(default)]
    pub talk_ms: u64,
    /// Whom to become once the link is open, keeping the link.
    pub uid: u32,
    /// The cgroup to enter first: its directory.
    pub cgroup: Option<PathBuf>,
    /// How long to wait for each answer, milliseconds.
    pub patience_ms: u64,
    /// How long to stay silent between the server's greeting and the first word, milliseconds.
    pub pause_ms: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The server answered everything.
    Served,
    /// The connection was answered with a reset: ECONNREFUSED.
    Refused,
    /// The connection was established and reset then: ECONNRESET.
    Reset,
    /// The kernel did not take the packet: EPERM.
    NotPermitted,
    /// No answer came.
    Silence,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketReport {
    /// How it ended.
    pub ended: Ended,
    /// Whether the connection was established.
    pub connected: bool,
    /// Everything the server said.
    pub heard: String,
    /// Frames sent.
    pub frames: u64,
    /// From the first frame of the connection to the end, nanoseconds.
    pub taken_ns: u64,
    /// From the last word to the end, nanoseconds.
    pub last_ns: u64,
    /// Errors of the kernel on sending, other than EPERM: the last one's number.
    pub errno: Option<i32>,
}

impl PacketReport {
    /// From the first frame of the connection to the end.
    #[must_use]
    pub fn taken(&self) -> Duration {
        Duration::from_nanos(self.taken_ns)
    }
}
