//! Traffic that has nothing to do with mail, and how fast it goes: for ratios within one run.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Namespace, Place, process::run};

/// The port on which [`LoadSink`] takes everything.
pub const LOAD_PORT: u16 = 5201;

/// The largest write of a [`Load`].
const CHUNK: usize = 65_536;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// UDP packets with so many bytes of payload each, as fast as they go.
    Udp {
        /// Bytes of payload, at most 65,507.
        bytes: usize,
    },
    /// One TCP connection, as fast as it goes.
    Tcp,
    /// TCP connections, one after another, with nothing in them.
    Connects,
}

/// How fast it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Packets (UDP), writes (TCP) or connections that were sent.
    pub sent: u64,
    /// Packets or connections that arrived; for TCP, bytes.
    pub arrived: u64,
    /// How long it took.
    pub time: Duration,
}

impl Rate {
    /// What arrived in a second.
    #[must_use]
    pub fn arrived_per_second(&self) -> f64 {
        per_second(self.arrived, self.time)
    }

    /// What was sent in a second: over interfaces without queues, what each packet costs.
    #[must_use]
    pub fn sent_per_second(&self) -> f64 {
        per_second(self.sent, self.time)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates need no more digits")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Takes every load on [`LOAD_PORT`], both families, and counts it.
#[derive(Debug)]
pub struct LoadSink {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    packets: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    stop: AtomicBool,
}

impl LoadSink {
    /// Begins to listen in a network namespace.
    #[must_use]
    pub fn listen(namespace: &Namespace) -> Self {
        let (udp, tcp) = namespace.enter(|| {
            let address = (Ipv6Addr::UNSPECIFIED, LOAD_PORT);
            let udp = UdpSocket::bind(address).expect("nobody else is here");
            let tcp = TcpListener::bind(address).expect("nobody else is here");
            (udp, tcp)
        });
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .expect("any socket can have one");
        tcp.set_nonblocking(true)
            .expect("any socket can be non-blocking");
        let counts = Arc::new(Counts::default());
        let of = || Arc::clone(&counts);
        let (for_udp, for_tcp) = (of(), of());
        let threads = vec![
            thread::spawn(move || take_packets(&udp, &for_udp)),
            thread::spawn(move || take_connections(&tcp, &for_tcp)),
        ];
        Self { counts, threads }
    }

    /// Sends the load from a network namespace to this sink at `to`, for so long, and says how
    /// fast it went. One load at a time.
    #[must_use]
    pub fn measure(&self, from: &Namespace, to: IpAddr, load: Load, time: Duration) -> Rate {
        let to = SocketAddr::new(to, LOAD_PORT);
        let counter = match load {
            Load::Udp { .. } => &self.counts.packets,
            Load::Tcp => &self.counts.bytes,
            Load::Connects => &self.counts.connections,
        };
        let before = counter.load(Ordering::SeqCst);
        let (sent, time) = from
            .enter(|| send(to, load, time))
            .unwrap_or_else(|error| panic!("{load:?} to {to}: {error}"));
        // What is on its way arrives.
        thread::sleep(Duration::from_millis(100));
        Rate {
            sent,
            arrived: counter.load(Ordering::SeqCst) - before,
            time,
        }
    }
}

/// How many nanoseconds of `place` one unit of the load costs: packets or connections sent by a
/// process there, to [`LOAD_PORT`] at `to`.
#[must_use]
pub fn cost_at(place: &Place, program: &Path, to: IpAddr, load: Load, time: Duration) -> f64 {
    let kind = match load {
        Load::Udp { .. } => "udp",
        Load::Tcp => "tcp",
        Load::Connects => "connects",
    };
    let mut command = place.command(program);
    command.args([
        SocketAddr::new(to, LOAD_PORT).to_string(),
        kind.to_owned(),
        time.as_millis().to_string(),
    ]);
    let output = run(&mut command, "").success("limiter-load");
    let mut numbers = output
        .stdout
        .split_whitespace()
        .map(|number| number.parse::<f64>().expect("two numbers are printed"));
    let (sent, took) = (numbers.next(), numbers.next());
    took.expect("the time") / sent.expect("the count").max(1.0)
}

impl Drop for LoadSink {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic inside shows in the rates.
            let _ = thread.join();
        }
    }
}

/// Sends the load for so long: how much was sent, and how long it took.
///
/// # Errors
/// What the system says.
pub fn send(to: SocketAddr, load: Load, time: Duration) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let mut sent = 0;
    match load {
        Load::Udp { bytes } => {
            let any: IpAddr = if to.is_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            let packet = vec![0x55; bytes];
            while start.elapsed() < time {
                // The clock is not asked for every packet.
                for _ in 0..64 {
                    match socket.send(&packet) {
                        Ok(_) => sent += 1,
                        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Load::Tcp => {
            let mut stream = TcpStream::connect(to)?;
            let chunk = vec![0x55; CHUNK];
            while start.elapsed() < time {
                stream.write_all(&chunk)?;
                sent += 1;
            }
        }
        Load::Connects => {
            while start.elapsed() < time {
                let stream = TcpStream::connect(to)?;
                // Close with a reset, so as not to run out of ports.
                nix::sys::socket::setsockopt(
                    &stream,
                    nix::sys::socket::sockopt::Linger,
                    &libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    },
                )?;
                sent += 1;
            }
        }
    }
    Ok((sent, start.elapsed()))
}

fn take_packets(socket: &UdpSocket, counts: &Counts) {
    let mut buffer = vec![0; CHUNK];
    while !counts.stop.load(Ordering::Relaxed) {
        // Nothing for a while: look whether to stop.
        if socket.recv(&mut buffer).is_ok() {
            counts.packets.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn take_connections(listener: &TcpListener, counts: &Arc<Counts>) {
    while !counts.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(counts);
                // It ends when the other side closes.
                thread::spawn(move || take_bytes(stream, &counts));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            // Reset before it was accepted: it came nevertheless.
            Err(_) => {
                counts.connections.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn take_bytes(mut stream: TcpStream, counts: &Counts) {
    let mut buffer = vec![0; CHUNK];
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        counts.bytes.fetch_add(length, Ordering::SeqCst);
    }
}
