//! Attempts with packets of their own making.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use crate::{
    Cgroup, Node, Place, Running,
    disguise::Disguise,
    mx,
    offload::Offload,
    packets::{Link, PacketOrders, PacketReport},
};

/// No two attempts of one process are alike: neither their source ports nor their names.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// One attempt, not yet made.
#[derive(Clone, Debug)]
pub struct PacketAttempt<'n> {
    node: &'n Node,
    place: Place,
    orders: PacketOrders,
}

impl<'n> PacketAttempt<'n> {
    pub(crate) fn new(node: &'n Node, place: Place, link: Link) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            node,
            place,
            orders: PacketOrders {
                link,
                mac: [2, 0, 0, 0, 0, 1],
                from: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 20_000 + number % 40_000),
                own: None,
                prefix: 24,
                gateway: Ipv4Addr::UNSPECIFIED.into(),
                to: mx(false),
                disguises: Vec::new(),
                offload: None,
                second: None,
                name: format!("packets-{number}.sender.example"),
                message: false,
                more: 0,
                talk_ms: 0,
                uid: 0,
                cgroup: None,
                patience_ms: 2_000,
                pause_ms: 0,
            },
        }
    }

    /// Through this link.
    #[must_use]
    pub fn link(mut self, link: Link) -> Self {
        self.orders.link = link;
        self
    }

    /// From this Ethernet address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.orders.mac = mac;
        self
    }

    /// With this address, in a network of so many bits, and this gateway out of it; to the server
    /// outside of the same family.
    #[must_use]
    pub fn address(mut self, address: IpAddr, prefix: u8, gateway: IpAddr) -> Self {
        self.orders.from.set_ip(address);
        self.orders.prefix = prefix;
        self.orders.gateway = gateway;
        self.orders.to = mx(address.is_ipv6());
        self
    }

    /// With a source address that is not its own.
    #[must_use]
    pub fn forging(mut self, address: IpAddr) -> Self {
        self.orders.own = Some(self.orders.from.ip());
        self.orders.from.set_ip(address);
        self
    }

    /// To somebody else.
    #[must_use]
    pub fn to(mut self, to: SocketAddr) -> Self {
        self.orders.to = to;
        self
    }

    /// In disguise: on top of those before.
    #[must_use]
    pub fn disguised(mut self, disguise: Disguise) -> Self {
        self.orders.disguises.push(disguise);
        self
    }

    /// Asking the kernel or the device to do this to what it sends.
    #[must_use]
    pub fn offloading(mut self, offload: Offload) -> Self {
        self.orders.offload = Some(offload);
        self
    }

    /// With everything that carries data through this link instead.
    #[must_use]
    pub fn data_by(mut self, link: Link) -> Self {
        self.orders.second = Some(link);
        self
    }

    /// With a whole message, to the last dot.
    #[must_use]
    pub fn message(mut self) -> Self {
        self.orders.message = true;
        self
    }

    /// With so many whole messages, one after another.
    #[must_use]
    pub fn messages(mut self, count: u32) -> Self {
        self.orders.message = true;
        self.orders.more = count.saturating_sub(1);
        self
    }

    /// Going on to talk for so long.
    #[must_use]
    pub fn talking(mut self, time: Duration) -> Self {
        self.orders.talk_ms = u64::try_from(time.as_millis()).expect("a short time");
        self
    }

    /// By this user, who may open the link nevertheless, in this cgroup.
    #[must_use]
    pub fn by(mut self, uid: u32, cgroup: Option<&Cgroup>) -> Self {
        self.orders.uid = uid;
        self.orders.cgroup = cgroup.map(|cgroup| cgroup.directory().to_path_buf());
        self
    }

    /// Waiting so long for each answer.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.orders.patience_ms = u64::try_from(patience.as_millis()).expect("a short time");
        self
    }

    /// Staying silent so long after the greeting.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.orders.pause_ms = u64::try_from(pause.as_millis()).expect("a short time");
        self
    }

    /// What it calls itself on the wire, and nobody else does.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.orders.name
    }

    /// Its source.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.orders.from
    }

    /// Starts the process, which waits for [`Running::go`] and ends with a [`PacketReport`].
    #[must_use]
    pub fn start(&self) -> Running {
        let mut command = self.place.command(self.node.packets_program());
        let orders = serde_json::to_string(&self.orders).expect("orders are plain data");
        command
            .arg(orders)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Running::start(&mut command)
    }

    /// Makes the attempt, and returns what came of it.
    #[must_use]
    pub fn make(&self) -> PacketReport {
        self.start().go().report()
    }
}
