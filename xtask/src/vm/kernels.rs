//! Which kernels the product is tried on, and which packages they come in.

/// The kernels that are tried when none is named: those of Debian's releases from the oldest that
/// the product promises anything on, and the newest there is.
pub const KERNELS: [Wanted<'static>; 4] = [
    Wanted("5.10"),
    Wanted("6.1"),
    Wanted("6.12"),
    Wanted(NEWEST),
];

/// How the newest kernel is asked for.
pub const NEWEST: &str = "newest";

/// The suites the kernels are in. The first of a pair is in the main archive, the second in that
/// of security updates.
pub const SUITES: [(&str, Option<&str>); 4] = [
    ("bullseye", Some("bullseye-security")),
    ("bookworm", Some("bookworm-security")),
    ("trixie", Some("trixie-security")),
    ("trixie-backports", None),
];

/// A kernel as it is asked for: the beginning of a version, as `6.1`, or [`NEWEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a>(pub &'a str);

/// A pattern for `apt-cache search`: the kernels for virtual machines. They are a third of the
/// size and have everything that mail is sent through.
pub const PATTERN: &str = "^linux-image-[0-9].*-cloud-amd64$";

impl Wanted<'_> {
    /// Which of these packages it is: the highest version that fits.
    pub fn choose(self, packages: &[String]) -> Option<&str> {
        packages
            .iter()
            .filter_map(|package| Some((version(package)?, package.as_str())))
            .filter(|(numbers, _)| self.fits(numbers))
            .max()
            .map(|(_, package)| package)
    }

    fn fits(self, numbers: &[u32]) -> bool {
        self.0 == NEWEST
            || numbers.starts_with(&self.0.split('.').map_while(number).collect::<Vec<_>>())
    }

    /// Whether it can be asked for at all.
    pub fn makes_sense(self) -> bool {
        self.0 == NEWEST
            || (!self.0.is_empty() && self.0.split('.').all(|part| number(part).is_some()))
    }
}

/// The release in a package's name, as `uname -r` will say it.
pub fn release(package: &str) -> Option<&str> {
    package.strip_prefix("linux-image-")
}

/// The numbers in a package's name; none for packages that only depend on others, whose names
/// have no full version.
fn version(package: &str) -> Option<Vec<u32>> {
    let release = release(package)?.strip_suffix("-cloud-amd64")?;
    let numbers: Vec<u32> = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(number)
        .collect();
    (numbers.len() > 2).then_some(numbers)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_fits_is_chosen() {
        let packages: Vec<String> = [
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-7.3-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-cloud-amd64",
        ]
        .map(str::to_owned)
        .to_vec();
        let chosen = |wanted| Wanted(wanted).choose(&packages).and_then(release);
        assert_eq!(chosen("5.10"), Some("5.10.0-46-cloud-amd64"));
        assert_eq!(chosen("6.1"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(chosen("6.12"), Some("6.12.117+deb13-cloud-amd64"));
        assert_eq!(chosen("6.12.9"), Some("6.12.9+deb13-cloud-amd64"));
        assert_eq!(chosen(NEWEST), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(chosen("4.19"), None);
    }

    #[test]
    fn what_is_no_version_makes_no_sense() {
        assert!(KERNELS.iter().all(|wanted| wanted.makes_sense()));
        assert!(!Wanted("six").makes_sense());
        assert!(!Wanted("6.").makes_sense());
        assert!(!Wanted("").makes_sense());
    }
}
