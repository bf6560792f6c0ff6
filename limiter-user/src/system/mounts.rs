//! Where the cgroup v2 tree and the BPF file system are mounted.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};

/// The list of mounts as this thread sees them.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Why a mount could not be found.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The list of mounts could not be read.
    #[error("cannot read {MOUNTINFO}: {0}; mount it with: mount -t proc proc /proc")]
    List(#[source] io::Error),
    /// No cgroup v2 tree.
    #[error(
        "no cgroup v2 tree is mounted; mount one with: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
    )]
    NoCgroup2,
    /// Only a part of the tree.
    #[error(
        "only the part {root} of the cgroup v2 tree is mounted, at {at}; limiter must run on the \
         node itself, where the whole tree can be mounted: mount -t cgroup2 cgroup2 DIRECTORY",
        root = root.display(), at = at.display()
    )]
    PartOfCgroup2 {
        /// Which part.
        root: PathBuf,
        /// Where it is mounted.
        at: PathBuf,
    },
    /// No BPF file system.
    #[error(
        "no BPF file system holds {pin_dir} (pin_dir); mount one with: mount -t bpf bpf /sys/fs/bpf{}",
        found.as_ref().map_or_else(String::new, |at| {
            format!(", or set pin_dir to a directory below {}, where one is mounted", at.display())
        }),
        pin_dir = pin_dir.display()
    )]
    NoBpf {
        /// What was to stand on it.
        pin_dir: PathBuf,
        /// One that is mounted somewhere else.
        found: Option<PathBuf>,
    },
}

/// A line of the list of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Which part of the file system is mounted; `/` is the whole.
    root: PathBuf,
    /// Where.
    at: PathBuf,
    /// The type of file system: `cgroup2`, `bpf`.
    kind: String,
}

/// Where the whole cgroup v2 tree is mounted.
///
/// # Errors
/// When it is not mounted, or only a part of it.
pub fn find_cgroup2() -> Result<PathBuf, MountError> {
    choose_cgroup2(&list()?, |at| is(at, CGROUP2_SUPER_MAGIC))
}

/// Where the BPF file system is mounted that holds `pin_dir`, which need not exist yet.
///
/// # Errors
/// When none is mounted above `pin_dir`.
pub fn find_bpf(pin_dir: &Path) -> Result<PathBuf, MountError> {
    choose_bpf(&list()?, pin_dir, |at| is(at, BPF_FS_MAGIC))
}

