//! Whose the other end of a connection is.

use std::{
    net::Shutdown,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use super::*;

/// Both addresses of the client's socket of this session.
fn client_of(session: &Session) -> (SocketAddr, SocketAddr) {
    (
        session.server.peer_addr().unwrap(),
        session.server.local_addr().unwrap(),
    )
}

#[test]
fn the_client_is_found_by_its_addresses() {
    let owners = Owners::open().unwrap();
    for session in [
        Session::tcp("127.0.0.1"),
        Session::tcp("::1"),
        // IPv4 that arrives at an IPv6 socket.
        Session::open(at("::"), "127.0.0.1", libc::IPPROTO_TCP),
        // IPv4 over an IPv6 socket of the client's.
        Session::open(at("127.0.0.1"), "::ffff:127.0.0.1", libc::IPPROTO_TCP),
    ] {
        let (local, remote) = client_of(&session);
        let owner = owners.owner_of(local, remote).unwrap().unwrap();
        let inode = nix::sys::stat::fstat(&session.client).unwrap().st_ino;
        assert_eq!(u64::from(owner.inode), inode, "{local} {remote}");
        assert_eq!(owner.uid, nix::unistd::geteuid().as_raw());
        assert!(owner.cgroup_id.is_some());
        // The other end is another socket.
        let server = owners.owner_of(remote, local).unwrap().unwrap();
        let inode = nix::sys::stat::fstat(&session.server).unwrap().st_ino;
        assert_eq!(u64::from(server.inode), inode);
    }
}

#[test]
fn whoever_is_not_there_is_nobody() {
    let owners = Owners::open().unwrap();
    let session = Session::tcp("127.0.0.1");
    let (local, remote) = client_of(&session);
    let mut other = local;
    other.set_port(if local.port() == 1 { 2 } else { 1 });
    assert_eq!(owners.owner_of(other, remote).unwrap(), None);
    // The kernel offers the listener where there is no connection.
    assert_eq!(owners.owner_of(remote, other).unwrap(), None);
    drop(session);
    assert_eq!(owners.owner_of(local, remote).unwrap(), None);
}

#[test]
fn who_closed_is_nobody_and_not_root() {
    let owners = Owners::open().unwrap();
    let Session {
        mut client, server, ..
    } = Session::tcp("127.0.0.1");
    let (local, remote) = (server.peer_addr().unwrap(), server.local_addr().unwrap());
    client.write_all(b"request=smtpd_access_policy\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // Half closed, it is still somebody's.
    assert!(owners.owner_of(local, remote).unwrap().is_some());
    drop(client);
    assert_eq!(owners.owner_of(local, remote).unwrap(), None);
}

#[test]
fn another_user_is_seen() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested, only root can: another user's connection");
        return;
    }
    let owners = Owners::open().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = Command::new("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r")])
        .uid(54_321)
        .gid(54_321)
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (server, remote) = listener.accept().unwrap();
    let owner = owners.owner_of(remote, server.local_addr().unwrap());
    drop(client.stdin.take());
    client.wait().unwrap();
    assert_eq!(owner.unwrap().unwrap().uid, 54_321);
}

#[test]
fn a_client_over_mptcp_is_found_too() {
    if std::fs::read_to_string("/proc/sys/net/mptcp/enabled").is_err() {
        eprintln!("not tested: this kernel has no MPTCP");
        return;
    }
    let owners = Owners::open().unwrap();
    let session = Session::open(at("127.0.0.1"), "127.0.0.1", libc::IPPROTO_MPTCP);
    let (local, remote) = client_of(&session);
    let owner = owners.owner_of(local, remote).unwrap().unwrap();
    let inode = nix::sys::stat::fstat(&session.client).unwrap().st_ino;
    assert_eq!(u64::from(owner.inode), inode);
    assert_eq!(owner.uid, nix::unistd::geteuid().as_raw());
}
