//! Mailman's lists, as it keeps them: a directory each.
//!
//! | | directory | whose |
//! |---|---|---|
//! | Mailman 2 | `lists/NAME` with a `config.pck` | `host_name` in that file |
//! | Mailman 2 of control panels | `lists/NAME_DOMAIN` | the domain |
//! | Mailman 3 | `lists/NAME.DOMAIN` (the list's id), or `NAME@DOMAIN` | the domain |
//!
//! A dot may belong to the name or to the domain. Where that makes a difference, nobody is accused.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

/// How much of a `config.pck` is read, bytes.
const MOST_CONFIG: u64 = 4 << 20;
/// How many lists are looked at in one directory.
const MOST_LISTS: usize = 100_000;

/// The domains that a list may be of: all that fit.
pub type Domains = Vec<String>;

/// The lists in a directory, each with the domains it may be of. `is_domain` knows those of tenants.
///
/// # Errors
/// The directory cannot be read.
pub fn lists(directory: &Path, is_domain: impl Fn(&str) -> bool) -> io::Result<Vec<Domains>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.take(MOST_LISTS) {
        let entry = entry?;
        // What is a link is no list, or another's.
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let config = entry.path().join("config.pck");
        let is_old = config.is_file();
        if !is_old && !name.contains(['.', '@']) {
            // What Mailman keeps beside its lists.
            continue;
        }
        let mut domains = domains(&name, is_old);
        domains.retain(|domain| is_domain(domain));
        if is_old && domains.is_empty() {
            // One that cannot be read is counted, and is nobody's.
            let host = read(&config).ok().and_then(|bytes| host_name(&bytes));
            domains.extend(host.filter(|host| is_domain(host)));
        }
        found.push(domains);
    }
    Ok(found)
}

/// The domains that may be in the name of a list's directory.
fn domains(name: &str, is_old: bool) -> Domains {
    if let Some((_, domain)) = name.rsplit_once('@') {
        return vec![domain.to_lowercase()];
    }
    if is_old {
        let domain = name.rsplit_once('_').map(|(_, domain)| domain);
        return domain.map(str::to_lowercase).into_iter().collect();
    }
    let dots = name.match_indices('.');
    dots.filter_map(|(at, _)| name.get(at + 1..))
        .map(str::to_lowercase)
        .collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MOST_CONFIG)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `host_name` in a pickled configuration: the string behind the key, with what puts the key into the
/// pickle's memo in between. Nothing is unpickled: that would run what is in there.
fn host_name(pickle: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"U\x09host_name";
    let at = pickle.windows(KEY.len()).position(|it| it == KEY)?;
    let behind = pickle.get(at + KEY.len()..)?;
    let behind = match behind {
        [b'q', _, behind @ ..] | [b'r', _, _, _, _, behind @ ..] => behind,
        behind => behind,
    };
    let [b'U', length, text @ ..] = behind else {
        return None;
    };
    let text = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
    Some(text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_known_by_their_directories() {
        let root = tempfile::tempdir().unwrap();
        let pickle = |host: &str| {
            let mut bytes = b"}q\x01(U\x09real_nameq\x02U\x04newsU\x09host_nameq\x03U".to_vec();
            bytes.push(u8::try_from(host.len()).unwrap());
            bytes.extend(host.as_bytes());
            bytes.extend(b"q\x04u.");
            bytes
        };
        for (name, config) in [
            ("news", Some(pickle("Shop.example"))),
            ("mailman", Some(pickle("node.example"))),
            ("broken", Some(b"U\x09host_nameq\x03U\xff".to_vec())),
            ("a_list_shop.example", Some(Vec::new())),
            ("news.shop.example", None),
            ("news@shop.example", None),
            ("x.shop.b.example", None),
            ("templates", None),
        ] {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(config) = config {
                fs::write(path.join("config.pck"), config).unwrap();
            }
        }
        std::os::unix::fs::symlink(root.path().join("news"), root.path().join("l.shop.example"))
            .unwrap();
        let known = ["shop.example", "b.example", "shop.b.example"];
        let mut found = lists(root.path(), |domain| known.contains(&domain)).unwrap();
        found.sort();
        let shop = || vec!["shop.example".to_owned()];
        let either = vec!["shop.b.example".to_owned(), "b.example".to_owned()];
        assert_eq!(
            found,
            [vec![], vec![], either, shop(), shop(), shop(), shop()]
        );
        assert!(lists(&root.path().join("none"), |_| true).is_err());
    }

    proptest! {
        #[test]
        fn no_pickle_is_too_strange(before in any::<Vec<u8>>(), behind in any::<Vec<u8>>()) {
            let _ = host_name(&before);
            let whole = [before.as_slice(), b"U\x09host_name", behind.as_slice()].concat();
            let _ = host_name(&whole);
        }
    }
}
