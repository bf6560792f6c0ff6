use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::PathBuf,
    process::Command,
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    sync::oneshot,
};

use super::*;

/// A door that answers with the caller's uid, and counts who is inside.
struct House {
    runtime: Runtime,
    visits: Arc<Visits>,
    callers: Arc<Callers>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl House {
    fn at(address: &ServiceAddress, callers: BTreeSet<u32>, room: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let callers = Arc::new(Callers::new(callers));
        let (stop, stopped) = oneshot::channel::<()>();
        let (visits, served) = runtime.block_on(async {
            let door = Door::open(address, "services.policy", Arc::clone(&callers))
                .unwrap()
                .with_room(room);
            let visits = door.visits();
            let talk = |mut stream: Box<dyn Stream>, caller: Caller| async move {
                let uid = caller.uid.to_string();
                let _ = stream.write_all(uid.as_bytes()).await;
                let _ = stream.read(&mut [0]).await;
            };
            let stop = async move { drop(stopped.await) };
            (visits, tokio::spawn(door.serve(talk, stop)))
        });
        Self {
            runtime,
            visits,
            callers,
            stop: Some(stop),
            served: Some(served),
        }
    }

    fn strangers(&self) -> u64 {
        self.visits.strangers.load(Ordering::Relaxed)
    }

    fn close(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).unwrap();
        }
    }
}

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

fn unix(directory: &tempfile::TempDir) -> (ServiceAddress, PathBuf) {
    let path = directory.path().join("policy.sock");
    (ServiceAddress::Unix(path.clone()), path)
}

/// What somebody is told who connects as `uid`.
fn knock_as(uid: u32, family: &str, address: &str) -> String {
    let script = "\
import socket, sys
s = socket.socket(getattr(socket, sys.argv[1]))
s.settimeout(5)
a = sys.argv[2]
try:
    s.connect(a if sys.argv[1] == 'AF_UNIX' else (a.rsplit(':', 1)[0], int(a.rsplit(':', 1)[1])))
    print(s.recv(99).decode() or 'closed')
except OSError as e:
    print(type(e).__name__)
";
    let mut command = Command::new("python3");
    command
        .args(["-c", script, family, address])
        .current_dir("/");
    let done = command.uid(uid).gid(uid).output().unwrap();
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn heard(mut stream: impl io::Read) -> String {
    let mut buffer = [0; 99];
    let length = stream.read(&mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn whoever_may_ask_is_let_in() {
    let directory = directory();
    let (address, path) = unix(&directory);
    let mut house = House::at(&address, BTreeSet::from([me()]), 10);
    assert_eq!(heard(UnixStream::connect(&path).unwrap()), me().to_string());
    house.close();
    assert!(!path.exists(), "nobody is there any more");
    // What somebody who was killed left behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let house = House::at(&address, BTreeSet::from([me()]), 10);
    assert_eq!(heard(UnixStream::connect(&path).unwrap()), me().to_string());
    drop(house);

    let at = free_port();
    let house = House::at(&ServiceAddress::Inet(at), BTreeSet::from([me()]), 10);
    assert_eq!(heard(TcpStream::connect(at).unwrap()), me().to_string());
    assert_eq!(house.strangers(), 0);
}

#[test]
fn strangers_are_not() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested, only root can: callers of several users");
        return;
    }
    let directory = directory();
    let (address, path) = unix(&directory);
    let path = path.to_str().unwrap();
    let house = House::at(&address, BTreeSet::from([54_321]), 10);
    assert_eq!(knock_as(54_321, "AF_UNIX", path), "54321");
    assert_eq!(knock_as(0, "AF_UNIX", path), "0");
    assert_eq!(knock_as(54_322, "AF_UNIX", path), "PermissionError");
    // They are let in when the configuration names them, and the others no longer.
    house.callers.change(BTreeSet::from([54_322]));
    let start = Instant::now();
    while knock_as(54_322, "AF_UNIX", path) != "54322" {
        assert!(start.elapsed() < 5 * LOOK);
    }
    assert_eq!(knock_as(54_321, "AF_UNIX", path), "PermissionError");
    // Should the file say otherwise, who knocks is still looked at.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    let before = house.strangers();
    assert_eq!(knock_as(54_323, "AF_UNIX", path), "closed");
    assert_eq!(house.strangers(), before + 1);

    let at = free_port();
    let house = House::at(&ServiceAddress::Inet(at), BTreeSet::from([54_321]), 10);
    assert_eq!(knock_as(54_321, "AF_INET", &at.to_string()), "54321");
    let stranger = knock_as(54_322, "AF_INET", &at.to_string());
    assert!(
        stranger == "closed" || stranger == "ConnectionResetError",
        "{stranger}"
    );
    assert_eq!(house.strangers(), 1);
}

#[test]
fn who_is_gone_at_once_is_not_taken_for_root() {
    let at = free_port();
    let mut house = House::at(&ServiceAddress::Inet(at), BTreeSet::new(), 1_000);
    for _ in 0..200 {
        let mut stream = TcpStream::connect(at).unwrap();
        let _ = stream.write_all(b"limiter 1 drop key=1\n");
        drop(stream);
    }
    thread::sleep(Duration::from_millis(100));
    let admitted = house.visits.admitted.load(Ordering::Relaxed);
    assert_eq!(admitted + house.strangers(), 200);
    // Whoever was still there when he was looked at is this test's user, who may ask only as root.
    assert!(me() == 0 || admitted == 0);
    house.close();
}

#[test]
fn there_is_room_for_so_many() {
    let directory = directory();
    let (address, path) = unix(&directory);
    let house = House::at(&address, BTreeSet::from([me()]), 2);
    let mut first = UnixStream::connect(&path).unwrap();
    let second = UnixStream::connect(&path).unwrap();
    assert_eq!(heard(&first), me().to_string());
    assert_eq!(heard(&second), me().to_string());
    assert_eq!(heard(UnixStream::connect(&path).unwrap()), "");
    assert_eq!(house.visits.crowded.load(Ordering::Relaxed), 1);
    first.write_all(b"x").unwrap();
    let _ = first.read(&mut [0]);
    let start = Instant::now();
    while heard(UnixStream::connect(&path).unwrap()).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn an_address_that_is_taken_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ServiceAddress::Inet(taken.local_addr().unwrap());
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let error = Door::open(&address, "services.policy", Arc::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`services.policy`") && text.contains("ss -tlnp"),
        "{text}"
    );
}
