//! What really arrives outside: every frame, before any filter, whatever anybody says was sent.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use crate::{
    Namespace,
    packet_socket::{FRAME_ROOM, PacketSocket},
    wait,
};

/// How much of a frame is kept.
const KEPT: usize = 2_048;

/// A frame that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it came from, as far as it can be read: port 0 if it has none.
    pub from: SocketAddr,
    /// Where it went.
    pub to: SocketAddr,
    /// The protocol above IP: 6 is TCP, 17 UDP.
    pub protocol: u8,
    /// A TCP segment with SYN and without ACK.
    pub syn: bool,
    /// A TCP segment with RST.
    pub reset: bool,
    /// Bytes behind the TCP or UDP header.
    pub payload: usize,
    /// Where in its packet this fragment belongs; `None` if it is no fragment.
    pub fragment: Option<u16>,
    /// The first bytes of the frame.
    pub bytes: Vec<u8>,
}

/// What arrives in a network namespace, on every interface but loopback, from its making on.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// Frames that are no IP: neighbours that look for each other, and what cannot be read.
    other: Mutex<Vec<Vec<u8>>>,
    /// How often there was nothing left to read.
    idle: AtomicU64,
    stop: AtomicBool,
}

impl Capture {
    /// Begins to watch.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let (socket, loopback) = namespace.enter(|| {
            let socket = PacketSocket::open(None).expect("root may watch");
            let loopback = crate::packet_socket::index_of("lo").expect("there always is one");
            (socket, loopback)
        });
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || watch(&socket, loopback, &shared))
        };
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits until everything that has arrived is read, and says how much it is: [`Self::since`]
    /// takes it.
    #[must_use]
    pub fn mark(&self) -> usize {
        let idle = || self.shared.idle.load(Ordering::SeqCst);
        // What was sent just now may be on its way still.
        thread::sleep(Duration::from_millis(3));
        let before = idle();
        wait::until_true("the capture to catch up", wait::SOON, || {
            idle() > before + 1
        });
        self.seen().len()
    }

    /// What arrived after the mark was taken.
    #[must_use]
    pub fn since(&self, mark: usize) -> Traffic {
        let _ = self.mark();
        let seen = self.seen();
        Traffic {
            seen: seen.get(mark..).unwrap_or_default().to_vec(),
        }
    }

    /// Everything that arrived.
    #[must_use]
    pub fn all(&self) -> Traffic {
        self.since(0)
    }

    /// Frames to this port: SYNs, payload, first fragments, anything.
    #[must_use]
    pub fn reached(&self, port: u16) -> usize {
        self.all().reached(port)
    }

    /// Bytes of TCP payload to port 25.
    #[must_use]
    pub fn smtp_bytes(&self) -> usize {
        self.all().bytes_to(25)
    }

    /// Frames that are no IP, the search for neighbours (ARP) left out.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        let _ = self.mark();
        self.shared
            .other
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic inside has failed what asked the capture already.
            let _ = thread.join();
        }
    }
}

/// Some of what arrived.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    seen: Vec<Seen>,
}

impl Traffic {
    /// The frames.
    #[must_use]
    pub fn frames(&self) -> &[Seen] {
        &self.seen
    }

    /// Only what this tells of.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Seen) -> bool) -> Self {
        self.seen.retain(keep);
        self
    }

    /// Frames to this port that are no resets.
    #[must_use]
    pub fn reached(&self, port: u16) -> usize {
        let to = |seen: &&Seen| seen.to.port() == port && !seen.reset;
        self.seen.iter().filter(to).count()
    }

    /// SYNs to this port.
    #[must_use]
    pub fn syns(&self, port: u16) -> usize {
        let to = |seen: &&Seen| seen.to.port() == port && seen.syn;
        self.seen.iter().filter(to).count()
    }

    /// Fragments behind the first of a TCP packet: they have no port.
    #[must_use]
    pub fn later_fragments(&self) -> usize {
        let later = |seen: &&Seen| {
            seen.protocol == IpNumber::TCP.0 && seen.fragment.is_some_and(|offset| offset > 0)
        };
        self.seen.iter().filter(later).count()
    }

    /// Bytes of payload to this port, in first fragments and whole packets.
    #[must_use]
    pub fn bytes_to(&self, port: u16) -> usize {
        let to = self.seen.iter().filter(|seen| seen.to.port() == port);
        to.map(|seen| seen.payload).sum()
    }

    /// Whether any frame holds these bytes, wherever.
    #[must_use]
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.seen.iter().any(|seen| holds(&seen.bytes, bytes))
    }
}

