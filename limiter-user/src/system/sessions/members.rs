//! What belongs to a cgroup: the cgroups below it, their threads, and the sockets these hold.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::system::pattern::vanished;

/// The ids of a cgroup and of all below it, as the kernel puts them on sockets: the inodes of
/// their directories. `cgroup` is a directory below the cgroup v2 mount; one that is gone has none.
///
/// A cgroup that was removed has no directory, and sockets made in it keep its id: those are not
/// found by the ids alone. See [`held_sockets`].
///
/// # Errors
/// When a directory cannot be read, other than because it is gone.
pub fn cgroup_ids(cgroup: &Path) -> io::Result<HashSet<u64>> {
    let mut ids = HashSet::new();
    walk(
        cgroup,
        &mut |directory| match fs::symlink_metadata(directory) {
            Ok(metadata) => {
                ids.insert(metadata.ino());
                Ok(())
            }
            Err(error) if vanished(&error) => Ok(()),
            Err(error) => Err(error),
        },
    )?;
    Ok(ids)
}

/// The threads in a cgroup and below it.
///
/// # Errors
/// As [`cgroup_ids`].
pub(super) fn threads(cgroup: &Path) -> io::Result<HashSet<u32>> {
    let mut threads = HashSet::new();
    walk(cgroup, &mut |directory| {
        // Unlike cgroup.procs this can be read in every kind of cgroup, and misses no thread that
        // was moved alone.
        match fs::read_to_string(directory.join("cgroup.threads")) {
            Ok(text) => {
                threads.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
                Ok(())
            }
            Err(error) if vanished(&error) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    Ok(threads)
}

/// The inodes of the sockets that threads in a cgroup or below it hold, as in
/// [`SessionFacts::inode`](super::SessionFacts::inode): also of those that were made elsewhere, or
/// in a cgroup that has been removed since.
///
/// It looks at every file of every process there: some microseconds each.
///
/// # Errors
/// As [`cgroup_ids`].
pub fn held_sockets(cgroup: &Path) -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for thread in threads(cgroup)? {
        // Threads end while they are looked at.
        let Ok(files) = fs::read_dir(format!("/proc/{thread}/fd")) else {
            continue;
        };
        inodes.extend(
            files
                .flatten()
                .filter_map(|file| socket_inode(&fs::read_link(file.path()).ok()?)),
        );
    }
    Ok(inodes)
}

/// The inode in `socket:[12345]`.
pub(super) fn socket_inode(link: &Path) -> Option<u64> {
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// Calls `each` for a directory and all below it. What vanishes meanwhile is left out.
fn walk(top: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    // A list of its own, not the stack: cgroups nest as deep as their owner likes.
    let mut open: Vec<PathBuf> = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        each(&directory)?;
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if vanished(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    open.push(entry.path());
                }
                Ok(_) => {}
                Err(error) if vanished(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
