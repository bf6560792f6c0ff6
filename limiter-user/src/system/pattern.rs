//! Patterns of cgroup paths, many at once: `/user.slice/user-*.slice`.
//!
//! All patterns stand in one tree by component, so that walking the cgroups visits each directory
//! once however many tenants there are, and only those that lead to a match.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use glob::Pattern;

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not start at the root.
    #[error("a cgroup path starts with / (the root of the cgroup v2 mount)")]
    Relative,
    /// It is the root itself.
    #[error("the root cgroup holds everybody and belongs to nobody")]
    Root,
    /// An empty component, `.` or `..`.
    #[error("empty components, . and .. are not allowed in a cgroup path")]
    Component,
    /// A component that is no glob.
    #[error("{component:?} is no glob: {reason}")]
    Glob {
        /// The component.
        component: String,
        /// Why.
        reason: &'static str,
    },
}

/// A pattern taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPattern<'a> {
    /// Its components, at least one.
    components: Vec<Component<'a>>,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Component<'a> {
    Literal(&'a str),
    Glob(Pattern),
}

impl<'a> CgroupPattern<'a> {
    /// Takes `text` apart. A `/` at the end is allowed.
    ///
    /// # Errors
    /// When it is no pattern of cgroup paths.
    pub fn parse(text: &'a str) -> Result<Self, PatternError> {
        let below = text.strip_prefix('/').ok_or(PatternError::Relative)?;
        if below.is_empty() {
            return Err(PatternError::Root);
        }
        let components = below
            .strip_suffix('/')
            .unwrap_or(below)
            .split('/')
            .map(Component::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { components })
    }

    /// How deep the cgroups are that it matches: 1 for a child of the root.
    #[must_use]
    pub fn depth(&self) -> u32 {
        u32::try_from(self.components.len()).unwrap_or(u32::MAX)
    }

    /// Whether it names one cgroup, without any glob.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.components
            .iter()
            .all(|component| matches!(component, Component::Literal(_)))
    }
}

impl<'a> Component<'a> {
    fn parse(text: &'a str) -> Result<Self, PatternError> {
        match text {
            "" | "." | ".." => Err(PatternError::Component),
            // Backslashes are part of systemd's names (`machine-a\x2db.scope`) and quote nothing.
            _ if !text.contains(['*', '?', '[']) => Ok(Self::Literal(text)),
            _ => Pattern::new(text)
                .map(Self::Glob)
                .map_err(|error| PatternError::Glob {
                    component: text.to_owned(),
                    reason: error.msg,
                }),
        }
    }
}

/// Where one is in the tree of patterns; [`Place::ROOT`] is the root of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(usize);

impl Place {
    /// Above the first component.
    pub(super) const ROOT: Self = Self(0);
}

/// Many patterns in one tree.
#[derive(Clone, Debug)]
pub(super) struct PatternSet {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<String, Place>,
    globs: Vec<(Pattern, Place)>,
    /// The patterns that end here, as they are written.
    ends: Vec<String>,
}

/// Below this many literal names each is looked for by itself; above, the directory is listed.
const FEW: usize = 16;

/// What the walk tells of a directory: its path, and where it is in the tree of patterns.
pub(super) type OnDirectory<'a> = dyn FnMut(&Path, &[Place]) -> io::Result<()> + 'a;

