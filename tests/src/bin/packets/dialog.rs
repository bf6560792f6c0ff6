//! An SMTP session over the stack in user space.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use limiter_tests::packets::{Ended, PacketOrders, PacketReport};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant as Time,
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint, Ipv6Address},
};

use crate::wire::Wire;

/// A stack with one socket.
struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    patience: Duration,
    heard: String,
}

/// Holds the session, and says what came of it.
pub fn hold(wire: Wire, orders: &PacketOrders) -> PacketReport {
    let mut host = Host::new(wire, orders);
    host.warm_up(orders);
    host.wire.put_on(&orders.disguises);
    let start = Instant::now();
    let mut last = start;
    let ended = host.session(orders, &mut last);
    let sent = host.wire.sent.borrow();
    let nanoseconds =
        |since: Instant| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (taken_ns, last_ns) = (nanoseconds(start), nanoseconds(last));
    PacketReport {
        ended: ended.err().unwrap_or(Ended::Served),
        connected: !host.heard.is_empty(),
        heard: host.heard.clone(),
        frames: sent.frames,
        taken_ns,
        last_ns,
        errno: sent.errno,
    }
}

impl Host {
    fn new(mut wire: Wire, orders: &PacketOrders) -> Self {
        let interface = interface(&mut wire, orders);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(new_socket());
        Self {
            wire,
            interface,
            sockets,
            socket,
            patience: Duration::from_millis(orders.patience_ms),
            heard: String::new(),
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'_>>(self.socket)
    }

    /// Waits until the destination answers on a port that has nothing to do with mail: links take a
    /// moment to come up, and neighbours to be found.
    fn warm_up(&mut self, orders: &PacketOrders) {
        let own = orders.own.unwrap_or(orders.from.ip());
        let remote = IpEndpoint::new(orders.to.ip().into(), WARM_UP_PORT);
        for local in 0..WARM_UP_TRIES {
            let local = IpEndpoint::new(own.into(), 10_000 + local);
            self.sockets.remove(self.socket);
            self.socket = self.sockets.add(new_socket());
            // A neighbour that did not answer would not be asked again for a second.
            self.interface = interface(&mut self.wire, orders);
            let context = self.interface.context();
            let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
            socket
                .connect(context, remote, local)
                .expect("the socket is new");
            let start = Instant::now();
            while start.elapsed() < WARM_UP_PAUSE {
                self.turn(Duration::from_millis(10));
                if self.socket().state() != State::SynSent {
                    self.sockets.remove(self.socket);
                    self.socket = self.sockets.add(new_socket());
                    return;
                }
            }
        }
        panic!("there is no way to {remote} at all: {:?}", self.wire.sent);
    }

    fn session(&mut self, orders: &PacketOrders, last: &mut Instant) -> Result<(), Ended> {
        self.connect(orders.from, orders.to)?;
        self.answer("220")?;
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_millis(orders.pause_ms) {
            self.turn(Duration::from_millis(5));
            self.alive()?;
        }
        let name = &orders.name;
        let mut words = vec![(format!("EHLO {name}\r\n"), "250")];
        if orders.talk_ms > 0 {
            self.say(words[0].0.as_bytes())?;
            self.answer("250")?;
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(orders.talk_ms) {
                *last = Instant::now();
                self.say(b"NOOP\r\n")?;
                self.answer("250")?;
                self.turn(Duration::from_millis(5));
            }
        }
        for number in 0..=orders.more {
            if !orders.message {
                break;
            }
            let body = format!("Subject: {name}\r\n\r\n{name}\r\n.\r\n");
            words.extend([
                (format!("MAIL FROM:<{name}@sender.example>\r\n"), "250"),
                ("RCPT TO:<somebody@outside.example>\r\n".to_owned(), "250"),
                ("DATA\r\n".to_owned(), "354"),
                (body, "250"),
            ]);
            if number == orders.more {
                words.push(("QUIT\r\n".to_owned(), "221"));
            }
        }
        for (line, code) in &words {
            *last = Instant::now();
            self.say(line.as_bytes())?;
            self.answer(code)?;
        }
        self.socket().close();
        for _ in 0..3 {
            self.turn(Duration::from_millis(1));
        }
        Ok(())
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Result<(), Ended> {
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        let remote = IpEndpoint::new(to.ip().into(), to.port());
        let local = IpEndpoint::new(from.ip().into(), from.port());
        socket
            .connect(context, remote, local)
            .expect("the socket is new");
        let start = Instant::now();
        loop {
            self.turn(Duration::from_millis(10));
            if self.wire.sent.borrow().not_permitted {
                return Err(Ended::NotPermitted);
            }
            match self.socket().state() {
                State::Established | State::CloseWait => return Ok(()),
                State::Closed => return Err(Ended::Refused),
                _ if start.elapsed() > self.patience => return Err(Ended::Silence),
                _ => {}
            }
        }
    }

    fn say(&mut self, words: &[u8]) -> Result<(), Ended> {
        self.alive()?;
        let said = self.socket().send_slice(words).map_err(|_| Ended::Reset)?;
        assert_eq!(said, words.len(), "the buffer is large enough");
        Ok(())
    }

    /// Waits for the last line of an answer with this code.
    fn answer(&mut self, code: &str) -> Result<(), Ended> {
        let start = Instant::now();
        let before = self.heard.len();
        loop {
            let socket = self.socket();
            if socket.can_recv() {
                let mut bytes = Vec::new();
                let taken = socket.recv(|data| {
                    bytes.extend_from_slice(data);
                    (data.len(), ())
                });
                taken.map_err(|_| Ended::Reset)?;
                self.heard.push_str(&String::from_utf8_lossy(&bytes));
            }
            let complete = self.heard[before..].split_inclusive("\r\n").any(|line| {
                line.ends_with("\r\n") && line.starts_with(code) && !line[3..].starts_with('-')
            });
            if complete {
                return Ok(());
            }
            self.alive()?;
            if start.elapsed() > self.patience {
                return Err(Ended::Silence);
            }
            self.turn(Duration::from_millis(10));
        }
    }

    fn alive(&mut self) -> Result<(), Ended> {
        if self.wire.sent.borrow().not_permitted {
            return Err(Ended::NotPermitted);
        }
        let socket = self.socket();
        if socket.state() == State::Closed {
            return Err(Ended::Reset);
        }
        Ok(())
    }

    /// Lets the stack do what there is to do, and waits for more at most this long.
    fn turn(&mut self, most: Duration) {
        let _ = self
            .interface
            .poll(now(), &mut self.wire, &mut self.sockets);
        let due = self.interface.poll_delay(now(), &self.sockets);
        let due = due.map_or(most, |due| {
            Duration::from_micros(due.total_micros()).min(most)
        });
        if due.is_zero() {
            return;
        }
        let mut fds = [PollFd::new(self.wire.link().fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(due.max(Duration::from_millis(1))).expect("a short time");
        // Interrupted or not, the next turn looks.
        let _ = poll(&mut fds, wait);
        let _ = self
            .interface
            .poll(now(), &mut self.wire, &mut self.sockets);
    }
}

/// An interface that knows no neighbours yet.
fn interface(wire: &mut Wire, orders: &PacketOrders) -> Interface {
    let address = HardwareAddress::Ethernet(EthernetAddress(orders.mac));
    let mut config = Config::new(address);
    config.random_seed = u64::from(std::process::id()) << 16 | u64::from(orders.from.port());
    let mut interface = Interface::new(config, wire, now());
    interface.update_ip_addrs(|addresses| {
        let own = IpCidr::new(orders.from.ip().into(), orders.prefix);
        addresses.push(own).expect("there is room for two");
        if let Some(own) = orders.own {
            let own = IpCidr::new(own.into(), orders.prefix);
            addresses.push(own).expect("there is room for two");
        } else if orders.from.is_ipv6() {
            let [.., a, b, c, d, e, f] = orders.mac;
            let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
            let [w, x, y, z] = words;
            let local = Ipv6Address::new(0xfe80, 0, 0, 0, w, x, y, z);
            let local = IpCidr::new(IpAddress::Ipv6(local), 64);
            addresses.push(local).expect("there is room for two");
        }
    });
    let routes = interface.routes_mut();
    match orders.gateway {
        IpAddr::V4(gateway) => routes.add_default_ipv4_route(gateway).map(drop),
        IpAddr::V6(gateway) => routes.add_default_ipv6_route(gateway).map(drop),
    }
    .expect("there is room for a route");
    interface
}

/// Where nobody listens, and says so.
const WARM_UP_PORT: u16 = 9;
const WARM_UP_TRIES: u16 = 30;
const WARM_UP_PAUSE: Duration = Duration::from_millis(100);

fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; 16_384]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

fn now() -> Time {
    Time::now()
}
