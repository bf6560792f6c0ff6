//! Packages of other releases of Debian: an apt with a state of its own, on the mirror that this
//! machine's apt is configured with. Nothing is installed from there, and the machine's own lists
//! stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::kernels::SUITES;
use crate::apt;
use crate::run::{Run, ask};

/// How old the lists of packages may be before they are fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Debian's keys, where its package puts them.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from, by archive.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    main: String,
    security: Option<String>,
}

/// An apt of its own.
pub struct Mirror {
    directory: PathBuf,
}

impl Mirror {
    /// Sets it up below `directory`, with lists no older than a day unless there are old ones and
    /// no fresh ones can be had.
    ///
    /// # Errors
    /// When this machine's apt knows no mirror of Debian, or the mirror cannot be reached.
    pub fn open(directory: &Path) -> Result<Self> {
        let mirror = Self {
            directory: directory.to_path_buf(),
        };
        for part in ["lists/partial", "archives/partial", "preferences"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        fs::write(directory.join("status"), "")?;
        let sources = sources(&places()?);
        let file = directory.join("sources.list");
        let same = fs::read_to_string(&file).is_ok_and(|old| old == sources);
        let stamp = directory.join("updated");
        if same && age(&stamp).is_some_and(|age| age < FRESH) {
            return Ok(mirror);
        }
        fs::write(&file, sources)?;
        let updated = apt::apt_get("fetching the lists of packages of other releases")
            .args(mirror.options())
            .arg("update")
            .hint("The Debian mirror that apt is configured with must be reachable.")
            .run();
        match updated {
            Ok(()) => fs::write(&stamp, "").context("cannot note when the lists were fetched")?,
            Err(error) if same && stamp.exists() => {
                crate::run::say(&format!("Using old lists of packages: {error:#}"));
            }
            Err(error) => return Err(error),
        }
        Ok(mirror)
    }

    /// The packages whose names match this pattern.
    ///
    /// # Errors
    /// When apt does not answer.
    pub fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let options = self.options();
        let mut args: Vec<&str> = options.iter().map(String::as_str).collect();
        args.extend(["search", "--names-only", pattern]);
        let found = ask("apt-cache", &args).context("`apt-cache search` failed")?;
        Ok(found
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect())
    }

    /// The packages that this one depends on.
    pub fn depends(&self, package: &str) -> Vec<String> {
        let options = self.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        apt::depends_with(&options, package)
    }

    /// Downloads packages and unpacks them into a directory, installing nothing.
    ///
    /// # Errors
    /// When one cannot be had, or is broken.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let downloads = self.directory.join("downloads");
        for dir in [&downloads, into] {
            // What an interrupted run left.
            if dir.exists() {
                fs::remove_dir_all(dir)
                    .with_context(|| format!("cannot clear {}", dir.display()))?;
            }
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        apt::apt_get("downloading a kernel")
            .args(self.options())
            .arg("download")
            .args(packages)
            .dir(&downloads)
            .hint("The Debian mirror that apt is configured with must be reachable.")
            .run()?;
        for entry in fs::read_dir(&downloads)? {
            Run::new("dpkg-deb", "unpacking a kernel")
                .arg("-x")
                .arg(entry?.path())
                .arg(into)
                .run()?;
        }
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    fn options(&self) -> Vec<String> {
        let at = |name: &str| self.directory.join(name).display().to_string();
        [
            ("Dir::State", at("")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("")),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::Etc::preferences", "-".to_owned()),
            ("Dir::Etc::preferencesparts", at("preferences")),
            // Names and sizes are all that is needed.
            ("Acquire::Languages", "none".to_owned()),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
            // The lists of a release that is no longer looked after run out; it stays what it is.
            ("Acquire::Check-Valid-Until", "false".to_owned()),
            // As root, so that it may write below the workspace wherever that is.
            ("APT::Sandbox::User", "root".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
        .collect()
    }
}

/// Asks this machine's apt where Debian's archives are.
fn places() -> Result<Places> {
    let asked = || {
        ask(
            "apt-get",
            &[
                "indextargets",
                "--format",
                "$(ORIGIN) $(LABEL) $(REPO_URI)",
                "Created-By: Packages",
            ],
        )
        .and_then(|text| read_places(&text))
    };
    if let Some(places) = asked() {
        return Ok(places);
    }
    // It names only what it has lists of.
    apt::update()?;
    match asked() {
        Some(places) => Ok(places),
        None => bail!(
            "this machine's apt is configured with no mirror of Debian, so there is nowhere to \
             get other kernels from"
        ),
    }
}

fn read_places(text: &str) -> Option<Places> {
    let place = |label: &str| {
        text.lines().find_map(|line| {
            let (found, uri) = line.strip_prefix("Debian ")?.split_once(' ')?;
            (found == label).then(|| uri.to_owned())
        })
    };
    Some(Places {
        main: place("Debian")?,
        security: place("Debian-Security"),
    })
}

fn sources(places: &Places) -> String {
    let signed = if Path::new(KEYS).is_file() {
        format!("[signed-by={KEYS}] ")
    } else {
        String::new()
    };
    let mut lines = String::new();
    for (main, security) in SUITES {
        lines.push_str(&format!("deb {signed}{} {main} main\n", places.main));
        if let (Some(suite), Some(uri)) = (security, &places.security) {
            lines.push_str(&format!("deb {signed}{uri} {suite} main\n"));
        }
    }
    lines
}

fn age(file: &Path) -> Option<Duration> {
    let changed = fs::metadata(file).ok()?.modified().ok()?;
    SystemTime::now().duration_since(changed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let places = read_places(
            "Other Node https://other.example/ \n\
             Debian Debian http://mirror.example/debian/\n\
             Debian Debian http://mirror.example/debian/\n\
             Debian Debian-Security http://mirror.example/security/\n",
        )
        .unwrap();
        assert_eq!(places.main, "http://mirror.example/debian/");
        let sources = sources(&places);
        assert!(sources.contains(" http://mirror.example/debian/ bullseye main\n"));
        assert!(sources.contains(" http://mirror.example/security/ trixie-security main\n"));
        assert_eq!(read_places("Ubuntu Ubuntu http://mirror.example/\n"), None);
    }
}
