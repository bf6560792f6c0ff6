//! A mixture of everything that is no mail, the same for whoever sends it and whoever looks at what
//! arrives.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt,
    socket,
    sockopt::{RcvBufForce, UdpGsoSegment},
};

use crate::{
    Namespace,
    forge::{
        Rng,
        build::{Part, authentication, extension, fragment, gre, ipv4, ipv6, tcp, udp},
    },
};

/// Streams go to these ports: the last one is of mail readers.
const STREAMS: [u16; 4] = [80, 443, 2525, 993];
/// Bytes of a stream: the stack hands them on in pieces of 64 KiB.
const STREAM: usize = 400_000;
/// Datagrams go to these ports: of mail they would be by TCP alone.
const DATAGRAMS: [u16; 3] = [53, 25, 587];
/// How large they are; what is larger than a packet the stack sends in fragments.
const SIZES: [usize; 9] = [0, 1, 12, 100, 1_000, 1_400, 1_473, 9_000, 60_000];
/// Many datagrams by one call, cut by the stack or the device.
const SEGMENT: u16 = 1_200;
const SEGMENTS: usize = 40;

/// The stream to a port.
#[must_use]
pub fn stream(port: u16) -> Vec<u8> {
    Rng::new(port.into()).bytes(STREAM)
}

/// The datagrams to a port, one by one, in the order in which they are sent.
#[must_use]
pub fn datagrams(port: u16) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(port.into());
    let mut all: Vec<Vec<u8>> = SIZES.iter().map(|size| rng.bytes(*size)).collect();
    all.extend((0..SEGMENTS).map(|_| rng.bytes(SEGMENT.into())));
    all
}

/// Packets made by hand, whole: fragments in any order, options, other protocols.
#[must_use]
pub fn packets(from: IpAddr, to: IpAddr) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(9);
    let mut data = |count| rng.bytes(count);
    let mut other_flags = tcp(80, &data(700));
    other_flags[13] = 0x19;
    let mut no_flags = tcp(2525, &data(3));
    no_flags[13] = 0;
    // Protocol and content. No datagram goes where one is taken.
    let mut plain = vec![
        (17, udp(5353, &data(64))),
        (17, udp(465, &data(64))),
        (17, udp(465, &[])),
        (6, tcp(443, &[])),
        (6, tcp(8080, &data(99))),
        (6, other_flags),
        (6, no_flags),
        (47, gre(0, 0x0800, &data(60))),
        (50, data(80)),
        (51, authentication(6, 2, &tcp(443, &data(20)))),
        (89, data(44)),
        (132, data(52)),
        (99, data(1)),
    ];
    let cut = [(17, udp(5353, &data(400))), (6, tcp(443, &data(400)))];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            plain.push((1, [&[8, 0, 0, 0, 0, 1, 0, 25][..], &data(56)].concat()));
            plain.push((
                4,
                ipv4(&[], 6, to.octets(), Part::default(), &tcp(443, &[])),
            ));
            let mut made = Vec::new();
            let mut id = 1;
            let mut add = |options: &[u8], protocol, part: Part, content: &[u8]| {
                let mut packet = ipv4(options, protocol, to.octets(), part, content);
                packet[12..16].copy_from_slice(&from.octets());
                made.push(packet);
            };
            for (protocol, content) in &plain {
                for options in [&[][..], &[1, 1, 1, 0]] {
                    let part = Part {
                        id,
                        ..Part::default()
                    };
                    add(options, *protocol, part, content);
                    id += 1;
                }
            }
            for (protocol, content) in &cut {
                for (part, bytes) in parts(id, content) {
                    add(&[], *protocol, part, bytes);
                }
                id += 1;
            }
            made
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            plain.push((58, [&[128, 0, 0, 0, 0, 1, 0, 25][..], &data(56)].concat()));
            let mut made = Vec::new();
            let mut add = |next, content: &[u8]| {
                let mut packet = ipv6(next, content);
                packet[8..24].copy_from_slice(&from.octets());
                packet[24..40].copy_from_slice(&to.octets());
                made.push(packet);
            };
            for (protocol, content) in &plain {
                add(*protocol, content);
                add(60, &extension(*protocol, 1, content));
                add(0, &extension(60, 0, &extension(*protocol, 0, content)));
            }
            for (at, (protocol, content)) in (100..).zip(&cut) {
                for (part, bytes) in parts(at, content) {
                    add(44, &fragment(*protocol, part, bytes));
                }
            }
            made
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// A packet's content in three fragments, the middle one first.
fn parts(id: u16, content: &[u8]) -> [(Part, &[u8]); 3] {
    [(160, 320), (0, 160), (320, content.len())].map(|(first, last)| {
        let part = Part {
            id,
            offset: first,
            more: last < content.len(),
        };
        (part, &content[first..last])
    })
}

