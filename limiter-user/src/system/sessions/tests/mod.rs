//! Real sessions, in network namespaces of their own.

mod elsewhere;
mod here;
mod inside;
mod owners;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// How soon a program must know that its session was cut.
const SOON: Duration = Duration::from_millis(200);

/// Tries until it was soon enough, for this machine may be busy with other things.
fn must_be_soon(what: &str, limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut all = Vec::new();
    for _ in 0..8 {
        let took = attempt();
        if took < limit {
            return;
        }
        all.push(took);
    }
    panic!("{what}: {all:?}");
}

/// An address at any free port.
fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

/// A TCP or MPTCP socket that listens.
fn listener(address: SocketAddr, protocol: i32) -> TcpListener {
    let socket = socket(address, protocol);
    let address = nix::sys::socket::SockaddrStorage::from(address);
    nix::sys::socket::bind(socket.as_raw_fd(), &address).unwrap();
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::MAXCONN).unwrap();
    TcpListener::from(socket)
}

/// A connected TCP or MPTCP socket. IPv4 over IPv6 is dialled as it is written.
fn dial(address: SocketAddr, protocol: i32) -> io::Result<TcpStream> {
    let socket = socket(address, protocol);
    let address = nix::sys::socket::SockaddrStorage::from(address);
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    Ok(TcpStream::from(socket))
}

fn socket(address: SocketAddr, protocol: i32) -> OwnedFd {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: takes numbers.
    let raw = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    assert!(raw >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Both ends of a session, on loopback.
struct Session {
    client: TcpStream,
    server: TcpStream,
    listener: TcpListener,
}

impl Session {
    fn open(at: SocketAddr, dialled: &str, protocol: i32) -> Self {
        let listener = listener(at, protocol);
        let port = listener.local_addr().unwrap().port();
        let address = SocketAddr::new(dialled.parse().unwrap(), port);
        let client = dial(address, protocol).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut session = Self {
            client,
            server,
            listener,
        };
        session.must_live();
        session
    }

    fn tcp(ip: &str) -> Self {
        Self::open(at(ip), ip, libc::IPPROTO_TCP)
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Says something in both directions.
    fn must_live(&mut self) {
        let mut heard = [0; 4];
        self.client.write_all(b"EHLO").unwrap();
        self.server.read_exact(&mut heard).unwrap();
        self.server.write_all(b"250 ").unwrap();
        self.client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"250 ");
    }

    /// Cuts the client's side while the client waits for the server, and says what both saw, and
    /// how soon the client did.
    fn cut(&mut self) -> (CutReport, io::Error, Option<io::Error>, Duration) {
        let port = self.port();
        let mut waiting = self.client.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let end = waiting.read(&mut [0]);
            (end, Instant::now())
        });
        thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        let report = cut(Where::OwnOnly, |facts| facts.remote.port() == port).unwrap();
        let (end, when) = reader.join().unwrap();
        let soon = when.duration_since(start);
        // A wait that ended without an error: what is written next says it.
        let client = end
            .err()
            .unwrap_or_else(|| self.client.write(b"MAIL").expect_err("the session is over"));
        self.server
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let server = self.server.read(&mut [0]).err();
        (report, client, server, soon)
    }
}
