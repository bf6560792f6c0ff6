//! The network namespaces in which somebody's sockets can be.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::members;

/// In which network namespaces to look, besides the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// In no other: for a sanction of a uid, which means nothing anywhere else.
    OwnOnly,
    /// In those of the threads in these cgroups and below them (directories of the cgroup v2
    /// mount), and in those that are kept by a mount without a thread in them.
    OfCgroups(&'a [PathBuf]),
    /// In those of all threads, and in those that are kept by a mount.
    All,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ns {
    /// Its inode: unique as long as it lives.
    pub inode: u64,
    /// Whether it is the one of the thread that called [`cut`](super::cut): the node's own.
    pub is_own: bool,
}

impl Ns {
    /// The calling thread's.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        Ok(Self {
            inode: fs::metadata("/proc/thread-self/ns/net")?.ino(),
            is_own: true,
        })
    }
}

/// Finds every namespace once and hands it over, open, as soon as it is found, with where that was.
pub(super) struct Search<'a> {
    seen: HashSet<u64>,
    hidden: usize,
    found: &'a mut dyn FnMut(Ns, &Path, File),
}

impl<'a> Search<'a> {
    /// A search that leaves `own` out.
    pub(super) fn new(own: Ns, found: &'a mut dyn FnMut(Ns, &Path, File)) -> Self {
        Self {
            seen: HashSet::from([own.inode]),
            hidden: 0,
            found,
        }
    }

    /// Looks at all that `place` names, and says how many threads did not let it look.
    ///
    /// # Errors
    /// When `/proc` or one of the cgroups cannot be read, other than because it is gone.
    pub(super) fn run(mut self, place: Where<'_>) -> io::Result<usize> {
        match place {
            Where::OwnOnly => return Ok(0),
            Where::OfCgroups(cgroups) => {
                for cgroup in cgroups {
                    for thread in members::threads(cgroup)? {
                        self.look_at(&PathBuf::from(format!("/proc/{thread}/ns/net")));
                    }
                }
            }
            Where::All => self.all_threads()?,
        }
        self.mounts("/proc/self/mountinfo", Path::new("/"));
        // The agent may live in a mount namespace that does not follow the node's.
        self.mounts("/proc/1/mountinfo", Path::new("/proc/1/root"));
        Ok(self.hidden)
    }

    /// Every thread, not every process: a thread can enter a namespace alone.
    fn all_threads(&mut self) -> io::Result<()> {
        for process in fs::read_dir("/proc")?.flatten() {
            let name = process.file_name();
            if !name
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
            {
                continue;
            }
            // Processes end while they are looked at.
            let Ok(threads) = fs::read_dir(process.path().join("task")) else {
                continue;
            };
            for thread in threads.flatten() {
                self.look_at(&thread.path().join("ns/net"));
            }
        }
        Ok(())
    }

    /// Namespaces without a thread: `ip netns add`, and what container engines keep.
    fn mounts(&mut self, list: &str, root: &Path) {
        let Ok(text) = fs::read_to_string(list) else {
            return;
        };
        for at in text.lines().filter_map(netns_mount) {
            self.look_at(&root.join(at.trim_start_matches('/')));
        }
    }

    /// Hands over the namespace behind `path`, unless it has been already. What is gone, or turns
    /// out to be something else, is nothing.
    fn look_at(&mut self, path: &Path) {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.hidden += usize::from(error.kind() == io::ErrorKind::PermissionDenied);
                return;
            }
        };
        if self.seen.contains(&metadata.ino()) {
            return;
        }
        let Ok(file) = File::open(path) else {
            return;
        };
        // The thread may have moved, or its number may be another's, since it was looked at.
        let Ok(metadata) = file.metadata() else {
            return;
        };
        let inode = metadata.ino();
        if self.seen.insert(inode) {
            let is_own = false;
            (self.found)(Ns { inode, is_own }, path, file);
        }
    }
}

/// Where a line of a mountinfo mounts a network namespace.
fn netns_mount(line: &str) -> Option<String> {
    let mut fields = line.split(' ');
    let root = fields.nth(3)?;
    let at = fields.next()?;
    root.starts_with("net:[").then(|| unescape(at))
}

/// Blanks and backslashes stand there in octal.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_network_namespaces_alone() {
        let line = "540 25 0:4 net:[4026532321] /run/netns/a\\040b rw shared:9 - nsfs nsfs rw";
        assert_eq!(netns_mount(line).as_deref(), Some("/run/netns/a b"));
        for other in [
            "541 25 0:4 mnt:[4026532322] /run/snapd/ns/x.mnt rw - nsfs nsfs rw",
            "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
            "",
        ] {
            assert_eq!(netns_mount(other), None, "{other}");
        }
    }
}