/// A packet as it arrives anywhere: without what every router and every stack may change.
#[must_use]
pub fn normal(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match packet.first().map(|byte| byte >> 4) {
        // Time to live, checksum.
        Some(4) if packet.len() >= 20 => {
            for at in [8, 10, 11] {
                packet[at] = 0;
            }
        }
        // Hop limit.
        Some(6) if packet.len() >= 40 => packet[7] = 0,
        _ => {}
    }
    packet
}

/// Sends it all to `to`; packets made by hand too if `from`, an own address, is given.
///
/// # Errors
/// What the system says to anything of it.
pub fn send(to: IpAddr, from: Option<IpAddr>) -> io::Result<()> {
    for port in STREAMS {
        let mut stream_to = TcpStream::connect((to, port))?;
        stream_to.write_all(&stream(port))?;
    }
    for port in DATAGRAMS {
        send_datagrams(SocketAddr::new(to, port))?;
    }
    if let Some(from) = from {
        send_packets(from, to)?;
    }
    Ok(())
}

fn send_datagrams(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let all = datagrams(to.port());
    let (single, together) = all.split_at(SIZES.len());
    for datagram in single {
        socket.send(datagram)?;
    }
    setsockopt(&socket, UdpGsoSegment, &i32::from(SEGMENT))?;
    socket.send(&together.concat())?;
    Ok(())
}

fn send_packets(from: IpAddr, to: IpAddr) -> io::Result<()> {
    let family = if to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let raw: OwnedFd = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    for packet in packets(from, to) {
        sendto(raw.as_raw_fd(), &packet, &address, MsgFlags::empty())?;
    }
    Ok(())
}

/// Takes streams and datagrams of mixtures, both families.
#[derive(Debug)]
pub struct Taker {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By port; streams that have ended.
    streams: Mutex<Vec<(u16, Vec<u8>)>>,
    datagrams: Mutex<Vec<(u16, Vec<u8>)>>,
    stop: AtomicBool,
}

impl Taker {
    /// Begins to listen.
    #[must_use]
    pub fn listen(namespace: &Namespace) -> Self {
        let shared = Arc::new(Shared::default());
        let any = Ipv6Addr::UNSPECIFIED;
        let mut threads = Vec::new();
        for port in STREAMS {
            let listener = namespace.enter(|| TcpListener::bind((any, port)));
            let listener = listener.expect("nobody else is here");
            listener
                .set_nonblocking(true)
                .expect("any socket can be non-blocking");
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || {
                take_streams(&listener, port, &shared);
            }));
        }
        for port in DATAGRAMS {
            let socket = namespace.enter(|| UdpSocket::bind((any, port)));
            let socket = socket.expect("nobody else is here");
            setsockopt(&socket, RcvBufForce, &(8 << 20)).expect("root may force it");
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("any socket can have one");
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || {
                take_datagrams(&socket, port, &shared);
            }));
        }
        Self { shared, threads }
    }

    /// Whether everything of one mixture has come, as much as was sent of it.
    #[must_use]
    pub fn has_all(&self) -> bool {
        let streams = lock(&self.shared.streams).len();
        let datagrams = lock(&self.shared.datagrams).len();
        streams >= STREAMS.len() && datagrams >= DATAGRAMS.len() * (SIZES.len() + SEGMENTS)
    }

    /// Takes what has come, and fails unless it is one mixture, byte by byte.
    #[track_caller]
    pub fn expect_one(&self, who: &str) {
        let streams = std::mem::take(&mut *lock(&self.shared.streams));
        for port in STREAMS {
            let came: Vec<_> = streams.iter().filter(|(at, _)| *at == port).collect();
            let [(_, bytes)] = came[..] else {
                panic!("{who}: {} streams to port {port}", came.len());
            };
            assert!(*bytes == stream(port), "{who}: the stream to port {port}");
        }
        let all = std::mem::take(&mut *lock(&self.shared.datagrams));
        for port in DATAGRAMS {
            let of_port = all.iter().filter(|(at, _)| *at == port);
            let mut came: Vec<Vec<u8>> = of_port.map(|(_, bytes)| bytes.clone()).collect();
            let mut sent = datagrams(port);
            came.sort();
            sent.sort();
            assert_eq!(came.len(), sent.len(), "{who}: datagrams to port {port}");
            assert!(came == sent, "{who}: the datagrams to port {port}");
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic inside shows in what has come.
            let _ = thread.join();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_streams(listener: &TcpListener, port: u16, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let mut bytes = Vec::new();
                let waits = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))));
                // What was cut off is shorter, and that is seen.
                let _ = waits.and_then(|()| stream.read_to_end(&mut bytes));
                lock(&shared.streams).push((port, bytes));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(_) => return,
        }
    }
}

fn take_datagrams(socket: &UdpSocket, port: u16, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.stop.load(Ordering::Relaxed) {
        // Nothing for a while: look whether to stop.
        if let Ok(length) = socket.recv(&mut buffer) {
            lock(&shared.datagrams).push((port, buffer[..length].to_vec()));
        }
    }
}