/// Mounts a BPF file system, root's alone, as systemd mounts it: elsewhere anybody could take our
/// name first.
///
/// # Errors
/// When the system refuses.
pub fn mount_bpf(at: &Path) -> io::Result<()> {
    let target = std::ffi::CString::new(at.as_os_str().as_encoded_bytes())?;
    let options = c"mode=0700";
    // SAFETY: four terminated strings.
    let result = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            target.as_ptr(),
            c"bpf".as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether what can be reached at `at` is of this kind: a mount may lie hidden under a later one.
fn is(at: &Path, kind: FsType) -> bool {
    statfs(at).is_ok_and(|found| found.filesystem_type() == kind)
}

/// The mounts of this process.
fn list() -> Result<Vec<Mount>, MountError> {
    let text = fs::read(MOUNTINFO).map_err(MountError::List)?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// The first reachable mount of the whole tree.
fn choose_cgroup2(
    mounts: &[Mount],
    reachable: impl Fn(&Path) -> bool,
) -> Result<PathBuf, MountError> {
    let mut part = None;
    for mount in mounts {
        if mount.kind != "cgroup2" || !reachable(&mount.at) {
            continue;
        }
        if mount.root == Path::new("/") {
            return Ok(mount.at.clone());
        }
        part.get_or_insert(mount);
    }
    Err(
        part.map_or(MountError::NoCgroup2, |mount| MountError::PartOfCgroup2 {
            root: mount.root.clone(),
            at: mount.at.clone(),
        }),
    )
}

/// The reachable mount that holds `pin_dir`: no other mount may lie between the two.
fn choose_bpf(
    mounts: &[Mount],
    pin_dir: &Path,
    reachable: impl Fn(&Path) -> bool,
) -> Result<PathBuf, MountError> {
    // Of two mounts at one place the later one hides the earlier one.
    let nearest = mounts
        .iter()
        .filter(|mount| pin_dir.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.components().count());
    match nearest {
        Some(mount) if mount.kind == "bpf" && reachable(&mount.at) => Ok(mount.at.clone()),
        _ => Err(MountError::NoBpf {
            pin_dir: pin_dir.to_owned(),
            found: mounts
                .iter()
                .find(|mount| mount.kind == "bpf" && reachable(&mount.at))
                .map(|mount| mount.at.clone()),
        }),
    }
}

/// Takes a line apart: `ID PARENT MAJOR:MINOR ROOT AT OPTIONS [TAGS…] - TYPE SOURCE OPTIONS`
/// (proc_pid_mountinfo(5)).
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let at = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        root: unescape(root),
        at: unescape(at),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Undoes the `\040` that stand for blanks, tabs, newlines and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
40 31 0:38 /docker/abc /mnt/part rw - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw shared:9 master:1 - cgroup2 cgroup2 rw
42 31 0:39 / /sys/fs/bpf rw - bpf bpf rw,mode=700
43 42 0:40 / /sys/fs/bpf/inner rw - tmpfs tmpfs rw
garbage
";

    fn mounts() -> Vec<Mount> {
        LINES
            .as_bytes()
            .split(|&byte| byte == b'\n')
            .filter_map(parse)
            .collect()
    }

    #[test]
    fn lines_are_taken_apart() {
        let mounts = mounts();
        assert_eq!(mounts.len(), 7, "the line of garbage is left out");
        assert_eq!(
            mounts[4],
            Mount {
                root: "/".into(),
                at: "/sys/fs/cgroup/uni fied".into(),
                kind: "cgroup2".into()
            }
        );
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"/a\\134b\\011c"), Path::new("/a\\b\tc"));
        assert_eq!(unescape(b"/a\\04"), Path::new("/a\\04"));
    }

    #[test]
    fn the_whole_cgroup_tree_is_preferred() {
        let found = choose_cgroup2(&mounts(), |_| true).unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/uni fied"));
    }

    #[test]
    fn a_part_of_the_tree_or_none_is_an_error_that_says_what_to_do() {
        let error = choose_cgroup2(&mounts(), |at| at == Path::new("/mnt/part")).unwrap_err();
        assert!(
            error.to_string().contains("only the part /docker/abc"),
            "{error}"
        );
        let error = choose_cgroup2(&mounts(), |_| false).unwrap_err();
        assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
    }

    #[test]
    fn the_bpf_mount_is_the_one_that_holds_the_pins() {
        let choose = |pin_dir| choose_bpf(&mounts(), Path::new(pin_dir), |_| true);
        assert_eq!(
            choose("/sys/fs/bpf/limiter").unwrap(),
            Path::new("/sys/fs/bpf")
        );
        for elsewhere in [
            "/var/lib/limiter",
            "/sys/fs/bpf/inner/limiter",
            "/sys/fs/bpffs",
        ] {
            let error = choose(elsewhere).unwrap_err().to_string();
            assert!(error.contains(elsewhere), "{error}");
            assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
            assert!(error.contains("below /sys/fs/bpf, where"), "{error}");
        }
        let error = choose_bpf(&[], Path::new("/sys/fs/bpf/x"), |_| true).unwrap_err();
        assert!(!error.to_string().contains("or set pin_dir"), "{error}");
    }

    #[test]
    fn this_machine() {
        // Whatever this machine has, what is found is what it is said to be.
        match find_cgroup2() {
            Ok(at) => assert!(at.join("cgroup.controllers").exists(), "{}", at.display()),
            Err(error) => assert!(error.to_string().contains("mount"), "{error}"),
        }
    }
}