impl PatternSet {
    /// The tree of `patterns`. Those that cannot be parsed match nothing: whoever compiles the
    /// policy reports them.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let mut set = Self {
            nodes: vec![Node::default()],
        };
        for text in patterns {
            if let Ok(pattern) = CgroupPattern::parse(text) {
                set.insert(text, pattern);
            }
        }
        set
    }

    fn insert(&mut self, text: &str, pattern: CgroupPattern<'_>) {
        let mut at = Place::ROOT;
        for component in pattern.components {
            let next = Place(self.nodes.len());
            let node = &mut self.nodes[at.0];
            at = match component {
                Component::Literal(name) => match node.literals.get(name) {
                    Some(known) => *known,
                    None => {
                        node.literals.insert(name.to_owned(), next);
                        next
                    }
                },
                Component::Glob(glob) => {
                    match node.globs.iter().find(|(known, _)| *known == glob) {
                        Some((_, known)) => *known,
                        None => {
                            node.globs.push((glob, next));
                            next
                        }
                    }
                }
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        let ends = &mut self.nodes[at.0].ends;
        if !ends.iter().any(|known| known == text) {
            ends.push(text.to_owned());
        }
    }

    /// The patterns that match a directory at `places`, as they are written.
    pub(super) fn ends(&self, places: &[Place]) -> impl Iterator<Item = &str> {
        places
            .iter()
            .flat_map(|place| &self.nodes[place.0].ends)
            .map(String::as_str)
    }

    /// Whether anything below a directory at `places` can match.
    pub(super) fn goes_on(&self, places: &[Place]) -> bool {
        places.iter().any(|place| {
            let node = &self.nodes[place.0];
            !node.literals.is_empty() || !node.globs.is_empty()
        })
    }

    /// Where the child `name` of a directory at `places` is; empty if nothing there can match.
    pub(super) fn child(&self, places: &[Place], name: &str) -> Vec<Place> {
        let mut children = Vec::new();
        for place in places {
            let node = &self.nodes[place.0];
            children.extend(node.literals.get(name));
            let globs = node.globs.iter().filter(|(glob, _)| glob.matches(name));
            children.extend(globs.map(|(_, child)| child));
        }
        children
    }

    /// Tells `on_directory` of `directory`, which is at `places`, and of every directory below it
    /// that matches or leads to a match. Each is told before it is listed, so that a watch can be
    /// in place by then. Directories that vanish meanwhile are passed over.
    ///
    /// # Errors
    /// What `on_directory` says, or the system about a directory that cannot be listed.
    pub(super) fn walk(
        &self,
        directory: &Path,
        places: &[Place],
        on_directory: &mut OnDirectory<'_>,
    ) -> io::Result<()> {
        on_directory(directory, places)?;
        for (path, places) in self.children(directory, places)? {
            self.walk(&path, &places, on_directory)?;
        }
        Ok(())
    }

    /// The children of a directory that match or lead to a match.
    fn children(
        &self,
        directory: &Path,
        places: &[Place],
    ) -> io::Result<Vec<(PathBuf, Vec<Place>)>> {
        let nodes = || places.iter().map(|place| &self.nodes[place.0]);
        let literals: usize = nodes().map(|node| node.literals.len()).sum();
        let mut children = Vec::new();
        if nodes().all(|node| node.globs.is_empty()) && literals <= FEW {
            let mut names: Vec<&String> = nodes().flat_map(|node| node.literals.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = directory.join(name);
                if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                    children.push((path, self.child(places, name)));
                }
            }
            return Ok(children);
        }
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if vanished(&error) => return Ok(children),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if vanished(&error) => break,
                Err(error) => return Err(error),
            };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let places = self.child(places, &entry.file_name().to_string_lossy());
            if !places.is_empty() {
                children.push((entry.path(), places));
            }
        }
        Ok(children)
    }
}

/// Whether a directory is gone: removed cgroups answer ENODEV as well as ENOENT.
pub(super) fn vanished(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        let exact = CgroupPattern::parse(r"/machine.slice/machine-a\x2db.scope/").unwrap();
        assert!(exact.is_exact());
        assert_eq!(exact.depth(), 2);
        for glob in ["/a/*", "/a?", "/x[ab]/y"] {
            assert!(!CgroupPattern::parse(glob).unwrap().is_exact(), "{glob}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let error = |text| CgroupPattern::parse(text).unwrap_err();
        assert_eq!(error("a/b"), PatternError::Relative);
        assert_eq!(error(""), PatternError::Relative);
        assert_eq!(error("/"), PatternError::Root);
        for text in ["//", "/a//b", "/./a", "/a/..", "/a//"] {
            assert_eq!(error(text), PatternError::Component, "{text}");
        }
        assert!(matches!(error("/a/[b"), PatternError::Glob { .. }));
    }

    /// Which directories a walk comes to, and with which patterns.
    fn walked(directories: &[&str], patterns: &[&str]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(root.path().join("file"), "").unwrap();
        let set = PatternSet::new(patterns.iter().copied());
        let mut seen = Vec::new();
        set.walk(root.path(), &[Place::ROOT], &mut |path, places| {
            let below = path.strip_prefix(root.path()).unwrap().display();
            let ends: Vec<&str> = set.ends(places).collect();
            seen.push(format!("/{below} {}", ends.join(" ")).trim_end().to_owned());
            Ok(())
        })
        .unwrap();
        seen.sort();
        seen
    }

    #[test]
    fn only_directories_that_can_match_are_walked() {
        let directories = ["a/1/x", "a/2/y", "ab/1/x", "b/1/x", "c/c/c"];
        assert_eq!(
            walked(&directories, &["/a*/1", "/b", "/nothing/here"]),
            ["/", "/a", "/a/1 /a*/1", "/ab", "/ab/1 /a*/1", "/b /b"]
        );
        assert_eq!(
            walked(&directories, &["/a/*/x", "/a/1/*", "/file", "/[bc]"]),
            [
                "/",
                "/a",
                "/a/1",
                "/a/1/x /a/*/x /a/1/*",
                "/a/2",
                "/b /[bc]",
                "/c /[bc]"
            ]
        );
        assert_eq!(walked(&directories, &[]), ["/"]);
    }

    #[test]
    fn many_literals_are_found_by_listing() {
        let names: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
        let directories: Vec<&str> = names.iter().map(String::as_str).collect();
        let patterns: Vec<String> = (50..150).map(|number| format!("/t{number}")).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        assert_eq!(walked(&directories, &patterns).len(), 1 + 50);
    }
}
