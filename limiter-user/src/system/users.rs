//! The users of this machine and their sub-uid ranges.
//!
//! All users come from `/etc/passwd`. Users that a policy names and the file does not know are
//! looked up one by one through the name service (LDAP, systemd's dynamic users); listing those
//! all is not asked for, since that can take minutes.

use std::{collections::HashMap, fs, io, path::Path};

use nix::{errno::Errno, unistd};

use super::{SystemError, Warning};
use crate::policy::model::{Origin, UidRange};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its uid. Two names may share one.
    pub uid: u32,
}

/// The users of this machine and their sub-uid ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// All, in the order of the file.
    users: Vec<User>,
    /// Index into `users`.
    by_name: HashMap<String, usize>,
    /// Index into `users`: the first of those who share a uid.
    by_uid: HashMap<u32, usize>,
    /// The ranges by the uid of their owner.
    sub_uids: HashMap<u32, Vec<UidRange>>,
    /// The ranges of names that no known user has.
    sub_uids_by_name: HashMap<String, Vec<UidRange>>,
}

impl Users {
    /// Reads the users from `passwd` and their ranges from `subuid` (passwd(5), subuid(5)).
    ///
    /// Lines that make no sense are skipped with a warning. Root's ranges are left out: they belong
    /// to nobody, since root gives them to whomever it runs.
    ///
    /// # Errors
    /// When `passwd` cannot be read, or `subuid` exists and cannot be read.
    pub fn read(
        passwd: &Path,
        subuid: &Path,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, SystemError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| SystemError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let mut users = Self::default();
        let text = read(passwd)?;
        for_each_line(passwd, &text, warnings, |line| {
            let user = passwd_line(line)?;
            users.insert(&user.name, user.uid);
            Ok(())
        });
        let text = match read(subuid) {
            Err(SystemError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(users);
            }
            other => other?,
        };
        for_each_line(subuid, &text, warnings, |line| {
            let (owner, range) = subuid_line(line)?;
            if let Some(range) = range {
                users.insert_sub_uids(owner, range);
            }
            Ok(())
        });
        Ok(users)
    }

    /// Adds a user. Of two with the same name the first counts, as for the system itself.
    pub fn insert(&mut self, name: &str, uid: u32) {
        if self.by_name.contains_key(name) {
            return;
        }
        let index = self.users.len();
        self.users.push(User {
            name: name.to_owned(),
            uid,
        });
        self.by_name.insert(name.to_owned(), index);
        self.by_uid.entry(uid).or_insert(index);
        if let Some(ranges) = self.sub_uids_by_name.remove(name) {
            for range in ranges {
                self.add_range(uid, range);
            }
        }
    }

    /// Adds a range of `owner`, a name or a uid.
    pub fn insert_sub_uids(&mut self, owner: &str, range: UidRange) {
        if let Some(uid) = self.uid_of(owner).or_else(|| owner.parse().ok()) {
            self.add_range(uid, range);
        } else {
            self.sub_uids_by_name
                .entry(owner.to_owned())
                .or_default()
                .push(range);
        }
    }

    /// Adds a range of a uid, unless it is root's.
    fn add_range(&mut self, uid: u32, range: UidRange) {
        if uid != 0 {
            self.sub_uids.entry(uid).or_default().push(range);
        }
    }

    /// Looks up those of `names` that are not known yet through the name service. A name service
    /// that fails is a warning at `origin`; the users are then unknown.
    pub fn complete<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        origin: &Path,
        warnings: &mut Vec<Warning>,
    ) {
        let mut unknown = HashMap::new();
        for name in names {
            if self.by_name.contains_key(name) || unknown.contains_key(name) {
                continue;
            }
            match lookup_name(name) {
                Ok(Some(user)) => self.insert(name, user.uid),
                Ok(None) => {
                    unknown.insert(name, ());
                }
                Err(error) => {
                    unknown.insert(name, ());
                    warnings.push(Warning {
                        origin: Origin {
                            file: origin.into(),
                            line: 0,
                            column: 0,
                        },
                        problem: format!("the name service could not say who {name} is: {error}"),
                        advice: "the user counts as unknown; see: getent passwd".to_owned(),
                    });
                }
            }
        }
    }

    /// The uid of a user.
    #[must_use]
    pub fn uid_of(&self, name: &str) -> Option<u32> {
        Some(self.users.get(*self.by_name.get(name)?)?.uid)
    }

    /// The name of a uid, the first in the file where several share it.
    #[must_use]
    pub fn name_of(&self, uid: u32) -> Option<&str> {
        Some(self.users.get(*self.by_uid.get(&uid)?)?.name.as_str())
    }

    /// The sub-uid ranges of a uid, whether the file gives them to its name or to its number.
    #[must_use]
    pub fn sub_uids_of(&self, uid: u32) -> &[UidRange] {
        self.sub_uids.get(&uid).map_or(&[], Vec::as_slice)
    }

    /// All users, in the order of the file; those of the name service behind them.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.iter()
    }
}

