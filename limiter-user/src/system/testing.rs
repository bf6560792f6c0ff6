//! What the tests of this module share: network namespaces and cgroups of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, unshare};

use super::mounts;

/// Whether this is root. Tests of things that only root can make say so and end without it.
pub fn is_root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("not tested, only root can: {what}");
    }
    root
}

/// Runs `body` on a thread in a network namespace of its own, which goes away with the thread.
/// `body` gets a function that runs `ip` there.
pub fn in_own_netns(body: impl FnOnce(&dyn Fn(&str)) + Send + 'static) {
    if !is_root("a network namespace of its own") {
        return;
    }
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        body(&|arguments| {
            let status = Command::new("ip")
                .args(arguments.split(' '))
                .status()
                .expect("ip (iproute2) can be run");
            assert!(status.success(), "ip {arguments}");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A cgroup below the root of the tree, removed at the end with everything below it.
pub struct TestCgroup {
    /// Where the tree is mounted.
    pub mount: PathBuf,
    /// Its name: its path below the mount is `/name`.
    pub name: String,
}

impl TestCgroup {
    /// A name that no other test has; the cgroup is not made yet. None without root.
    pub fn reserve() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        is_root("cgroups").then(|| Self {
            mount: mounts::find_cgroup2().expect("a cgroup v2 mount"),
            name: format!(
                "limiter-test-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
        })
    }

    /// A cgroup of its own. None without root.
    pub fn make() -> Option<Self> {
        let cgroup = Self::reserve()?;
        fs::create_dir(cgroup.path()).expect("a cgroup");
        Some(cgroup)
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.mount.join(&self.name)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        remove_cgroups(&self.path());
    }
}

/// Removes a cgroup and all below it; the files in it go by themselves.
pub fn remove_cgroups(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
