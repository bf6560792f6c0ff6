//! The control socket in the file system: open to root and the group `limiter` alone.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use super::users::group_id;
pub use crate::system::socket_file::SocketError;
use crate::system::socket_file::SocketFile;

/// Whoever is in this group may use the socket.
const GROUP: &str = "limiter";

/// The control socket, bound. Dropping it removes the file.
pub type ControlSocket = SocketFile;

/// Binds `path`: 0660, root and the group `limiter` (0600 where there is no such group).
/// A socket left behind by an agent that died is replaced. Must be called in a tokio runtime.
///
/// # Errors
/// An agent that lives there, something that is no socket, and what the system refuses.
pub fn bind(path: &Path) -> Result<ControlSocket, SocketError> {
    SocketFile::bind(path, "control", |socket| admit(socket, path))
}

/// Lets the group use the socket, which is to be at `path`.
fn admit(socket: &Path, path: &Path) -> io::Result<()> {
    let group = group_id(GROUP);
    if let Some(group) = group {
        // Not root, and not in the group: then only the owner may use it.
        if let Err(error) = chown(socket, None, Some(group)) {
            log::warn!(
                "cannot give {} to the group limiter: {error}",
                path.display()
            );
        }
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))
}
