//! The way from this node to an address: by which interface, and what is at the other end of it.
//!
//! It says whose a client is that connected to a service of the node from a container or a virtual
//! machine: its answers go that way, and nobody who does not get them keeps a connection open. On a
//! bridge that is a guest's word, which it can take back at any moment: see [`Way::bridged`].

use std::{
    fmt,
    fs::File,
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::sys::{
    socket::{MsgFlags, NetlinkAddr, SockFlag, connect, send, setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike as _},
};

use super::{
    Interface, Kind,
    netlink::{
        Attributes, Cut, HEADER, Message, Messages, align, compose, list, open, receive, u32_at,
    },
    resolve::leads_to_guest,
    snapshot::{
        AF_INET, AF_INET6, GET_LINK, GET_ROUTE, IFLA_LINK_NETNSID, IFLA_LINKINFO, LINK_HEADER,
        NEW_LINK, NEW_ROUTE, ROUTE_HEADER, RTA_DST, RTA_OIF, link,
    },
};

/// `NLM_F_REQUEST`.
const REQUEST_ONE: u16 = 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const NEW_NAMESPACE_ID: u16 = 88;
const GET_NAMESPACE_ID: u16 = 90;

/// The length of `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;
/// The length of `struct rtgenmsg`, padded.
const GENERAL_HEADER: usize = 4;

const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const AF_BRIDGE: u8 = 7;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_VLAN_FILTERING: u16 = 7;

/// How many bytes one answer may have.
const BUFFER: usize = 16 * 1024;
/// How long the kernel is waited for; it answers at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many devices may stand on each other, as the kernel has it.
const DEEPEST: usize = 8;

/// The way to an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The interface that it is reached by (of a bridge: the port), then what that is a port of, and
    /// so on. Empty where no route leads there.
    pub interfaces: Vec<u32>,
    /// Whether a guest is at the other end of the first: another network namespace, or a program.
    pub to_guest: bool,
    /// The kernel's number of the network namespace at that end ([`Ways::namespace_id`]).
    pub namespace: Option<i32>,
    /// Whether the first is a port of a bridge, found by where the bridge sends its answers: a guest that
    /// answers for others can have that changed.
    pub bridged: bool,
    /// A neighbour at a bridge that does not know its port: its frames come from another hardware address
    /// than it says it has, or it was silent for long.
    pub is_lost: bool,
}

/// Finds ways, in the network namespace of the thread that opened it. Any number of threads may ask.
pub struct Ways {
    asked: Mutex<Asked>,
}

/// An interface.
struct Link {
    link: Interface,
    /// The number of the network namespace of its peer.
    namespace: Option<i32>,
    /// A bridge that tells VLANs apart.
    has_vlans: bool,
}

/// A socket, and the number of the last request.
struct Asked {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").finish_non_exhaustive()
    }
}