/// Why the name service gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("the look-up failed: {0}")]
pub struct LookupError(#[source] Errno);

/// Asks the name service for a user by name.
///
/// # Errors
/// When the name service gives no answer. "There is no such user" is `None`.
pub fn lookup_name(name: &str) -> Result<Option<User>, LookupError> {
    answer(unistd::User::from_name(name))
}

/// Asks the name service for a user by uid.
///
/// # Errors
/// When the name service gives no answer. "There is no such user" is `None`.
pub fn lookup_uid(uid: u32) -> Result<Option<User>, LookupError> {
    answer(unistd::User::from_uid(unistd::Uid::from_raw(uid)))
}

/// The many ways in which getpwnam_r(3) says that there is no such user are one here.
fn answer(found: nix::Result<Option<unistd::User>>) -> Result<Option<User>, LookupError> {
    match found {
        Ok(user) => Ok(user.map(|user| User {
            name: user.name,
            uid: user.uid.as_raw(),
        })),
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        Err(error) => Err(LookupError(error)),
    }
}

/// Gives every line that says something to `take`, and warns of those that it refuses.
fn for_each_line(
    path: &Path,
    text: &[u8],
    warnings: &mut Vec<Warning>,
    mut take: impl FnMut(&str) -> Result<(), String>,
) {
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        // Blank lines, comments, and the `+` and `-` by which NIS is asked.
        if matches!(line.first(), None | Some(b'#' | b'+' | b'-')) {
            continue;
        }
        let taken = std::str::from_utf8(line)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(&mut take);
        if let Err(problem) = taken {
            warnings.push(Warning {
                origin: Origin {
                    file: path.into(),
                    line: index + 1,
                    column: 1,
                },
                problem: format!("the line makes no sense: {problem}"),
                advice: "it has been skipped; correct it".to_owned(),
            });
        }
    }
}

/// `name:password:uid:gid:comment:home:shell`
fn passwd_line(line: &str) -> Result<User, String> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, _, ..] = fields.as_slice() else {
        return Err(format!("{} fields where seven are usual", fields.len()));
    };
    if name.is_empty() {
        return Err("no name".to_owned());
    }
    // The highest number stands for "no uid" in every system call.
    match uid.parse() {
        Ok(u32::MAX) | Err(_) => Err(format!("{uid:?} is no uid")),
        Ok(uid) => Ok(User {
            name: (*name).to_owned(),
            uid,
        }),
    }
}

