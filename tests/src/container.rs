//! Containers behind the node: their own network namespace, routed by the node.

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::Arc,
};

use crate::{
    Cgroup, Namespace, Node, Place, Sender,
    node::{CONTAINER4, ip_batch},
};

/// Where the uids of a container with a user namespace of its own begin on the host.
pub const FIRST_UID: u32 = 100_000;

/// A container with a network namespace of its own, routed through the node.
#[derive(Debug)]
pub struct Container<'n> {
    node: &'n Node,
    namespace: Namespace,
    user: Option<Arc<OwnedFd>>,
    cgroup: Cgroup,
}

impl<'n> Container<'n> {
    /// A container as an engine makes it for root: uids are the host's.
    #[must_use]
    pub fn rootful(node: &'n Node, name: &str) -> Self {
        let namespace = Namespace::network();
        Self::connected(node, name, namespace, None)
    }

    /// A container with a user namespace of its own: its uid 0 is [`FIRST_UID`] on the host.
    #[must_use]
    pub fn unprivileged(node: &'n Node, name: &str) -> Self {
        let Namespaces { net, user } = unprivileged();
        Self::connected(node, name, net, user)
    }

    fn connected(
        node: &'n Node,
        name: &str,
        namespace: Namespace,
        user: Option<Arc<OwnedFd>>,
    ) -> Self {
        ip_batch(
            node.inside(),
            &[
                format!(
                    "link add veth-{name} type veth peer name eth0 netns {}",
                    namespace.net_path().display()
                ),
                format!("link set veth-{name} up"),
                format!("address add 192.0.2.1/24 dev veth-{name}"),
                format!("address add 2001:db8:192::1/64 dev veth-{name} nodad"),
            ],
        );
        ip_batch(
            &namespace,
            &[
                "link set lo up".to_owned(),
                "link set eth0 up".to_owned(),
                format!("address add {CONTAINER4}/24 dev eth0"),
                "address add 2001:db8:192::2/64 dev eth0 nodad".to_owned(),
                "route add default via 192.0.2.1".to_owned(),
                "route add default via 2001:db8:192::1".to_owned(),
            ],
        );
        Self {
            node,
            namespace,
            user,
            cgroup: node.cgroup().child(&format!("containers/{name}")),
        }
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A user of the container, by the uid inside.
    #[must_use]
    pub fn user(&self, uid: u32) -> Place {
        let place = Place::new(&self.namespace, &self.cgroup).as_uid(uid);
        match &self.user {
            Some(user) => place.in_user_namespace(Arc::clone(user)),
            None => place,
        }
    }

    /// A user of the container who sends, by the uid inside.
    #[must_use]
    pub fn sender(&self, uid: u32) -> Sender<'n> {
        self.node.sender_at(self.user(uid))
    }
}

/// What a container is made of.
#[derive(Debug)]
pub struct Namespaces {
    /// Its network.
    pub net: Namespace,
    /// Its users, if it has its own.
    pub user: Option<Arc<OwnedFd>>,
}

/// A network namespace in a user namespace of its own, whose uid 0 is [`FIRST_UID`] on the host.
pub fn unprivileged() -> Namespaces {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    // SAFETY: one system call between fork and exec, and no memory is touched.
    unsafe {
        command.pre_exec(|| {
            if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    // It only holds the namespaces open until they are opened here.
    let mut holder = command.spawn().expect("user namespaces can be made");
    let proc = format!("/proc/{}", holder.id());
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{map}"), format!("0 {FIRST_UID} 65536"))
            .expect("root may map uids");
    }
    let open = |name: &str| -> OwnedFd {
        File::open(format!("{proc}/ns/{name}"))
            .expect("the holder lives")
            .into()
    };
    let user = Some(Arc::new(open("user")));
    let net = Namespace::from_network(open("net"));
    holder.kill().expect("it is our child");
    holder.wait().expect("it is our child");
    Namespaces { net, user }
}