impl Ways {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        let socket = open(0, SockFlag::empty()).map_err(|(_, error)| error)?;
        // Connected to the kernel: nobody else can answer in its place.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let patience = i64::try_from(PATIENCE.as_secs()).unwrap_or(1);
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(patience))?;
        Ok(Self {
            asked: Mutex::new(Asked {
                socket,
                sequence: 0,
                buffer: vec![0; BUFFER],
            }),
        })
    }

    /// The way to `address`.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn to(&self, address: IpAddr) -> io::Result<Way> {
        let Some((interface, next)) = self.route(address.to_canonical())? else {
            return Ok(Way::default());
        };
        let mut way = Way::default();
        let mut at = self.link(interface)?;
        // The answers of a bridge go out by one of its ports.
        if let Some(bridge) = at.as_ref().filter(|at| at.link.kind == Kind::Bridge) {
            match self.port(bridge, next)? {
                Some(port) => {
                    at = self.link(port)?;
                    way.bridged = true;
                }
                // Beyond a gateway nobody is who belongs to this network.
                None => way.is_lost = next == address.to_canonical(),
            }
        }
        self.walk(&mut way, at)?;
        Ok(way)
    }

    /// The way through an interface.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn through(&self, interface: u32) -> io::Result<Way> {
        let mut way = Way::default();
        let at = self.link(interface)?;
        self.walk(&mut way, at)?;
        Ok(way)
    }

    /// Notes down an interface, and what it is a port of.
    fn walk(&self, way: &mut Way, mut at: Option<Link>) -> io::Result<()> {
        while let Some(Link {
            link, namespace, ..
        }) = at
        {
            if way.interfaces.is_empty() {
                way.to_guest = leads_to_guest(&link) || link.kind == Kind::Tun;
                way.namespace = namespace.filter(|_| link.peer_elsewhere);
            }
            way.interfaces.push(link.index);
            at = match link.master {
                Some(master) if way.interfaces.len() < DEEPEST => self.link(master)?,
                _ => None,
            };
        }
        Ok(())
    }

    /// The number that this network namespace has for another, if any: that of the peers of its cables.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn namespace_id(&self, namespace: &File) -> io::Result<Option<i32>> {
        let mut request = vec![0; GENERAL_HEADER];
        add(
            &mut request,
            NETNSA_FD,
            &namespace.as_raw_fd().to_ne_bytes(),
        );
        self.one(GET_NAMESPACE_ID, &request, |message| {
            let found = (message.kind == NEW_NAMESPACE_ID)
                .then(|| attribute(message.body, GENERAL_HEADER, NETNSA_NSID))??;
            // Negative: it has none.
            u32_at(found, 0)
                .map(u32::cast_signed)
                .filter(|number| *number >= 0)
        })
    }

    /// By which interface an address is reached, and the next hop.
    fn route(&self, address: IpAddr) -> io::Result<Option<(u32, IpAddr)>> {
        let mut request = vec![0; ROUTE_HEADER];
        let bytes = octets(address);
        if let [family, length, ..] = request.as_mut_slice() {
            *family = family_of(address);
            *length = if address.is_ipv4() { 32 } else { 128 };
        }
        add(&mut request, RTA_DST, &bytes);
        self.one(GET_ROUTE, &request, |message| {
            let of = |number| attribute(message.body, ROUTE_HEADER, number);
            (message.kind == NEW_ROUTE).then_some(())?;
            let interface = u32_at(of(RTA_OIF)?, 0)?;
            let gateway = of(RTA_GATEWAY).and_then(address_of);
            Some((interface, gateway.unwrap_or(address)))
        })
    }

    /// An interface.
    fn link(&self, index: u32) -> io::Result<Option<Link>> {
        let mut request = vec![0; LINK_HEADER];
        if let Some(place) = request.get_mut(4..8) {
            place.copy_from_slice(&index.to_ne_bytes());
        }
        self.one(GET_LINK, &request, |message| {
            (message.kind == NEW_LINK).then_some(())?;
            let namespace = attribute(message.body, LINK_HEADER, IFLA_LINK_NETNSID)
                .and_then(|value| u32_at(value, 0))
                .map(u32::cast_signed)
                .filter(|number| *number >= 0);
            let info = attribute(message.body, LINK_HEADER, IFLA_LINKINFO);
            let data = info.and_then(|info| attribute(info, 0, IFLA_INFO_DATA));
            let filters = data.and_then(|data| attribute(data, 0, IFLA_BR_VLAN_FILTERING));
            Some(Link {
                link: link(message.body)?,
                namespace,
                has_vlans: filters.is_some_and(|value| value.first() == Some(&1)),
            })
        })
    }

    /// The port of a bridge behind which a neighbour is.
    fn port(&self, bridge: &Link, neighbour: IpAddr) -> io::Result<Option<u32>> {
        let has_vlans = bridge.has_vlans;
        let bridge = bridge.link.index;
        let mut request = vec![0; NEIGHBOUR_HEADER];
        if let Some(family) = request.first_mut() {
            *family = family_of(neighbour);
        }
        if let Some(place) = request.get_mut(4..8) {
            place.copy_from_slice(&bridge.to_ne_bytes());
        }
        add(&mut request, NDA_DST, &octets(neighbour));
        let mac = self.one(GET_NEIGHBOUR, &request, |message| {
            (message.kind == NEW_NEIGHBOUR).then_some(())?;
            attribute(message.body, NEIGHBOUR_HEADER, NDA_LLADDR).map(<[u8]>::to_vec)
        })?;
        let Some(mac) = mac else {
            return Ok(None);
        };
        let mut request = vec![0; NEIGHBOUR_HEADER];
        if let Some(family) = request.first_mut() {
            *family = AF_BRIDGE;
        }
        add(&mut request, NDA_MASTER, &bridge.to_ne_bytes());
        let all = request.clone();
        add(&mut request, NDA_LLADDR, &mac);
        let port = self.one(GET_NEIGHBOUR, &request, |message| {
            (message.kind == NEW_NEIGHBOUR).then_some(())?;
            u32_at(message.body, 4)
        })?;
        // A bridge with VLANs knows it in one of those alone: whoever is at one port in all of them.
        match port {
            Some(port) => Ok(Some(port)),
            None if has_vlans => port_in_list(&all, bridge, &mac),
            None => Ok(None),
        }
    }

    /// Asks for one thing; none if there is no such thing.
    fn one<T>(
        &self,
        request: u16,
        body: &[u8],
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = &mut *asked;
        asked.sequence = asked.sequence.wrapping_add(1);
        let message = compose(request, REQUEST_ONE, asked.sequence, body);
        send(asked.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        loop {
            let length = match receive(&asked.socket, &mut asked.buffer) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(datagram) = asked.buffer.get(..length).filter(|it| it.len() >= HEADER) else {
                return Err(nonsense());
            };
            for message in Messages(datagram) {
                let message = message.map_err(|Cut| nonsense())?;
                // An answer that came late is told from the next by its number.
                if message.sequence != asked.sequence {
                    continue;
                }
                if message.kind != ERROR {
                    return Ok(read(message));
                }
                let code = u32_at(message.body, 0).unwrap_or(0).cast_signed();
                let error = io::Error::from_raw_os_error(code.saturating_neg());
                return match error.raw_os_error() {
                    Some(
                        libc::ENOENT
                        | libc::ENODEV
                        | libc::ESRCH
                        | libc::ENETUNREACH
                        | libc::EHOSTUNREACH
                        | libc::EACCES
                        | libc::EINVAL
                        | libc::EOPNOTSUPP,
                    ) => Ok(None),
                    _ => Err(error),
                };
            }
        }
    }
}