/// `owner:first:count`. An empty range is legal and means nothing.
fn subuid_line(line: &str) -> Result<(&str, Option<UidRange>), String> {
    let fields: Vec<&str> = line.split(':').collect();
    let &[owner, first, count] = fields.as_slice() else {
        return Err(format!("{} fields where three are expected", fields.len()));
    };
    if owner.is_empty() {
        return Err("no owner".to_owned());
    }
    let first: u32 = first.parse().map_err(|_| format!("{first:?} is no uid"))?;
    let count: u32 = count
        .trim_end()
        .parse()
        .map_err(|_| format!("{count:?} is not a count of uids"))?;
    let Some(beyond) = count.checked_sub(1) else {
        return Ok((owner, None));
    };
    if first == 0 {
        return Err("a range that begins with 0 would give root away".to_owned());
    }
    match first.checked_add(beyond) {
        None | Some(u32::MAX) => Err(format!("{count} uids from {first} on are too many")),
        Some(last) => Ok((owner, Some(UidRange { first, last }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(passwd: &[u8], subuid: &[u8]) -> (Users, Vec<Warning>) {
        let directory = tempfile::tempdir().unwrap();
        let paths = [
            directory.path().join("passwd"),
            directory.path().join("subuid"),
        ];
        fs::write(&paths[0], passwd).unwrap();
        fs::write(&paths[1], subuid).unwrap();
        let mut warnings = Vec::new();
        let users = Users::read(&paths[0], &paths[1], &mut warnings).unwrap();
        (users, warnings)
    }

    const fn range(first: u32, last: u32) -> UidRange {
        UidRange { first, last }
    }

    #[test]
    fn users_and_ranges() {
        let (users, warnings) = read(
            b"root:x:0:0:root:/root:/bin/sh\nalice:x:2001:2001::/home/alice:/bin/sh\nbob:x:2002:2002:::\n",
            b"root:1000000:65536\nalice:100000:65536\n2001:300000:10\n2002:400000:1\n0:900000:5\ncarol:500000:5\n",
        );
        assert_eq!(warnings, []);
        assert_eq!(users.uid_of("alice"), Some(2001));
        assert_eq!(users.name_of(2002), Some("bob"));
        assert_eq!(users.uid_of("carol"), None);
        assert_eq!(users.name_of(9), None);
        assert_eq!(
            users.sub_uids_of(2001),
            [range(100_000, 165_535), range(300_000, 300_009)]
        );
        assert_eq!(users.sub_uids_of(2002), [range(400_000, 400_000)]);
        assert_eq!(users.sub_uids_of(0), [], "root's ranges belong to nobody");
    }

    #[test]
    fn a_user_found_later_gets_the_ranges_of_its_name() {
        let (mut users, _) = read(b"", b"carol:500000:5\n");
        users.insert("carol", 7000);
        assert_eq!(users.sub_uids_of(7000), [range(500_000, 500_004)]);
    }

    #[test]
    fn senseless_lines_are_skipped_with_a_warning() {
        let (users, warnings) = read(
            b"# comment\n\n+::::::\nshort:x:1\nnouid:x:abc:1:::\n:x:5:5:::\nminus:x:4294967295:1:::\nbad\xff:x:7:7:::\nalice:x:2001:1:::\n",
            b"alice:1:2:3\nalice:x:5\nalice:5:x\nalice:4294967290:100\nalice:0:10\nalice:100000:0\n:5:5\nalice:100000:5\n",
        );
        let lines: Vec<usize> = warnings.iter().map(|warning| warning.origin.line).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7], "{warnings:#?}");
        assert_eq!(users.iter().count(), 1);
        assert_eq!(users.sub_uids_of(2001), [range(100_000, 100_004)]);
    }

    #[test]
    fn the_first_of_equal_names_counts() {
        let (users, _) = read(b"alice:x:1:1:::\nalice:x:2:2:::\nalias:x:1:1:::\n", b"");
        assert_eq!(users.uid_of("alice"), Some(1));
        assert_eq!(users.uid_of("alias"), Some(1));
        assert_eq!(users.name_of(1), Some("alice"));
        assert_eq!(users.name_of(2), None);
    }

    #[test]
    fn no_passwd_is_an_error_and_no_subuid_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let passwd = directory.path().join("passwd");
        let subuid = directory.path().join("subuid");
        let error = Users::read(&passwd, &subuid, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("passwd"), "{error}");
        fs::write(&passwd, "alice:x:1:1:::\n").unwrap();
        let users = Users::read(&passwd, &subuid, &mut Vec::new()).unwrap();
        assert_eq!(users.uid_of("alice"), Some(1));
    }

    #[test]
    fn the_name_service_is_asked_for_what_the_file_does_not_know() {
        let mut users = Users::default();
        let mut warnings = Vec::new();
        let names = ["root", "no-such-user-here", "no-such-user-here"];
        users.complete(names.into_iter(), Path::new("limiter.yaml"), &mut warnings);
        assert_eq!(users.uid_of("root"), Some(0));
        assert_eq!(users.uid_of("no-such-user-here"), None);
        assert_eq!(warnings, []);
        assert_eq!(lookup_uid(0).unwrap().unwrap().name, "root");
        assert_eq!(lookup_name("no-such-user-here").unwrap(), None);
    }
}
