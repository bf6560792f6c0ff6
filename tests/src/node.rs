//! A hosting node of its own, and the world outside it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Condvar, Mutex, Once, PoisonError},
};

use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use crate::{Cgroup, Etc, Namespace, Place, Sender, process::run, programs};

/// The node's IPv4 address.
pub const NODE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The node's IPv6 address.
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
/// A mail server outside.
pub const OUTSIDE_MX: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Another mail server outside, for policies that exempt one.
pub const OUTSIDE_MX_EXEMPT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 25);
/// A mail server outside.
pub const OUTSIDE_MX6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 5);
/// Another mail server outside, for policies that exempt one.
pub const OUTSIDE_MX6_EXEMPT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x25);
/// A mail server outside that is on the node's own link, and needs no route.
pub const OUTSIDE_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x25);
/// An address that belongs to the node, although it sits outside: 1:1 NAT.
pub const NATTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The address of a container behind the node.
pub const CONTAINER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Nodes alive at once: tests run in parallel, and they are not to starve one another.
const MOST_NODES: u32 = 3;

/// A node in its own network and mount namespaces, and an outside in another network namespace,
/// joined by a pair of interfaces.
///
/// The node has its own copy of /etc, its own bpffs at /sys/fs/bpf, and a cgroup at the top of the
/// hierarchy below which everything of it happens. Nothing of it outlives this process.
#[derive(Debug)]
pub struct Node {
    inside: Namespace,
    outside: Namespace,
    etc: Etc,
    // Dropped in this order: who is in a cgroup may write to the directory until it is gone.
    system: Cgroup,
    users: Cgroup,
    cgroup: Cgroup,
    outside_cgroup: Cgroup,
    directory: TempDir,
    sender_copied: Once,
    packets_copied: Once,
    _permit: Permit,
}

impl Node {
    /// A node with the users alice, bob, carol and dave, whose uids are 2001 to 2004.
    #[must_use]
    pub fn new() -> Self {
        let permit = Permit::take();
        nix::sys::prctl::set_child_subreaper(true).expect("any process may reap its children's");
        let directory = tempfile::Builder::new()
            .prefix(&format!("limiter-e2e-{}-", std::process::id()))
            .tempdir()
            .expect("a temporary directory can be made");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .expect("it is ours");

        fs::create_dir(directory.path().join("setuid")).expect("the directory is new");
        let etc_directory = directory.path().join("etc");
        let outside = Namespace::network();
        let inside = Namespace::with_mounts(|| {
            Etc::mount_copy(&etc_directory);
            // Wherever the temporary directory is, programs here may be setuid.
            mount(
                Some("tmpfs"),
                &directory.path().join("setuid"),
                Some("tmpfs"),
                MsFlags::empty(),
                Some("mode=0755"),
            )
            .expect("a tmpfs can be mounted");
            mount(
                Some("bpf"),
                "/sys/fs/bpf",
                Some("bpf"),
                MsFlags::empty(),
                Some("mode=0700"),
            )
            .expect("a bpffs can be mounted");
        });
        wire(&inside, &outside);

        let etc = Etc::new(&etc_directory);
        for (name, uid) in [
            ("alice", 2001),
            ("bob", 2002),
            ("carol", 2003),
            ("dave", 2004),
        ] {
            etc.add_user(name, uid);
        }
        // Nobody answers there, and says so at once: mail programs ask for all kinds of names.
        etc.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
        let cgroup = Cgroup::at_top();
        Self {
            inside,
            outside,
            etc,
            system: cgroup.child("system"),
            users: cgroup.child("users"),
            cgroup,
            outside_cgroup: Cgroup::at_top(),
            directory,
            sender_copied: Once::new(),
            packets_copied: Once::new(),
            _permit: permit,
        }
    }

    /// A directory for files of this node; it is removed with it. Anybody may enter it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A directory for setuid programs, seen from inside the node only.
    #[must_use]
    pub fn setuid_directory(&self) -> PathBuf {
        self.directory().join("setuid")
    }

    /// The node's own copy of /etc.
    #[must_use]
    pub fn etc(&self) -> &Etc {
        &self.etc
    }

    /// The cgroup below which everything of this node happens.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The cgroup of its users, below [`Self::cgroup`].
    #[must_use]
    pub fn users_cgroup(&self) -> &Cgroup {
        &self.users
    }