/// The one port of a bridge at which this hardware address is, in whatever VLAN.
fn port_in_list(request: &[u8], bridge: u32, mac: &[u8]) -> io::Result<Option<u32>> {
    let ports = list(
        "bridge's neighbours",
        GET_NEIGHBOUR,
        request,
        Vec::new,
        |ports: &mut Vec<u32>, message| {
            let of = |number| attribute(message.body, NEIGHBOUR_HEADER, number);
            if message.kind == NEW_NEIGHBOUR
                && of(NDA_LLADDR) == Some(mac)
                && of(NDA_MASTER).and_then(|it| u32_at(it, 0)) == Some(bridge)
            {
                ports.extend(u32_at(message.body, 4));
            }
        },
    )
    .map_err(io::Error::other)?;
    let first = ports.first().copied();
    Ok(first.filter(|first| ports.iter().all(|port| port == first)))
}

fn attribute(body: &[u8], header: usize, wanted: u16) -> Option<&[u8]> {
    let mut all = Attributes(body.get(header..)?);
    all.find_map(|(number, value)| (number == wanted).then_some(value))
}

fn add(request: &mut Vec<u8>, number: u16, value: &[u8]) {
    let length = value.len().saturating_add(4);
    request.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    request.extend(number.to_ne_bytes());
    request.extend(value);
    request.resize(align(request.len()), 0);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's answer is cut short or not understood",
    )
}
