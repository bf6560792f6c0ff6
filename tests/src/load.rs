//! Traffic that has nothing to do with mail, and how fast it goes: for ratios within one run.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        socket::{Backlog, MsgFlags, listen, recv, setsockopt, sockopt::Linger},
        time::TimeValLike as _,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::{Namespace, Place, bulk, refused::Refused};

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
    /// Messages, one after another in one session with a mail server: see [`crate::bulk`].
    Mail,
    /// TCP connections that are refused at once, one after another.
    Refusals {
        /// At most so many a second.
        per_second: u64,
        /// By users with this uid and the next ones, by turns: so many. Whoever sends is root.
        by: (u32, u32),
    },
}

impl Load {
    /// What it is called on the command line.
    fn name(self) -> String {
        match self {
            Self::Udp { .. } => "udp".to_owned(),
            Self::Tcp => "tcp".to_owned(),
            Self::Connects => "connects".to_owned(),
            Self::Mail => "mail".to_owned(),
            Self::Refusals {
                per_second,
                by: (first, count),
            } => format!("refusals={per_second},{first},{count}"),
        }
    }
}

/// What was sent, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Packets (UDP), writes (TCP) or connections.
    pub count: u64,
    /// How long it took.
    pub time: Duration,
    /// For how long the sender had a CPU in that time, interrupts in between included.
    pub cpu: Duration,
    /// How many were sent before, to warm up.
    pub warm: u64,
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
    cpu_ns: AtomicU64,
    stop: AtomicBool,
}

impl LoadSink {
    /// Begins to listen in a network namespace.
    #[must_use]
    pub fn listen(namespace: &Namespace) -> Self {
        Self::with(namespace, || {})
    }

    /// The same, on the CPU that [`Loader`]s send on: what one sends and the other takes is then
    /// done one after the other, and always in the same way.
    #[must_use]
    pub fn listen_beside_loaders(namespace: &Namespace) -> Self {
        Self::with(namespace, || {
            stay_on_one_cpu().expect("any thread may choose its CPU");
        })
    }

    fn with(namespace: &Namespace, prepare: impl FnOnce() + Send + 'static) -> Self {
        let (udp, tcp) = namespace.enter(|| {
            let address = (Ipv6Addr::UNSPECIFIED, LOAD_PORT);
            let udp = UdpSocket::bind(address).expect("nobody else is here");
            let tcp = TcpListener::bind(address).expect("nobody else is here");
            // Whoever connects is never to wait.
            let most = Backlog::new(4096).expect("a number");
            listen(&tcp, most).expect("it may wait for more");
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
            thread::spawn(move || {
                prepare();
                take_connections(&tcp, &for_tcp);
            }),
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
            Load::Connects | Load::Mail | Load::Refusals { .. } => &self.counts.connections,
        };
        let before = counter.load(Ordering::SeqCst);
        let sent = from
            .enter(|| send(to, load, Duration::ZERO, time))
            .unwrap_or_else(|error| panic!("{load:?} to {to}: {error}"));
        // What is on its way arrives.
        thread::sleep(Duration::from_millis(100));
        Rate {
            sent: sent.count,
            arrived: counter.load(Ordering::SeqCst) - before,
            time: sent.time,
        }
    }

    /// For how long it had a CPU for what came by TCP.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.counts.cpu_ns.load(Ordering::SeqCst))
    }

    /// Connections that came so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Bytes that came by TCP so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }
}

