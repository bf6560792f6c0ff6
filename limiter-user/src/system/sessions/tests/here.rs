//! Sessions of the caller's own network namespace.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::AddressFamily;

use super::{super::*, SOON, Session, at, dial, listener, must_be_soon, socket};
use crate::system::testing::{in_own_netns, is_root};

#[test]
fn sessions_of_either_family_are_cut_and_a_neighbours_lives() {
    in_own_netns(|ip| {
        ip("link set lo up");
        let mut neighbour = Session::tcp("127.0.0.1");
        let mut neighbour_v6 = Session::tcp("::1");
        for (name, ip, dialled) in [
            ("v4", "127.0.0.1", "127.0.0.1"),
            ("v6", "::1", "::1"),
            ("v4 over v6", "::", "::ffff:127.0.0.1"),
        ] {
            must_be_soon(name, SOON, || {
                let mut session = Session::open(at(ip), dialled, libc::IPPROTO_TCP);
                let (report, client, server, soon) = session.cut();
                assert_eq!((report.cut, report.namespaces), (1, 1), "{name} {report:?}");
                assert!(report.is_complete(), "{name} {report:?}");
                assert_eq!(client.kind(), io::ErrorKind::ConnectionAborted, "{name}");
                let server = server.expect("an end");
                assert_eq!(server.kind(), io::ErrorKind::ConnectionReset, "{name}");
                // The port still serves: whoever listens is nobody's session.
                let there = session.listener.local_addr().unwrap();
                dial(there, libc::IPPROTO_TCP).unwrap();
                soon
            });
            neighbour.must_live();
            neighbour_v6.must_live();
        }
    });
}

#[test]
fn an_mptcp_session_is_ended_as_a_whole() {
    in_own_netns(|ip| {
        if fs::read_to_string("/proc/sys/net/mptcp/enabled").is_err() {
            eprintln!("not tested: this kernel has no MPTCP");
            return;
        }
        ip("link set lo up");
        for address in ["127.0.0.1", "::1"] {
            let mut neighbour = Session::open(at(address), address, libc::IPPROTO_MPTCP);
            must_be_soon(address, SOON, || {
                let mut session = Session::open(at(address), address, libc::IPPROTO_MPTCP);
                let (report, client, _, soon) = session.cut();
                assert_eq!(
                    (
                        report.cut,
                        report.subflows,
                        report.mptcp,
                        report.mptcp_ended
                    ),
                    (1, 1, 1, 1),
                    "{report:?}"
                );
                assert!(
                    matches!(
                        client.kind(),
                        io::ErrorKind::NotConnected
                            | io::ErrorKind::BrokenPipe
                            | io::ErrorKind::ConnectionAborted
                            | io::ErrorKind::ConnectionReset
                    ),
                    "{client}"
                );
                session.client.write_all(b"MAIL").unwrap_err();
                soon
            });
            neighbour.must_live();
        }
    });
}

#[test]
fn a_dial_without_an_answer_is_cut_too() {
    in_own_netns(|ip| {
        ip("link set lo up");
        ip("link add veth0 type veth peer name veth1");
        ip("addr add 192.0.2.1/24 dev veth0");
        ip("link set veth1 up");
        ip("link set veth0 up");
        let remote: SocketAddr = "192.0.2.9:25".parse().unwrap();
        must_be_soon("SYN_SENT", SOON, || {
            // A new thread is in the namespace of the one that made it.
            let dialling = thread::spawn(move || (dial(remote, libc::IPPROTO_TCP), Instant::now()));
            thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            let report = cut(Where::OwnOnly, |facts| {
                facts.remote == remote && facts.state == State::SynSent
            })
            .unwrap();
            assert_eq!(report.cut, 1, "{report:?}");
            let (end, when) = dialling.join().unwrap();
            let error = end.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
            when.duration_since(start)
        });
    });
}

