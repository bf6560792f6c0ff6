//! A server that counts who comes: every completed connection, exactly once.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{Backlog, SockaddrIn6, bind, listen, setsockopt, sockopt},
};

use crate::{Namespace, wait};

/// A completed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Who came.
    pub from: SocketAddr,
    /// Which of the server's addresses was dialled.
    pub to: SocketAddr,
}

/// A server on every address of a network namespace, both families. It greets, and says no more
/// unless it is one for mail.
#[derive(Debug)]
pub struct Sink {
    visits: Arc<Mutex<Vec<Visit>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A server on these ports, greeting in the name of `host`.
    #[must_use]
    pub fn listen(namespace: &Namespace, ports: &[u16], host: &str) -> Self {
        Self::start(namespace, ports, host, false, plain)
    }

    /// The same, and it answers a whole SMTP session: every message is welcome, and forgotten.
    #[must_use]
    pub fn mail(namespace: &Namespace, ports: &[u16], host: &str) -> Self {
        Self::start(namespace, ports, host, true, plain)
    }

    /// The same, for those who come by Multipath TCP, too.
    #[must_use]
    pub fn multipath_mail(namespace: &Namespace, ports: &[u16], host: &str) -> Self {
        Self::start(namespace, ports, host, true, multipath)
    }

    fn start(
        namespace: &Namespace,
        ports: &[u16],
        host: &str,
        answers: bool,
        listener: fn(u16) -> io::Result<TcpListener>,
    ) -> Self {
        let listeners: Vec<_> = namespace.enter(|| {
            let listen = |port: &u16| {
                listener(*port)
                    .unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"))
            };
            ports.iter().map(listen).collect()
        });
        for listener in &listeners {
            listener
                .set_nonblocking(true)
                .expect("any socket can be non-blocking");
        }
        let visits = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let greeting = format!("220 {host} ESMTP\r\n");
        let thread = {
            let (visits, stop) = (Arc::clone(&visits), Arc::clone(&stop));
            thread::spawn(move || serve(&listeners, &greeting, answers, &visits, &stop))
        };
        Self {
            visits,
            stop,
            thread: Some(thread),
        }
    }

    /// Everybody who came so far.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().expect("nobody panics inside").clone()
    }

    /// How many came so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.visits.lock().expect("nobody panics inside").len()
    }

    /// How many came so far to `port`.
    #[must_use]
    pub fn count_at(&self, port: u16) -> usize {
        let at = |visit: &&Visit| visit.to.port() == port;
        self.visits().iter().filter(at).count()
    }

    /// How many came, once nobody new has come for a tenth of a second.
    #[must_use]
    pub fn settled(&self) -> usize {
        let mut last = (self.count(), Instant::now());
        wait::until("the sink to settle", Duration::from_secs(30), || {
            let now = self.count();
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() > Duration::from_millis(100)).then_some(now)
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic inside has failed what asked the sink already.
            let _ = thread.join();
        }
    }
}

fn serve(
    listeners: &[TcpListener],
    greeting: &str,
    answers: bool,
    visits: &Mutex<Vec<Visit>>,
    stop: &AtomicBool,
) {
    let mut open: Vec<Guest> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for listener in listeners {
            while let Some((stream, visit)) = accept(listener) {
                visits.lock().expect("nobody panics inside").push(visit);
                open.extend(greet(stream, greeting, answers));
            }
        }
        open.retain_mut(Guest::attend);
        let sockets = listeners
            .iter()
            .map(AsFd::as_fd)
            .chain(open.iter().map(|guest| guest.stream.as_fd()));
        let mut fds: Vec<_> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
            .collect();
        // Interrupted or not, the next round looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(20_u8));
    }
}

/// The next one who came, if there is one. Who left before being accepted has come nevertheless:
/// accept returns it all the same.
fn accept(listener: &TcpListener) -> Option<(TcpStream, Visit)> {
    match listener.accept() {
        Ok((stream, from)) => {
            let to = stream.local_addr().unwrap_or(from);
            let visit = Visit {
                from: canonical(from),
                to: canonical(to),
            };
            Some((stream, visit))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            None
        }
        Err(error) => panic!("accept: {error}"),
    }
}

/// Greets, and keeps the connection until the other side closes it: closing first would reset
/// what the other side has sent unasked.
fn greet(mut stream: TcpStream, greeting: &str, answers: bool) -> Option<Guest> {
    stream.set_nonblocking(true).ok()?;
    stream.write_all(greeting.as_bytes()).ok()?;
    Some(Guest {
        stream,
        answers,
        said: Vec::new(),
        in_message: false,
    })
}

/// Somebody who is connected.
struct Guest {
    stream: TcpStream,
    answers: bool,
    /// The beginning of a line.
    said: Vec<u8>,
    in_message: bool,
}

impl Guest {
    /// Reads what was said, and answers if this is a server that does. Whether the other side is
    /// still there.
    fn attend(&mut self) -> bool {
        let mut buffer = [0_u8; 65_536];
        let length = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if !self.answers {
            return true;
        }
        self.said.extend_from_slice(&buffer[..length]);
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            let Some(answer) = self.answer(&line) else {
                continue;
            };
            if self.stream.write_all(answer).is_err() {
                return false;
            }
        }
        true
    }

    fn answer(&mut self, line: &[u8]) -> Option<&'static [u8]> {
        let is = |word: &[u8]| line.len() >= 4 && line[..4].eq_ignore_ascii_case(word);
        if self.in_message {
            self.in_message = line != b".\r\n";
            return (!self.in_message).then_some(b"250 taken\r\n");
        }
        self.in_message = is(b"DATA");
        Some(if self.in_message {
            b"354 go on\r\n"
        } else if is(b"QUIT") {
            b"221 bye\r\n"
        } else {
            b"250 well\r\n"
        })
    }
}

/// Listens on every address of both families.
fn plain(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
}

/// The same, for TCP and Multipath TCP.
fn multipath(port: u16) -> io::Result<TcpListener> {
    // SAFETY: takes numbers, and the descriptor that it returns is nobody else's.
    let socket = unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        match libc::socket(libc::AF_INET6, kind, libc::IPPROTO_MPTCP) {
            ..0 => return Err(io::Error::last_os_error()),
            socket => OwnedFd::from_raw_fd(socket),
        }
    };
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(TcpListener::from(socket))
}

/// IPv4 as IPv4, although the socket speaks both.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
