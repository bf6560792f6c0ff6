//! A server that counts who comes: every completed connection, exactly once.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Namespace, wait};

/// A completed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Who came.
    pub from: SocketAddr,
    /// Which of the server's addresses was dialled.
    pub to: SocketAddr,
}

/// A server on every address of a network namespace, both families. It greets, and says no more.
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
        let listeners: Vec<_> = namespace.enter(|| {
            let listen = |port: &u16| {
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))
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
            thread::spawn(move || serve(&listeners, &greeting, &visits, &stop))
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

fn serve(listeners: &[TcpListener], greeting: &str, visits: &Mutex<Vec<Visit>>, stop: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for listener in listeners {
            while let Some((stream, visit)) = accept(listener) {
                visits.lock().expect("nobody panics inside").push(visit);
                open.extend(greet(stream, greeting));
            }
        }
        open.retain_mut(is_open);
        let sockets = listeners
            .iter()
            .map(AsFd::as_fd)
            .chain(open.iter().map(AsFd::as_fd));
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
fn greet(mut stream: TcpStream, greeting: &str) -> Option<TcpStream> {
    stream.set_nonblocking(true).ok()?;
    stream.write_all(greeting.as_bytes()).ok()?;
    Some(stream)
}

/// Whether the other side is still there; reads away what it says.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut buffer = [0_u8; 512];
    match stream.read(&mut buffer) {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// IPv4 as IPv4, although the socket speaks both.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
