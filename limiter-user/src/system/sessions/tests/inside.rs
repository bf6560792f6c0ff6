//! Whose a connection from another network namespace is.

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
};

use super::*;
use crate::system::{interfaces::Ways, testing::in_own_netns};

/// A thread in a network namespace of its own, with a cable to that of the calling thread.
struct Room {
    orders: mpsc::Sender<SocketAddr>,
    made: mpsc::Receiver<(TcpStream, i32)>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Room {
    fn new(ip: &dyn Fn(&str)) -> Self {
        let (orders, taken) = mpsc::channel::<SocketAddr>();
        let (send, made) = mpsc::channel();
        let (say, said) = mpsc::channel();
        let thread = thread::spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // SAFETY: takes nothing.
            let id = unsafe { libc::gettid() };
            say.send(id).unwrap();
            let mut up = false;
            for to in taken {
                if !up {
                    for arguments in ["link set in1 up", "address add 192.0.2.2/24 dev in1"] {
                        let status = Command::new("ip").args(arguments.split(' ')).status();
                        assert!(status.unwrap().success());
                    }
                    up = true;
                }
                send.send((TcpStream::connect(to).unwrap(), id)).unwrap();
            }
        });
        let id = said.recv().unwrap();
        ip("link add veth1 type veth peer name in1");
        ip(&format!("link set in1 netns /proc/{id}/ns/net"));
        ip("link set veth1 up");
        ip("address add 192.0.2.1/24 dev veth1");
        Self {
            orders,
            made,
            thread: Some(thread),
        }
    }

    fn connect(&self, to: SocketAddr) -> TcpStream {
        self.orders.send(to).unwrap();
        self.made.recv().unwrap().0
    }

    fn close(mut self) {
        drop(self.orders);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn the_client_in_a_container_is_found() {
    in_own_netns(|ip| {
        let (ways, inside) = (Ways::open().unwrap(), Inside::open().unwrap());
        let room = Room::new(ip);
        let listener = TcpListener::bind("192.0.2.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = room.connect(server);
        let (local, remote) = (client.local_addr().unwrap(), server);
        let way = ways.to(local.ip()).unwrap();
        let namespace = way.namespace.expect("it is in another");
        let find = |local, remote| inside.owner_of(&ways, namespace, local, remote).unwrap();

        let inode = nix::sys::stat::fstat(&client).unwrap().st_ino;
        let is_it = |found| matches!(found, Found::Owner(owner) if u64::from(owner.inode) == inode);
        let found = find(local, remote);
        assert!(is_it(found), "{found:?}");
        let Found::Owner(owner) = found else {
            unreachable!()
        };
        assert!(owner.cgroup_id.is_some());
        // Another port is another's.
        let mut other = local;
        other.set_port(if local.port() == 1 { 2 } else { 1 });
        assert_eq!(find(other, remote), Found::Nobody);
        // Who closed at once is nobody, and not whoever comes first.
        drop(client);
        assert_eq!(find(local, remote), Found::Nobody);
        // Of a namespace that nobody has seen it says so, and not again within a moment.
        let nowhere = || {
            inside
                .owner_of(&ways, namespace + 7, local, remote)
                .unwrap()
        };
        if let Found::Later(wait) = nowhere() {
            thread::sleep(wait);
        }
        assert_eq!(nowhere(), Found::Nowhere);
        assert!(matches!(nowhere(), Found::Later(_)));
        // A container that goes is not held: its cable goes with it.
        room.close();
        let gone = || {
            let links = Command::new("ip").args(["link", "show", "veth1"]).output();
            !links.unwrap().status.success()
        };
        let start = Instant::now();
        while !gone() {
            assert!(start.elapsed() < Duration::from_secs(10), "it is held");
            thread::sleep(Duration::from_millis(20));
        }
    });
}