    /// The node's namespaces.
    #[must_use]
    pub fn inside(&self) -> &Namespace {
        &self.inside
    }

    /// The outside's network namespace.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// Root on the node, in the cgroup of its services.
    #[must_use]
    pub fn root(&self) -> Place {
        Place::new(&self.inside, &self.system)
    }

    /// A user of the node, in a cgroup that nobody claims unless a test does.
    #[must_use]
    pub fn user(&self, uid: u32) -> Place {
        Place::new(&self.inside, &self.users).as_uid(uid)
    }

    /// Somebody outside: not on the node at all.
    #[must_use]
    pub fn elsewhere(&self) -> Place {
        Place::new(&self.outside, &self.outside_cgroup)
    }

    /// Somebody who sends: a user of the node, by uid.
    #[must_use]
    pub fn sender(&self, uid: u32) -> Sender<'_> {
        Sender::new(self, self.user(uid))
    }

    /// Somebody who sends from anywhere.
    #[must_use]
    pub fn sender_at(&self, place: Place) -> Sender<'_> {
        Sender::new(self, place)
    }

    /// The program that a [`Sender`] runs: everybody may execute it.
    #[must_use]
    pub fn sender_program(&self) -> PathBuf {
        let program = self.directory().join("limiter-sender");
        self.sender_copied
            .call_once(|| programs::copy_sender("limiter-sender", &program));
        program
    }

    /// The program that a [`crate::PacketAttempt`] runs: everybody may execute it.
    #[must_use]
    pub fn packets_program(&self) -> PathBuf {
        let program = self.directory().join("limiter-packets");
        self.packets_copied
            .call_once(|| programs::copy_sender("limiter-packets", &program));
        program
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// Joins the two and gives them their addresses.
fn wire(inside: &Namespace, outside: &Namespace) {
    let node = inside.net_path();
    ip_batch(
        outside,
        &[
            "link set lo up".to_owned(),
            format!(
                "link add out0 type veth peer name eth0 netns {}",
                node.display()
            ),
            "link set out0 up".to_owned(),
            "address add 203.0.113.1/24 dev out0".to_owned(),
            format!("address add {OUTSIDE_MX}/24 dev out0"),
            format!("address add {OUTSIDE_MX_EXEMPT}/24 dev out0"),
            "address add 2001:db8:113::1/64 dev out0 nodad".to_owned(),
            format!("address add {OUTSIDE_MX6}/64 dev out0 nodad"),
            format!("address add {OUTSIDE_MX6_EXEMPT}/64 dev out0 nodad"),
            format!("address add {OUTSIDE_LINK_LOCAL}/64 dev out0 nodad"),
            format!("address add {NATTED}/32 dev out0"),
            format!("route add 192.0.2.0/24 via {NODE4}"),
            format!("route add 2001:db8:192::/64 via {NODE6}"),
        ],
    );
    ip_batch(
        inside,
        &[
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("address add {NODE4}/24 dev eth0"),
            format!("address add {NODE6}/64 dev eth0 nodad"),
            "route add default via 203.0.113.1".to_owned(),
            "route add default via 2001:db8:113::1".to_owned(),
        ],
    );
    inside.enter(|| {
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
    });
    // Every server takes data with the first packet, from whoever has a cookie.
    outside.enter(|| set("ipv4/tcp_fastopen", "1027"));
}

/// Sets a switch of the network namespace that the calling thread is in.
fn set(switch: &str, value: &str) {
    fs::write(Path::new("/proc/sys/net").join(switch), value).expect("root may set it");
}

/// Runs `ip` in a network namespace, all lines in one go.
pub(crate) fn ip_batch(namespace: &Namespace, lines: &[String]) {
    let mut input = lines.join("\n");
    input.push('\n');
    namespace.enter(|| {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]);
        let _ = run(&mut command, &input).success(&input);
    });
}

/// The outside's mail server on port 25, by family.
#[must_use]
pub fn mx(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 {
        OUTSIDE_MX6.into()
    } else {
        OUTSIDE_MX.into()
    };
    SocketAddr::new(address, 25)
}

/// Room for one more node.
#[derive(Debug)]
struct Permit;

static NODES: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Permit {
    fn take() -> Self {
        let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes = FREED
            .wait_while(nodes, |nodes| *nodes >= MOST_NODES)
            .unwrap_or_else(PoisonError::into_inner);
        *nodes += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *NODES.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
