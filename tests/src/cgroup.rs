//! Control groups that clear themselves away.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// A cgroup below the cgroup v2 mount. Dropping it kills who is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Cgroup {
    /// A cgroup at the top, with a name that no other process and no other test has.
    #[must_use]
    pub fn at_top() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("limiter-e2e-{}-{number}", std::process::id());
        Self::make(mount_point().join(name))
    }

    /// A cgroup below this one; `name` may have several components.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::make(self.directory.join(name))
    }

    /// Those at the top that a process made for itself and could not remove: it has ended.
    #[must_use]
    pub fn left_by(pid: u32) -> Vec<Self> {
        let entries = fs::read_dir(mount_point()).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                ["e2e", "ktest"]
                    .iter()
                    .any(|kind| name.starts_with(&format!("limiter-{kind}-{pid}-")))
            })
            .map(|entry| Self {
                directory: entry.path(),
            })
            .collect()
    }

    fn make(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("cannot make the cgroup {directory:?}: {error}"));
        Self { directory }
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its path below the cgroup v2 mount, as a policy names it: it starts with `/`.
    #[must_use]
    pub fn path(&self) -> String {
        let below = self
            .directory
            .strip_prefix(mount_point())
            .expect("it was made below the mount");
        format!("/{}", below.display())
    }

    /// Moves the process in.
    pub fn admit(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
            .unwrap_or_else(|error| panic!("cannot move {pid} to {:?}: {error}", self.directory));
    }

    /// Removes it now, as a container engine does when a container stops.
    pub fn remove(self) {
        drop(self);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let mut killed = Vec::new();
        let gone = (0..200).any(|_| {
            let gone = remove_tree(&self.directory, &mut killed);
            if !gone {
                thread::sleep(Duration::from_millis(5));
            }
            gone
        });
        if !gone {
            eprintln!("the cgroup {:?} cannot be removed", self.directory);
        }
        // Daemons that left their parents became children of this process. Others are reaped by
        // whoever started them.
        for pid in killed {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Kills who is in it, removes what is below it and then itself. Whether it is gone.
fn remove_tree(directory: &Path, killed: &mut Vec<Pid>) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return true;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), killed);
        }
    }
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| line.parse().ok()) {
        // Whoever ends before the signal comes is what is wanted; 0 is in another PID namespace.
        if pid > 0 {
            let pid = Pid::from_raw(pid);
            let _ = kill(pid, Signal::SIGKILL);
            killed.push(pid);
        }
    }
    fs::remove_dir(directory).is_ok()
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn mount_point() -> &'static Path {
    static MOUNT: OnceLock<PathBuf> = OnceLock::new();
    MOUNT.get_or_init(|| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
        mounts
            .lines()
            .find_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                right.starts_with("cgroup2 ").then_some(())?;
                left.split(' ').nth(4).map(PathBuf::from)
            })
            .expect("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")
    })
}
