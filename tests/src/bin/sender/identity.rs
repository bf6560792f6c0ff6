//! Becoming somebody, and sockets that somebody else made.

use std::{
    fs,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use limiter_tests::orders::Orders;
use nix::{
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            recvmsg, sendmsg, socketpair,
        },
        wait::waitpid,
    },
    unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid},
};

use crate::socket;

/// Moves this process into the cgroup with this directory.
pub fn enter_cgroup(directory: &Path) {
    fs::write(directory.join("cgroup.procs"), "0")
        .unwrap_or_else(|error| panic!("cannot enter {directory:?}: {error}"));
}

/// Becomes the user for good.
pub fn become_uid(uid: u32) {
    if Uid::current().as_raw() == uid && Uid::effective().as_raw() == uid {
        return;
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).expect("only root can become somebody else");
    setresgid(group, group, group).expect("only root can become somebody else");
    setresuid(user, user, user).expect("only root can become somebody else");
}

/// A socket that this process makes while it is somebody else. Afterwards it is root again.
pub fn made_before(uid: u32, cgroup: Option<&Path>, orders: &Orders) -> OwnedFd {
    if let Some(cgroup) = cgroup {
        enter_cgroup(cgroup);
    }
    let (user, root) = (Uid::from_raw(uid), Uid::from_raw(0));
    setresuid(root, user, root).expect("only root can become somebody else");
    let socket = socket::make(orders).expect("a socket can be made");
    setresuid(root, root, root).expect("the saved uid is root");
    socket
}

/// A socket that another process makes and passes.
pub fn made_by_other(uid: u32, cgroup: Option<&Path>, orders: &Orders) -> OwnedFd {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .expect("a socket pair can be made");
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.expect("this process can fork") {
        ForkResult::Child => {
            if let Some(cgroup) = cgroup {
                enter_cgroup(cgroup);
            }
            become_uid(uid);
            let socket = socket::make(orders).expect("a socket can be made");
            let passed = [socket.as_raw_fd()];
            sendmsg::<()>(
                theirs.as_raw_fd(),
                &[IoSlice::new(b"s")],
                &[ControlMessage::ScmRights(&passed)],
                MsgFlags::empty(),
                None,
            )
            .expect("a socket can be passed");
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            let socket = receive(&ours);
            waitpid(child, None).expect("the child ends");
            socket
        }
    }
}

fn receive(from: &OwnedFd) -> OwnedFd {
    let mut byte = [0_u8; 1];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(
        from.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .expect("the other process sends a message");
    let passed = message
        .cmsgs()
        .expect("there is room for it")
        .find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("a socket comes with the message");
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(passed) }
}
