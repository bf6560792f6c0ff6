//! Many globs, looked up by name: with thousands of tenants and thousands of interfaces not every
//! glob can be tried on every name.

use std::collections::HashMap;

use crate::policy::glob::Glob;

/// Globs with what they stand for.
pub(super) struct Names<T> {
    /// By what each starts with before its first wildcard.
    by_start: HashMap<String, Vec<Entry<T>>>,
}

struct Entry<T> {
    glob: Glob,
    exact: bool,
    value: T,
}

impl<T: Copy> Names<T> {
    pub(super) fn new() -> Self {
        Self {
            by_start: HashMap::new(),
        }
    }

    /// Adds a glob. False if it is none: the policy has been checked for that.
    pub(super) fn add(&mut self, text: &str, value: T) -> bool {
        let Ok(glob) = Glob::new(text) else {
            return false;
        };
        let literal = glob.literal();
        let exact = literal.is_some();
        let start = literal.unwrap_or_else(|| {
            let end = text.find(['*', '?', '[', '\\']).unwrap_or(text.len());
            text.get(..end).unwrap_or_default().to_owned()
        });
        self.by_start
            .entry(start)
            .or_default()
            .push(Entry { glob, exact, value });
        true
    }

    /// What matches a name, and whether it is its very name.
    pub(super) fn matching(&self, name: &str) -> impl Iterator<Item = (T, bool)> {
        (0..=name.len())
            .filter_map(|end| self.by_start.get(name.get(..end)?))
            .flatten()
            .filter(|entry| entry.glob.matches(name))
            .map(|entry| (entry.value, entry.exact))
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.matching(name).next().is_some()
    }
}