#[test]
fn half_closed_sessions_are_cut_and_what_is_over_is_left_alone() {
    in_own_netns(|ip| {
        ip("link set lo up");
        let over = Session::tcp("127.0.0.1");
        let over_port = over.port();
        drop(over.client);
        thread::sleep(Duration::from_millis(20));
        drop(over.server);
        let mut half = Session::tcp("127.0.0.1");
        let half_port = half.port();
        half.client.shutdown(std::net::Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(time_waits(over_port), 1);

        let seen = std::sync::Mutex::new(HashSet::new());
        let report = cut(Where::OwnOnly, |facts| {
            seen.lock().unwrap().insert(facts.state);
            true
        })
        .unwrap();
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen, HashSet::from([State::FinWait2, State::CloseWait]));
        // The second of a pair may have gone with the first one's reset.
        assert_eq!(report.cut + report.gone, 2, "{report:?}");
        assert!(half.server.write(b"x").is_err(), "port {half_port}");
        assert_eq!(time_waits(over_port), 1, "TIME_WAIT is left alone");
    });
}

/// How many sessions with a port are in TIME_WAIT here.
fn time_waits(port: u16) -> usize {
    let text = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .filter(|(local, remote, state)| {
            *state == "06" && (local.ends_with(&port) || remote.ends_with(&port))
        })
        .count()
}

#[test]
fn a_later_session_with_the_same_addresses_is_not_hit() {
    in_own_netns(|ip| {
        ip("link set lo up");
        let listener = listener(at("127.0.0.1"), libc::IPPROTO_TCP);
        let there = listener.local_addr().unwrap();
        let here: SocketAddr = "127.0.0.1:40123".parse().unwrap();
        let session = || {
            let socket = socket(here, libc::IPPROTO_TCP);
            let address = nix::sys::socket::SockaddrStorage::from(here);
            nix::sys::socket::bind(socket.as_raw_fd(), &address).unwrap();
            let address = nix::sys::socket::SockaddrStorage::from(there);
            nix::sys::socket::connect(socket.as_raw_fd(), &address).unwrap();
            let client = TcpStream::from(socket);
            let (server, _) = listener.accept().unwrap();
            (client, server)
        };
        let mut diag = Diag::open().unwrap();
        let mut entry = || -> Entry {
            let mut found = Vec::new();
            diag.list(AddressFamily::Inet, Protocol::Tcp, |entry| {
                if entry.local == here {
                    found.push(entry);
                }
            })
            .unwrap();
            let [entry] = &found[..] else {
                panic!("{} sessions", found.len())
            };
            entry.clone()
        };
        let (first, _) = session();
        let old = entry();
        let mut destroyer = Diag::open().unwrap();
        let mut destroy = |entry: &Entry| {
            destroyer
                .destroy(entry.family, Protocol::Tcp, &entry.id)
                .unwrap()
        };
        assert_eq!(destroy(&old), Destroyed::Yes);
        assert_eq!(
            destroy(&old),
            Destroyed::WasGone,
            "only who listens is left"
        );
        drop(first);
        let (mut client, mut server) = session();
        assert!(old.id != entry().id, "the cookie tells them apart");
        assert_eq!(destroy(&old), Destroyed::WasGone);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(destroy(&entry()), Destroyed::Yes);
    });
}

#[test]
fn only_the_kernel_can_answer() {
    in_own_netns(|_| {
        let diag = Diag::open().unwrap();
        let name: nix::sys::socket::NetlinkAddr =
            nix::sys::socket::getsockname(diag.as_raw_fd()).unwrap();
        let stranger = nix::sys::socket::socket(
            AddressFamily::Netlink,
            nix::sys::socket::SockType::Raw,
            nix::sys::socket::SockFlag::empty(),
            nix::sys::socket::SockProtocol::NetlinkSockDiag,
        )
        .unwrap();
        let sent = nix::sys::socket::sendto(
            stranger.as_raw_fd(),
            &[0; 16],
            &name,
            nix::sys::socket::MsgFlags::empty(),
        );
        assert_eq!(sent, Err(nix::errno::Errno::ECONNREFUSED));
    });
}

#[test]
fn this_kernel_can_cut() {
    if is_root("asking whether sessions can be cut") {
        assert!(can_cut().unwrap());
    }
}