/// A process that sends a load whenever it is told: `limiter-load`. Killed when dropped.
#[derive(Debug)]
pub struct Loader {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Loader {
    /// Starts it at `place`; it sends to `to`, on the last CPU that it may run on.
    #[must_use]
    pub fn start(place: &Place, program: &Path, to: SocketAddr, load: Load) -> Self {
        let mut child = place
            .command(program)
            .args([to.to_string(), load.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let orders = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self {
            child,
            orders,
            answers,
        }
    }

    /// Lets it send for `warm`, and then for `time`, which is what it tells of. Its sockets are new.
    pub fn send(&mut self, warm: Duration, time: Duration) -> Sent {
        self.begin(warm, time);
        self.end()
    }

    /// The same, and does not wait for the end.
    pub fn begin(&mut self, warm: Duration, time: Duration) {
        writeln!(self.orders, "{} {}", warm.as_micros(), time.as_micros()).expect("it listens");
    }

    /// Waits for the end of what [began](Self::begin).
    pub fn end(&mut self) -> Sent {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [count, time, cpu, warm] = numbers[..] else {
            panic!("limiter-load says {line:?}");
        };
        Sent {
            count,
            time: Duration::from_nanos(time),
            cpu: Duration::from_nanos(cpu),
            warm,
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `limiter-load` does: sends the load as often and as long as the lines of `orders` say
/// (microseconds to warm up, microseconds that count), and answers with the count, the time and the
/// CPU time, ns, and the count while it warmed up.
///
/// # Errors
/// What the system says.
pub fn obey(
    to: SocketAddr,
    load: Load,
    orders: impl io::BufRead,
    mut answers: impl Write,
) -> io::Result<()> {
    stay_on_one_cpu()?;
    for line in orders.lines() {
        let line = line?;
        let mut times = line
            .split_whitespace()
            .map(|word| word.parse().map(Duration::from_micros));
        let (Some(Ok(warm)), Some(Ok(time))) = (times.next(), times.next()) else {
            return Err(io::Error::other(format!("two numbers, not {line:?}")));
        };
        let sent = send(to, load, warm, time)?;
        let (took, cpu) = (sent.time.as_nanos(), sent.cpu.as_nanos());
        writeln!(answers, "{} {took} {cpu} {}", sent.count, sent.warm)?;
    }
    Ok(())
}

pub(crate) fn stay_on_one_cpu() -> io::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.unwrap_or(0))?;
    Ok(sched_setaffinity(this, &one)?)
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

/// Sends the load for `warm`, and then for `time`, which is what it tells of.
///
/// # Errors
/// What the system says.
pub fn send(to: SocketAddr, load: Load, warm: Duration, time: Duration) -> io::Result<Sent> {
    match load {
        Load::Udp { bytes } => {
            let any: IpAddr = if to.is_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                Ipv4Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            let packet = vec![0x55; bytes];
            go_on(warm, time, || {
                let mut sent = 0;
                // The clock is not asked for every packet.
                for _ in 0..64 {
                    match socket.send(&packet) {
                        Ok(_) => sent += 1,
                        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(sent)
            })
        }
        Load::Tcp => {
            let mut stream = TcpStream::connect(to)?;
            let chunk = vec![0x55; CHUNK];
            go_on(warm, time, || stream.write_all(&chunk).map(|()| 1))
        }
        Load::Connects => go_on(warm, time, || {
            let stream = TcpStream::connect(to)?;
            // Close with a reset, so as not to run out of ports.
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&stream, Linger, &linger)?;
            Ok(1)
        }),
        Load::Mail => {
            let mut session = bulk::Session::open(to)?;
            // Of whom no more is taken has a session that ends.
            go_on(warm, time, || Ok(u64::from(session.message().is_ok())))
        }
        Load::Refusals { per_second, by } => {
            let mut refused = Refused::new(to, per_second, by);
            go_on(warm, time, || refused.some())
        }
    }
}

/// Takes steps, each of which says how many units it was.
fn go_on(
    warm: Duration,
    time: Duration,
    mut step: impl FnMut() -> io::Result<u64>,
) -> io::Result<Sent> {
    let start = Instant::now();
    let mut warmed = 0;
    while start.elapsed() < warm {
        warmed += step()?;
    }
    let (start, before) = (Instant::now(), cpu_time()?);
    let mut count = 0;
    while start.elapsed() < time {
        count += step()?;
    }
    Ok(Sent {
        count,
        time: start.elapsed(),
        cpu: cpu_time()?.saturating_sub(before),
        warm: warmed,
    })
}

/// For how long this thread had a CPU.
///
/// # Errors
/// What the system says.
pub fn cpu_time() -> io::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let ns = u64::try_from(time.num_nanoseconds()).unwrap_or(0);
    Ok(Duration::from_nanos(ns))
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

/// One thread for all connections, so that whoever connects never waits for one to begin.
fn take_connections(listener: &TcpListener, counts: &Counts) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut buffer = vec![0; CHUNK * 4];
    while !counts.stop.load(Ordering::Relaxed) {
        let mut waiting = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        waiting.extend(
            streams
                .iter()
                .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)),
        );
        // Nothing for a while: look whether to stop.
        if poll(&mut waiting, 50_u16).is_err() {
            continue;
        }
        let ready: Vec<bool> = waiting
            .iter()
            .map(|one| one.any().unwrap_or(false))
            .collect();
        let mut at = ready.iter().skip(1);
        streams.retain(|stream| {
            !at.next().copied().unwrap_or(false) || take_bytes(stream, &mut buffer, counts)
        });
        if ready.first() == Some(&true) {
            accept_all(listener, &mut streams, counts);
        }
        let cpu = cpu_time().expect("every thread has a clock").as_nanos();
        let cpu = u64::try_from(cpu).unwrap_or(u64::MAX);
        counts.cpu_ns.store(cpu, Ordering::SeqCst);
    }
}

fn accept_all(listener: &TcpListener, streams: &mut Vec<TcpStream>, counts: &Counts) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                if stream.set_nonblocking(true).is_ok() {
                    streams.push(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // Reset before it was accepted: it came nevertheless.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                counts.connections.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => return,
        }
    }
}

/// Takes what is there and throws it away unread; `false` when there will be no more.
fn take_bytes(stream: &TcpStream, buffer: &mut [u8], counts: &Counts) -> bool {
    match recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
        Ok(0) => false,
        Ok(length) => {
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            counts.bytes.fetch_add(length, Ordering::SeqCst);
            true
        }
        Err(error) => matches!(error, Errno::EAGAIN | Errno::EINTR),
    }
}
