//! Sessions of other network namespaces, and of other user namespaces.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::{super::*, SOON, Session, at, dial, listener, must_be_soon};
use crate::system::testing::{TestCgroup, is_root};

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
                 --nocapture system::sessions::tests::elsewhere::sender'",
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
    // Single sessions among all of them, then the tenant's others by quarters.
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
    let quarters = [0, 1, 2, 3].map(|quarter| {
        let report = cut(Where::All, |facts| {
            facts.namespace.inode == inode
                && facts.remote.port() == port
                // The kernel prefers even ports.
                && (facts.local.port() >> 1) % 4 == quarter
        })
        .unwrap();
        assert!(report.is_complete(), "{report:?}");
        left -= report.cut;
        eprintln!("{} sessions: {:?}", report.cut, report.took);
        report.took
    });
    assert_eq!(left, 0);
    // The others may have had to wait for this machine.
    let soonest = quarters.iter().min().unwrap();
    assert!(*soonest < Duration::from_secs(1), "{quarters:?}");
    assert_eq!(tenant.end(), "Err(ConnectionAborted)");
    let inode = neighbour.namespace();
    let report = cut(Where::All, |facts| {
        facts.namespace.inode == inode && facts.remote.port() == neighbour.port
    })
    .unwrap();
    assert_eq!(report.cut, EACH, "nobody touched the neighbour: {report:?}");
    assert_eq!(neighbour.end(), "Err(ConnectionAborted)");
}
