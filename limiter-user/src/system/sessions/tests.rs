//! Real sessions, in network namespaces of their own.

use std::{
    collections::HashSet,
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::AddressFamily;

use super::{
    diag::{Destroyed, Diag, Entry, Protocol},
    *,
};
use crate::system::testing::{TestCgroup, in_own_netns, is_root};

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

/// Set for a test that is run as a program of its own, in other namespaces.
const AS_SENDER: &str = "LIMITER_TEST_SENDER";

/// Not a test of its own: the program that other tests start in a container. It opens sessions on
/// its loopback interface, says so, and then how the first of them ended.
#[test]
fn sender() {
    let Ok(count) = env::var(AS_SENDER) else {
        return;
    };
    let count: usize = count.parse().unwrap();
    raise_files();
    let listener = listener(at("127.0.0.1"), libc::IPPROTO_TCP);
    let address = listener.local_addr().unwrap();
    let sessions: Vec<_> = (0..count)
        .map(|_| {
            let client = dial(address, libc::IPPROTO_TCP).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .collect();
    println!("\nport {}", address.port());
    let end = (&sessions[0].0)
        .read(&mut [0])
        .map_err(|error| error.kind());
    println!("\nend {end:?}");
    // Until the test has seen it.
    let _ = io::stdin().read(&mut [0]);
}

/// Lets this process have as many files as it may.
fn raise_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a limit.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// A program with sessions in namespaces of its own.
struct Container {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Container {
    /// Starts it: in a new network namespace, and whatever else `arguments` tell unshare(1); in
    /// `cgroup`.
    fn start(arguments: &[&str], cgroup: Option<&Path>, sessions: usize) -> Self {
        let enter = cgroup.map_or_else(String::new, |directory| {
            format!("echo $$ > {}/cgroup.procs && ", directory.display())
        });
        let this = env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "{enter} exec unshare --net {} sh -c 'ip link set lo up && exec {} --exact \
                 --nocapture system::sessions::tests::sender'",
                arguments.join(" "),
                this.display(),
            ))
            .env(AS_SENDER, sessions.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut container = Self {
            child,
            output,
            port: 0,
        };
        container.port = container.line("port ").parse().unwrap();
        container
    }

    /// What follows `start` in the next line that starts so.
    fn line(&mut self, start: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "{start}");
            if let Some(rest) = line.trim_end().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// How the first session ended.
    fn end(&mut self) -> String {
        self.line("end ")
    }

    /// The inode of its network namespace.
    fn namespace(&self) -> u64 {
        let path = format!("/proc/{}/ns/net", self.child.id());
        fs::metadata(path).unwrap().ino()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sessions_in_containers_are_cut() {
    let Some(cgroup) = TestCgroup::make() else {
        return;
    };
    let nested = cgroup.path().join("nested");
    fs::create_dir(&nested).unwrap();
    let ids = cgroup_ids(&cgroup.path()).unwrap();
    assert_eq!(ids.len(), 2);
    let claimed: [PathBuf; 1] = [cgroup.path()];
    let own = Ns::own().unwrap();
    let mut neighbour = Container::start(&[], None, 1);
    for (place, arguments) in [
        (Where::All, &[][..]),
        (Where::OfCgroups(&claimed), &[]),
        (Where::All, &["--user", "--map-root-user"]),
        (Where::OfCgroups(&claimed), &["--user", "--map-root-user"]),
    ] {
        must_be_soon("a container", SOON, || {
            let mut container = Container::start(arguments, Some(&nested), 1);
            let (namespace, port) = (container.namespace(), container.port);
            let start = Instant::now();
            let report = cut(place, |facts| {
                assert_eq!(facts.namespace.is_own, facts.namespace.inode == own.inode);
                facts.namespace.inode == namespace
                    && facts.remote.port() == port
                    && facts.cgroup_id.is_some_and(|id| ids.contains(&id))
            })
            .unwrap();
            assert_eq!(container.end(), "Err(ConnectionAborted)", "{report:?}");
            assert_eq!(report.cut, 1, "{report:?}");
            start.elapsed()
        });
    }
    // The neighbour has seen nothing of all that; its own session is ended last.
    let namespace = neighbour.namespace();
    let report = cut(Where::All, |facts| {
        facts.namespace.inode == namespace && facts.remote.port() == neighbour.port
    })
    .unwrap();
    assert_eq!(report.cut, 1, "{report:?}");
    assert_eq!(neighbour.end(), "Err(ConnectionAborted)");
}

#[test]
fn a_thread_alone_in_a_namespace_is_found_and_a_namespace_without_threads() {
    if !is_root("network namespaces") {
        return;
    }
    // A namespace that is kept by a mount alone, with a session that somebody outside holds.
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount(directory.path().join("netns"));
    fs::write(&mount.0, "").unwrap();
    let at_mount = mount.0.clone();
    let mut held = in_namespace(move || {
        // SAFETY: takes nothing.
        let thread = unsafe { libc::gettid() };
        let source = format!("/proc/{thread}/ns/net");
        let status = Command::new("mount")
            .args(["--bind", &source])
            .arg(&at_mount)
            .status()
            .unwrap();
        assert!(status.success());
        Session::tcp("127.0.0.1")
    });
    let port = held.port();
    let nobody = TestCgroup::make().unwrap();
    let report = cut(Where::OfCgroups(&[nobody.path()]), |facts| {
        !facts.namespace.is_own && facts.remote.port() == port
    })
    .unwrap();
    assert_eq!(report.cut, 1, "{report:?}");
    assert!(held.client.write(b"x").is_err());
    drop(mount);

    // A namespace with one thread of this process in it, and not its first.
    let (send, receive) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .unwrap()
                .success()
        );
        send.send(Session::tcp("::1")).unwrap();
        let _ = stopped.recv();
    });
    let mut session = receive.recv().unwrap();
    let port = session.port();
    let report = cut(Where::All, |facts| {
        !facts.namespace.is_own && facts.remote.port() == port
    })
    .unwrap();
    assert_eq!(report.cut, 1, "{report:?}");
    assert!(session.client.write(b"x").is_err());
    drop(stop);
    thread.join().unwrap();
}

/// Runs `body` on a thread in a network namespace of its own, with a loopback interface.
fn in_namespace<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .unwrap()
                .success()
        );
        body()
    })
    .join()
    .unwrap()
}