fn holds(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}

fn watch(socket: &PacketSocket, loopback: i32, shared: &Shared) {
    let mut buffer = vec![0; FRAME_ROOM];
    while !shared.stop.load(Ordering::Relaxed) {
        match socket.receive(&mut buffer).expect("the socket can be read") {
            Some((_, origin)) if origin.outgoing || origin.ifindex == loopback => {}
            Some((length, _)) => keep(&buffer[..length], shared),
            None => {
                shared.idle.fetch_add(1, Ordering::SeqCst);
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                // Interrupted or not, the next round looks.
                let _ = poll(&mut fds, PollTimeout::from(2_u8));
            }
        }
    }
}

fn keep(frame: &[u8], shared: &Shared) {
    const ARP: [u8; 2] = [8, 6];
    match read(frame) {
        Some(seen) => shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen),
        None if frame.get(12..14) == Some(&ARP) => {}
        None => shared
            .other
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(frame[..frame.len().min(KEPT)].to_vec()),
    }
}

/// What the frame is, if it is IP.
fn read(frame: &[u8]) -> Option<Seen> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (from, to, protocol, fragment, rest): (IpAddr, IpAddr, _, _, _) =
        match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let offset = header.fragments_offset().value();
                let is_fragment = header.more_fragments() || offset > 0;
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload().ip_number,
                    is_fragment.then_some(offset * 8),
                    ip.payload().payload,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let fragment = ip
                    .extensions()
                    .clone()
                    .into_iter()
                    .find_map(|part| match part {
                        Ipv6ExtensionSlice::Fragment(part) if part.is_fragmenting_payload() => {
                            Some(part.fragment_offset().value() * 8)
                        }
                        _ => None,
                    });
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload().ip_number,
                    fragment,
                    ip.payload().payload,
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
    let mut seen = Seen {
        from: SocketAddr::new(from, 0),
        to: SocketAddr::new(to, 0),
        protocol: protocol.0,
        syn: false,
        reset: false,
        payload: 0,
        fragment,
        bytes: frame[..frame.len().min(KEPT)].to_vec(),
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            seen.from.set_port(tcp.source_port());
            seen.to.set_port(tcp.destination_port());
            seen.syn = tcp.syn() && !tcp.ack();
            seen.reset = tcp.rst();
            seen.payload = tcp.payload().len();
        }
        Some(TransportSlice::Udp(udp)) => {
            seen.from.set_port(udp.source_port());
            seen.to.set_port(udp.destination_port());
            seen.payload = udp.payload().len();
        }
        // A first fragment shows the ports, and perhaps more.
        _ if fragment.unwrap_or(0) == 0 && [IpNumber::TCP, IpNumber::UDP].contains(&protocol) => {
            if let Some(&[a, b, c, d]) = rest.get(..4) {
                seen.from.set_port(u16::from_be_bytes([a, b]));
                seen.to.set_port(u16::from_be_bytes([c, d]));
            }
            if protocol == IpNumber::TCP
                && let (Some(flags), Some(words)) = (rest.get(13), rest.get(12))
            {
                seen.syn = flags & 0x12 == 2;
                seen.reset = flags & 4 != 0;
                seen.payload = rest.len().saturating_sub(usize::from(words >> 4) * 4);
            }
        }
        _ => {}
    }
    Some(seen)
}
