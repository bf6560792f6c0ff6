//! What is in the virtual machine: this machine's own programs and libraries, the product, its
//! tests, a kernel's modules, and the script that is the first process.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::checks::{self, Test};
use super::cpio::Archive;
use crate::run::{Run, ask};
use crate::toolchain::find::on_path;

/// Programs that the tests run; the rest of a system is busybox.
const PROGRAMS: [&str; 16] = [
    "busybox", "ip", "tc", "bridge", "ss", "nft", "nsenter", "unshare", "setpriv", "bash",
    "getent", "mount", "umount", "modprobe", "cp", "timeout",
];

/// Libraries that the C library loads by itself.
const HIDDEN_LIBRARIES: [&str; 2] = ["libnss_files.so.2", "libgcc_s.so.1"];

/// Programs of the tests' own.
const HELPERS: [&str; 5] = [
    "limiter-sender",
    "limiter-packets",
    "limiter-relay",
    "limiter-greeter",
    "limiter-load",
];

/// Files that every system has, with just enough in them.
const FILES: [(&str, &str); 8] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/shadow", "root:*:::::::\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", ""),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\n",
    ),
    ("etc/subuid", ""),
    ("etc/subgid", ""),
];

/// Directories; those that a file is put into make themselves.
const DIRECTORIES: [&str; 12] = [
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "mnt",
    "home",
    "root",
    "var/tmp",
    "var/lib",
    "etc",
    "usr/local/bin",
];

/// Links that merge the directories of programs and libraries, as Debian does.
const LINKS: [(&str, &str); 5] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/bin"),
    ("usr/sbin", "bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

/// The product and its tests, as they were built.
pub struct Built {
    /// The agent.
    pub agent: PathBuf,
    /// Where the programs are that try to send.
    pub helpers: PathBuf,
    /// The test programs, by name.
    pub tests: Vec<(String, PathBuf)>,
}

/// What is the same for every kernel, to run these tests, gathered in a directory that an image is made from.
///
/// # Errors
/// When a program is not here, or something cannot be read or written.
pub fn gather(built: &Built, tests: &[Test], into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("cannot clear {}", into.display()))?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(into.join(directory))?;
    }
    let own = into.join("limiter");
    let mut programs = Vec::new();
    let agent = [(built.agent.clone(), own.join("limiter"))];
    let helpers = HELPERS.map(|name| (built.helpers.join(name), own.join(name)));
    let test_programs = built
        .tests
        .iter()
        .map(|(name, from)| (from.clone(), own.join("deps").join(name)));
    for (from, to) in agent.into_iter().chain(helpers).chain(test_programs) {
        parent(&to)?;
        // Names for a debugger are nine tenths of it, and memory is scarce there.
        Run::new("strip", "making a test program smaller")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&to)
            .arg(from)
            .run()?;
        programs.push(to);
    }
    for name in PROGRAMS {
        let from = find(name)?;
        copy(&from, &into.join("usr/bin").join(name))?;
        programs.push(from);
    }
    for library in libraries(&programs) {
        copy(&library, &merged(into, &library))?;
    }
    for (name, content) in FILES {
        fs::write(into.join(name), content)?;
    }
    fs::write(own.join("checks"), checks::script(tests))?;
    let init = into.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Writes the image: these trees over one another.
///
/// # Errors
/// When something cannot be read or written.
pub fn write(trees: &[&Path], image: &Path) -> Result<()> {
    let mut archive = Archive::create(image)?;
    let mut made = BTreeSet::from([PathBuf::new()]);
    archive.directory("usr")?;
    made.insert(PathBuf::from("usr"));
    for (name, target) in LINKS {
        archive.symlink(name, target)?;
    }
    for tree in trees {
        add(&mut archive, &mut made, tree, Path::new(""))?;
    }
    archive.finish().map(drop)
}

/// Adds what is in `tree` below `inner`.
fn add<W: std::io::Write>(
    archive: &mut Archive<W>,
    made: &mut BTreeSet<PathBuf>,
    tree: &Path,
    inner: &Path,
) -> Result<()> {
    let here = tree.join(inner);
    let listed = fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))?;
    for entry in listed {
        let entry = entry?;
        let path = inner.join(entry.file_name());
        let name = path.to_string_lossy();
        let kind = entry.metadata()?;
        if kind.is_dir() {
            if made.insert(path.clone()) {
                archive.directory(&name)?;
            }
            add(archive, made, tree, &path)?;
        } else if kind.is_file() {
            archive.copy(&name, kind.permissions().mode() & 0o777, &entry.path())?;
        }
    }
    Ok(())
}

/// The libraries that these programs load, by the path under which they look for them.
fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = programs
        .iter()
        .filter_map(|program| ask("ldd", &[&program.to_string_lossy()]))
        .flat_map(|text| paths(&text))
        .collect();
    let beside: BTreeSet<PathBuf> = found
        .iter()
        .filter_map(|library| library.parent())
        .flat_map(|directory| HIDDEN_LIBRARIES.map(|name| directory.join(name)))
        .filter(|path| path.is_file())
        .collect();
    found.extend(beside);
    found
}

/// Reads the output of `ldd`.
fn paths(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Where a library is put, so that it is found where it is looked for once [`LINKS`] are there.
fn merged(into: &Path, library: &Path) -> PathBuf {
    let inner = library.strip_prefix("/").unwrap_or(library);
    if inner.starts_with("usr") {
        into.join(inner)
    } else {
        into.join("usr").join(inner)
    }
}

fn find(name: &str) -> Result<PathBuf> {
    on_path(name)
        .or_else(|| {
            ["/usr/sbin", "/sbin"]
                .iter()
                .map(|directory| Path::new(directory).join(name))
                .find(|path| path.is_file())
        })
        .with_context(|| format!("{name} is not installed"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    parent(to)?;
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
        .map(drop)
}

fn parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_where_they_are_looked_for() {
        let found = paths(
            "\tlinux-vdso.so.1 (0x00007f7a8e7e5000)\n\
             \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f7a8e6d4000)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f7a8e7e7000)\n\
             \tstatically linked\n",
        );
        let to: Vec<PathBuf> = found
            .iter()
            .map(|path| merged(Path::new("r"), path))
            .collect();
        assert_eq!(
            to,
            [
                Path::new("r/usr/lib/x86_64-linux-gnu/libm.so.6"),
                Path::new("r/usr/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn trees_lie_over_one_another() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["one/usr/bin/a", "one/etc/b", "two/usr/lib/c"] {
            parent(&dir.path().join(file)).unwrap();
            fs::write(dir.path().join(file), "content").unwrap();
        }
        let image = dir.path().join("image");
        write(&[&dir.path().join("one"), &dir.path().join("two")], &image).unwrap();
        let text = fs::read(&image).unwrap();
        let text = String::from_utf8_lossy(&text);
        for name in ["usr/bin/a\0", "etc/b\0", "usr/lib/c\0", "usr/sbin\0"] {
            assert_eq!(text.matches(name).count(), 1, "{name:?}");
        }
    }
}