/// A mount that goes away at the end.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn who_removes_its_cgroup_does_not_hide_its_sessions() {
    let Some(cgroup) = TestCgroup::make() else {
        return;
    };
    let nested = cgroup.path().join("nested");
    fs::create_dir(&nested).unwrap();
    let id = fs::metadata(&nested).unwrap().ino();
    let mut container = Container::start(&[], Some(&nested), 1);
    let pid = container.child.id().to_string();
    fs::write(cgroup.path().join("cgroup.procs"), &pid).unwrap();
    fs::remove_dir(&nested).unwrap();

    let ids = cgroup_ids(&cgroup.path()).unwrap();
    assert!(!ids.contains(&id));
    let held = held_sockets(&cgroup.path()).unwrap();
    let cgroups: [PathBuf; 1] = [cgroup.path()];
    let port = container.port;
    let report = cut(Where::OfCgroups(&cgroups), |facts| {
        let is_held = facts.inode.is_some_and(|inode| held.contains(&inode));
        if facts.remote.port() == port && !facts.namespace.is_own {
            assert_eq!(facts.cgroup_id, Some(id));
            assert_eq!(facts.uid, Some(0));
            assert!(is_held);
        }
        facts.remote.port() == port && is_held
    })
    .unwrap();
    assert_eq!(report.cut, 1, "{report:?}");
    assert_eq!(container.end(), "Err(ConnectionAborted)");
}

#[test]
fn sessions_among_twenty_thousand_sockets_are_cut_in_less_than_a_second() {
    if !is_root("thousands of sessions in namespaces of their own") {
        return;
    }
    const EACH: usize = 5_000;
    let mut tenant = Container::start(&[], None, EACH);
    let mut neighbour = Container::start(&[], None, EACH);
    let (inode, port) = (tenant.namespace(), tenant.port);
    // Single sessions among all of them, then the tenant's others in ten parts.
    let mut left = EACH;
    must_be_soon("1 session", Duration::from_secs(1), || {
        let one = OnceLock::new();
        let report = cut(Where::All, |facts| {
            facts.namespace.inode == inode
                && facts.remote.port() == port
                && *one.get_or_init(|| facts.local) == facts.local
        })
        .unwrap();
        assert_eq!(report.cut, 1, "{report:?}");
        assert!(report.seen > 3 * EACH, "{report:?}");
        left -= 1;
        eprintln!("1 session among {}: {:?}", 4 * EACH, report.took);
        report.took
    });
    let mut parts = Vec::new();
    for part in 0..10 {
        let report = cut(Where::All, |facts| {
            facts.namespace.inode == inode
                && facts.remote.port() == port
                && facts.local.port() % 10 == part
        })
        .unwrap();
        assert!(report.is_complete(), "{report:?}");
        left -= report.cut;
        parts.push(report.took);
    }
    assert_eq!(left, 0);
    eprintln!("{EACH} sessions in ten parts: {parts:?}");
    // At the pace of the best tenth: the others may have had to wait for this machine.
    let soonest = parts.iter().min().unwrap();
    assert!(*soonest * 10 < Duration::from_secs(1), "{parts:?}");
    assert_eq!(tenant.end(), "Err(ConnectionAborted)");
    let inode = neighbour.namespace();
    let report = cut(Where::All, |facts| {
        facts.namespace.inode == inode && facts.remote.port() == neighbour.port
    })
    .unwrap();
    assert_eq!(report.cut, EACH, "nobody touched the neighbour: {report:?}");
    assert_eq!(neighbour.end(), "Err(ConnectionAborted)");
}
