//! The cgroups that a policy's patterns match.

use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use super::{
    SystemError,
    pattern::{PatternSet, Place, vanished},
};

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup {
    /// Its path below the cgroup v2 mount, starting with `/`.
    pub path: String,
    /// The kernel's id of it: the inode number of its directory. Ids are not reused.
    pub id: u64,
    /// How deep it is: 1 for a child of the root of the mount.
    pub depth: u32,
}

/// The cgroups that match, by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// By the pattern as it is written; each list sorted by path.
    by_pattern: HashMap<String, Vec<Cgroup>>,
}

impl Cgroups {
    /// Finds what `patterns` match below the cgroup v2 mount. Only directories that can match are
    /// looked at. Patterns that are none match nothing.
    ///
    /// # Errors
    /// When the mount, or a directory on the way to a match, cannot be read.
    pub fn resolve<'a>(
        mount: &Path,
        patterns: impl Iterator<Item = &'a str>,
    ) -> Result<Self, SystemError> {
        let failed = |source| SystemError::Read {
            path: mount.to_owned(),
            source,
        };
        fs::metadata(mount).map_err(failed)?;
        let set = PatternSet::new(patterns);
        let mut cgroups = Self::default();
        set.walk(mount, &[Place::ROOT], &mut |directory, places| {
            let mut ends = set.ends(places).peekable();
            if ends.peek().is_none() {
                return Ok(());
            }
            if let Some(cgroup) = look_at(mount, directory)? {
                for pattern in ends {
                    cgroups.insert(pattern, cgroup.clone());
                }
            }
            Ok(())
        })
        .map_err(failed)?;
        for matches in cgroups.by_pattern.values_mut() {
            matches.sort_unstable();
        }
        Ok(cgroups)
    }

    /// Adds a match of `pattern`.
    pub fn insert(&mut self, pattern: &str, cgroup: Cgroup) {
        match self.by_pattern.get_mut(pattern) {
            Some(matches) => matches.push(cgroup),
            None => {
                self.by_pattern.insert(pattern.to_owned(), vec![cgroup]);
            }
        }
    }

    /// What `pattern` matches.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> &[Cgroup] {
        self.by_pattern.get(pattern).map_or(&[], Vec::as_slice)
    }
}

/// The cgroup whose directory this is; none if it is gone.
fn look_at(mount: &Path, directory: &Path) -> io::Result<Option<Cgroup>> {
    let id = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata.ino(),
        Err(error) if vanished(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let below = directory.strip_prefix(mount).unwrap_or(directory);
    Ok(Some(Cgroup {
        path: format!("/{}", below.display()),
        id,
        depth: u32::try_from(below.components().count()).unwrap_or(u32::MAX),
    }))
}

/// The kernel's id of the cgroup at `directory`, and how deep it is below the `mount`; `None` if
/// there is no such cgroup.
#[must_use]
pub fn place_of(directory: &Path, mount: &Path) -> Option<(u64, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let id = fs::metadata(directory).ok()?.ino();
    let below = directory.strip_prefix(mount).ok()?;
    let depth = u32::try_from(below.components().count()).ok()?;
    Some((id, depth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testing::TestCgroup;

    #[test]
    fn real_cgroups_by_pattern() {
        let Some(top) = TestCgroup::make() else {
            return;
        };
        for name in ["user-1.slice", "user-2.slice", "other", "user-1.slice/deep"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        let glob = format!("/{}/user-*.slice", top.name);
        let exact = format!("/{}/user-1.slice/deep", top.name);
        let absent = format!("/{}/absent", top.name);
        let patterns = [glob.as_str(), &exact, &absent, "not a pattern"];
        let found = Cgroups::resolve(&top.mount, patterns.into_iter()).unwrap();

        let paths: Vec<&str> = found
            .matching(&glob)
            .iter()
            .map(|cgroup| cgroup.path.as_str())
            .collect();
        let expected = [
            format!("/{}/user-1.slice", top.name),
            format!("/{}/user-2.slice", top.name),
        ];
        assert_eq!(paths, expected);
        assert!(found.matching(&glob).iter().all(|cgroup| cgroup.depth == 2));
        assert_eq!(found.matching(&absent), []);
        assert_eq!(found.matching("not a pattern"), []);
        let [deep] = found.matching(&exact) else {
            panic!("{found:?}")
        };
        assert_eq!(deep.path, exact);
        assert_eq!(deep.depth, 3);
        assert_eq!(
            deep.id,
            fs::metadata(top.mount.join(&exact[1..])).unwrap().ino()
        );
    }

    #[test]
    fn the_id_is_the_kernels() {
        // The kernel shows the id of a cgroup as the handle of its directory as well.
        let Some(top) = TestCgroup::make() else {
            return;
        };
        let pattern = format!("/{}", top.name);
        let found = Cgroups::resolve(&top.mount, [pattern.as_str()].into_iter()).unwrap();
        let path = std::ffi::CString::new(top.path().to_str().unwrap()).unwrap();
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: u64,
        }
        let mut handle = Handle {
            bytes: 8,
            kind: 0,
            id: 0,
        };
        let mut mount_id = 0;
        // SAFETY: the handle has room for the eight bytes it promises.
        let result = unsafe {
            libc::name_to_handle_at(
                libc::AT_FDCWD,
                path.as_ptr(),
                (&raw mut handle).cast(),
                &raw mut mount_id,
                0,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        assert_eq!(found.matching(&pattern)[0].id, handle.id);
    }

    #[test]
    fn no_mount_is_an_error() {
        let gone = Path::new("/no/such/mount");
        let error = Cgroups::resolve(gone, ["/a"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("/no/such/mount"), "{error}");
    }
}
