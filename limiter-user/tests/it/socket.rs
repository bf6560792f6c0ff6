//! The socket's file.

use std::{fs, os::unix::fs::PermissionsExt, os::unix::net::UnixListener, path::Path};

use limiter_user::control::socket::{self, SocketError};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn group_exists() -> bool {
    fs::read_to_string("/etc/group")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("limiter:"))
}

#[tokio::test]
async fn only_root_and_the_group_may_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run").join("control.sock");
    let socket = socket::bind(&path).unwrap();
    let expected = if group_exists() { 0o660 } else { 0o600 };
    assert_eq!(mode(&path), expected);
    let left: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "control.sock" && name != "control.sock.lock")
        .collect();
    assert!(left.is_empty(), "nothing else stays: {left:?}");
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_living_agent_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let first = socket::bind(&path).unwrap();
    let second = socket::bind(&path).unwrap_err();
    assert!(matches!(second, SocketError::InUse { .. }), "{second}");
    // Not even if its lock was removed.
    fs::remove_file(path.with_added_extension("lock")).unwrap();
    let third = socket::bind(&path).unwrap_err();
    assert!(matches!(third, SocketError::InUse { .. }), "{third}");
    drop(first);
    socket::bind(&path).unwrap();
}

#[tokio::test]
async fn what_a_dead_agent_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    socket::bind(&path).unwrap();
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    fs::write(&path, "precious").unwrap();
    let error = socket::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn the_socket_of_a_successor_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let old = socket::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _new = UnixListener::bind(&path).unwrap();
    drop(old);
    assert!(path.exists(), "only its own socket is removed");
}
