//! Reading versions out of what tools print. Pure text in, numbers out.

use std::fmt;

/// A release of Rust, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 1, so far.
    pub major: u32,
    /// The number that grows every six weeks.
    pub minor: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What `rustc -vV` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    /// The release.
    pub release: Release,
    /// Whether it takes unstable flags without being told to.
    pub nightly: bool,
    /// The major version of the LLVM it emits bitcode with. A reader of the same major version
    /// or a newer one understands it.
    pub llvm: u32,
    /// The first line, for people.
    pub text: String,
}

/// Reads the output of `rustc -vV`; nothing when release or LLVM version are not in it.
pub fn rustc(verbose: &str) -> Option<Rustc> {
    let field = |name: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim())
    };
    let release = field("release:")?;
    Some(Rustc {
        release: self::release(release)?,
        nightly: release.ends_with("-nightly") || release.ends_with("-dev"),
        llvm: number(field("LLVM version:")?)?,
        text: verbose.lines().next().unwrap_or(release).to_owned(),
    })
}

/// Reads a release such as `1.96.0` or `1.97.0-nightly`, or the Debian version of one.
pub fn release(text: &str) -> Option<Release> {
    let mut parts = text.split('.');
    Some(Release {
        major: number(parts.next()?)?,
        minor: number(parts.next()?)?,
    })
}

/// What `ldd` says of the LLVM a program is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The major version of the shared library.
    Version(u32),
    /// The library of that name is gone: the program cannot run.
    Gone(String),
    /// Not linked to a shared LLVM.
    No,
}

/// Reads the output of `ldd`: `libLLVM.so.22.1` (Debian, LLVM 19 and later), `libLLVM-18.so.1`.
pub fn linked_llvm(ldd: &str) -> Linked {
    for line in ldd.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("libLLVM") else {
            continue;
        };
        let name = line.split_whitespace().next().unwrap_or(line);
        if line.ends_with("not found") {
            return Linked::Gone(name.to_owned());
        }
        let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        if let Some(version) = number(digits) {
            return Linked::Version(version);
        }
    }
    Linked::No
}

/// The LLVM that cargo built `package` for, by the features recorded in its list of installed
/// programs (`$CARGO_HOME/.crates2.json`).
pub fn feature_llvm(crates2: &str, package: &str) -> Option<u32> {
    let list: serde_json::Value = serde_json::from_str(crates2).ok()?;
    let installs = list["installs"].as_object()?;
    let (_, entry) = installs
        .iter()
        .find(|(name, _)| name.split(' ').next() == Some(package))?;
    let features = entry["features"].as_array()?;
    features
        .iter()
        .filter_map(|f| f.as_str()?.strip_prefix("llvm-"))
        .find_map(number)
}

/// The LLVM inside a statically linked program: its bitcode writer carries `LLVM22.1.8`.
pub fn embedded_llvm(program: &[u8]) -> Option<u32> {
    const MARK: &[u8] = b"LLVM";
    program
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .find_map(|(at, _)| {
            let rest = program.get(at + MARK.len()..)?;
            let rest = rest.get(..rest.len().min(16))?;
            let end = rest
                .iter()
                .position(|b| !b.is_ascii_digit() && *b != b'.')?;
            let text = std::str::from_utf8(rest.get(..end)?).ok()?;
            let dots = text.bytes().filter(|b| *b == b'.').count();
            if dots == 2 { number(text) } else { None }
        })
}

/// The number a text begins with.
pub fn number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)
binary: rustc
commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96
commit-date: 2026-05-25
host: x86_64-unknown-linux-gnu
release: 1.96.0
LLVM version: 22.1.8
";

    #[test]
    fn reads_rustc() {
        let found = rustc(DEBIAN).unwrap();
        assert_eq!(
            found.release,
            Release {
                major: 1,
                minor: 96
            }
        );
        assert_eq!(found.llvm, 22);
        assert!(!found.nightly);
        assert!(found.text.starts_with("rustc 1.96.0"));

        let nightly = DEBIAN.replace("release: 1.96.0", "release: 1.97.0-nightly");
        assert!(rustc(&nightly).unwrap().nightly);
        assert_eq!(rustc("rustc 1.96.0"), None);
        assert_eq!(rustc(""), None);
    }

    #[test]
    fn releases_order_by_number_not_by_text() {
        assert!(release("1.100.0").unwrap() > release("1.96.0+dfsg1-1~deb12u2").unwrap());
        assert_eq!(release("nonsense"), None);
    }

    #[test]
    fn reads_the_linked_llvm() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\
                   \tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f)\n";
        assert_eq!(linked_llvm(ldd), Linked::Version(22));
        assert_eq!(
            linked_llvm("\tlibLLVM-18.so.1 => /usr/lib/libLLVM-18.so.1 (0x7f)"),
            Linked::Version(18)
        );
        assert_eq!(
            linked_llvm("\tlibLLVM.so.22.1 => not found\n"),
            Linked::Gone("libLLVM.so.22.1".into())
        );
        assert_eq!(
            linked_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"),
            Linked::No
        );
    }

    #[test]
    fn reads_the_feature_of_an_installed_linker() {
        let list = r#"{"installs":{
            "other 1.0.0 (registry+x)":{"features":["llvm-19"]},
            "bpf-linker 0.13.0 (registry+x)":{"features":["default","llvm-22"]}}}"#;
        assert_eq!(feature_llvm(list, "bpf-linker"), Some(22));
        assert_eq!(feature_llvm(list, "bpf"), None);
        assert_eq!(feature_llvm("not json", "bpf-linker"), None);
    }

    #[test]
    fn reads_the_llvm_inside_a_static_program() {
        assert_eq!(
            embedded_llvm(b"\0LLVMContext\0LLVM 3.\0LLVM21.1.0\0"),
            Some(21)
        );
        assert_eq!(embedded_llvm(b"LLVM_VERSION LLVM2 LLVM"), None);
        assert_eq!(embedded_llvm(b""), None);
    }
}
