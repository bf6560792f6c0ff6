//! A copy of /etc in which users come and go, while the machine's own is untouched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::{MsFlags, mount};

/// A private copy of /etc. Files are replaced by rename, as `useradd` and its like do.
#[derive(Debug)]
pub struct Etc {
    directory: PathBuf,
}

impl Etc {
    /// Copies /etc to `directory` and mounts the copy over it. To be called inside a mount
    /// namespace: the directory itself is seen from everywhere, the mount only there.
    pub fn mount_copy(directory: &Path) {
        fs::create_dir(directory).expect("the directory is new");
        let copied = Command::new("cp")
            .arg("-a")
            .args([Path::new("/etc/."), directory])
            .status()
            .expect("cp is installed");
        assert!(copied.success(), "/etc cannot be copied");
        mount(
            Some(directory),
            "/etc",
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .expect("a directory can be bound");
    }

    /// The copy in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
        }
    }

    /// Adds a user and a group of the same name and number.
    pub fn add_user(&self, name: &str, uid: u32) {
        self.add_line("group", name, &format!("{name}:x:{uid}:"));
        self.add_line(
            "passwd",
            name,
            &format!("{name}:x:{uid}:{uid}:{name}:/nonexistent:/bin/sh"),
        );
    }

    /// Removes a user and its group.
    pub fn remove_user(&self, name: &str) {
        for file in ["passwd", "group"] {
            self.edit(file, |line| !is_of(line, name), None);
        }
    }

    /// Gives a user a range of sub-uids.
    pub fn set_subuids(&self, name: &str, first: u32, count: u32) {
        self.add_line("subuid", name, &format!("{name}:{first}:{count}"));
    }

    /// Writes a file below /etc, with the directories it needs.
    pub fn write(&self, file: &str, contents: &str) {
        let path = self.directory.join(file);
        let parent = path.parent().expect("a file is in a directory");
        fs::create_dir_all(parent).expect("directories can be made");
        replace(&path, contents);
    }

    /// Puts a link to `target` in the place of a directory below /etc.
    pub fn link(&self, directory: &str, target: &Path) {
        let path = self.directory.join(directory);
        // It need not be there.
        let _ = fs::remove_dir_all(&path);
        symlink(target, path).expect("nothing is in its place");
    }

    fn add_line(&self, file: &str, name: &str, line: &str) {
        self.edit(file, |old| !is_of(old, name), Some(line));
    }

    fn edit(&self, file: &str, keep: impl Fn(&str) -> bool, add: Option<&str>) {
        let path = self.directory.join(file);
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut new = String::new();
        for line in old.lines().filter(|line| keep(line)).chain(add) {
            new.push_str(line);
            new.push('\n');
        }
        replace(&path, &new);
    }
}

fn is_of(line: &str, name: &str) -> bool {
    line.split(':').next() == Some(name)
}

fn replace(path: &Path, contents: &str) {
    let new = path.with_extension("new");
    fs::write(&new, contents).expect("a file can be written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::rename(&new, path).expect("a file can be renamed");
}
