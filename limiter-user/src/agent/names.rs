//! Names for the numbers in the kernel's reports.

use std::{
    collections::HashMap,
    ffi::CStr,
    fs::{self, File},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::report::event::Names;

/// The kernel's type of file handles that are a kernfs id.
const FILEID_KERNFS: i32 = 0xfe;
/// How many cgroups are remembered.
const MOST_CGROUPS: usize = 65_536;

/// Tenant names by index, shared with whoever changes them.
pub type TenantNames = Arc<RwLock<HashMap<u32, String>>>;

/// Names for the numbers in the kernel's reports.
pub struct NodeNames {
    tenants: TenantNames,
    mount: PathBuf,
    handle: Option<File>,
    cgroups: Mutex<HashMap<u64, String>>,
}

impl NodeNames {
    /// Names of tenants, and of cgroups below `mount`.
    pub fn new(tenants: TenantNames, mount: &Path) -> Self {
        Self {
            tenants,
            mount: mount.to_owned(),
            handle: File::open(mount).ok(),
            cgroups: Mutex::new(HashMap::new()),
        }
    }

    /// Opens the cgroup by its id and asks what it is called now.
    fn look_up(&self, id: u64) -> Option<String> {
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: u64,
        }
        let mut handle = Handle {
            bytes: 8,
            kind: FILEID_KERNFS,
            id,
        };
        let mount = self.handle.as_ref()?;
        // SAFETY: the handle is laid out as the kernel wants it, eight bytes long as it says.
        let raw = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0)?;
        // SAFETY: the kernel just made this descriptor, and nobody else has it.
        let opened = unsafe { OwnedFd::from_raw_fd(raw) };
        let path = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()?;
        let below = path.strip_prefix(&self.mount).ok()?;
        Some(format!("/{}", below.display()))
    }
}

impl Names for NodeNames {
    fn tenant(&self, index: u32) -> Option<String> {
        self.tenants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&index)
            .cloned()
    }

    fn cgroup(&self, id: u64) -> Option<String> {
        let mut known = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&id) {
            return Some(name.clone());
        }
        let name = self.look_up(id)?;
        if known.len() >= MOST_CGROUPS {
            known.clear();
        }
        known.insert(id, name.clone());
        Some(name)
    }

    fn interface(&self, index: u32) -> Option<String> {
        let mut name = [0; libc::IF_NAMESIZE];
        // SAFETY: as much room as the call may fill.
        let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
        if found.is_null() {
            return None;
        }
        // SAFETY: the call succeeded, so the name is a terminated string in the buffer.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Some(name.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        let Ok(mount) = crate::system::mounts::find_cgroup2() else {
            return;
        };
        let name = format!("limiter-names-{}", std::process::id());
        if fs::create_dir(mount.join(&name)).is_err() {
            return;
        }
        let id = fs::metadata(mount.join(&name)).map(|metadata| metadata.ino());
        let names = NodeNames::new(TenantNames::default(), &mount);
        let found = id.ok().and_then(|id| names.cgroup(id));
        fs::remove_dir(mount.join(&name)).unwrap();
        assert_eq!(found, Some(format!("/{name}")));
        assert_eq!(names.cgroup(u64::MAX - 1), None);
    }
}
