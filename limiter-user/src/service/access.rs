//! Who may use a UNIX socket, by its access control list: the kernel keeps everybody else from even
//! knocking, so that nobody can fill the queue of those who wait to be let in.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

/// `struct posix_acl_xattr_header` and `_entry` (`linux/posix_acl_xattr.h`).
const NAME: &std::ffi::CStr = c"system.posix_acl_access";
const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
const READ_WRITE: u16 = 6;

/// Lets its owner and these users use the socket, and nobody else. On a file system without access
/// control lists everybody may knock, and is turned away by whoever listens.
///
/// # Errors
/// The permissions cannot be set.
pub fn admit(socket: &Path, uids: &BTreeSet<u32>) -> io::Result<()> {
    match set(socket, &list(uids)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
            log::debug!("{}: no access control lists here", socket.display());
            fs::set_permissions(socket, fs::Permissions::from_mode(0o666))
        }
        done => done,
    }
}

fn list(uids: &BTreeSet<u32>) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    let mut entry = |tag: u16, permissions: u16, id: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    };
    entry(USER_OBJ, READ_WRITE, NO_ID);
    // Sorted, as the kernel wants them. Root needs no entry.
    for uid in uids.iter().filter(|uid| **uid != 0) {
        entry(USER, READ_WRITE, *uid);
    }
    entry(GROUP_OBJ, 0, NO_ID);
    entry(MASK, READ_WRITE, NO_ID);
    entry(OTHER, 0, NO_ID);
    bytes
}

fn set(path: &Path, list: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both names end in a zero, the list is as long as is said, and all of them outlive the
    // call, which writes to none.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            NAME.as_ptr(),
            list.as_ptr().cast(),
            list.len(),
            0,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{net::UnixListener, process::CommandExt as _},
        process::Command,
    };

    use super::*;

    #[test]
    fn only_those_who_are_named_may_knock() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested, only root can: other users at a socket");
            return;
        }
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let path = directory.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let may = |uid: u32| {
            let script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
            let mut command = Command::new("python3");
            command.args(["-c", script]).arg(&path).current_dir("/");
            let done = command.uid(uid).gid(uid).output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(
                done.status.success() || said.contains("PermissionError"),
                "{said}"
            );
            done.status.success()
        };
        admit(&path, &BTreeSet::from([0, 54_321, 54_323])).unwrap();
        assert!(may(54_321) && may(54_323) && may(0));
        assert!(!may(54_322));
        admit(&path, &BTreeSet::from([54_322])).unwrap();
        assert!(may(54_322) && !may(54_321));
    }
}
