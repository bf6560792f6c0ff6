//! A list or a map in the making: duplicate keys and merge keys.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    fmt::Write as _,
};

use super::{
    node::{Entry, Mark, Node, Value},
    yaml::YamlFault,
};

/// The merge key.
const MERGE: &str = "<<";

/// A list or a map that is not closed yet.
pub(super) struct Frame<'t> {
    mark: Mark,
    anchor: usize,
    inside: Inside<'t>,
}

enum Inside<'t> {
    List(Vec<Node<'t>>),
    Map {
        entries: Vec<Entry<'t>>,
        key: Option<Key<'t>>,
        /// The `<<`.
        merges: Vec<Entry<'t>>,
    },
}

/// A key that waits for its value.
struct Key<'t> {
    mark: Mark,
    /// `None` for a key that is a list or a map: its value is dropped.
    text: Option<Cow<'t, str>>,
    plain: bool,
}

impl<'t> Frame<'t> {
    /// An empty list.
    pub fn list(mark: Mark, anchor: usize) -> Self {
        Self {
            mark,
            anchor,
            inside: Inside::List(Vec::new()),
        }
    }

    /// An empty map.
    pub fn map(mark: Mark, anchor: usize) -> Self {
        Self {
            mark,
            anchor,
            inside: Inside::Map {
                entries: Vec::new(),
                key: None,
                merges: Vec::new(),
            },
        }
    }

    /// Where the key is that waits for its value.
    pub fn pending_mark(&self) -> Option<Mark> {
        match &self.inside {
            Inside::Map { key: Some(key), .. } => Some(key.mark),
            _ => None,
        }
    }

    /// The next item, key or value. An error is the place of a key that cannot be one.
    pub fn push(&mut self, node: Node<'t>) -> Result<(), Mark> {
        match &mut self.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                key,
                merges,
            } => match key.take() {
                None => {
                    let mark = node.mark;
                    let (text, plain) = match node.value {
                        Value::Text { text, plain } => (Some(text), plain),
                        Value::List(_) | Value::Map(_) => (None, false),
                    };
                    let usable = text.is_some();
                    *key = Some(Key { mark, text, plain });
                    if !usable {
                        return Err(mark);
                    }
                }
                Some(Key { text: None, .. }) => {}
                Some(Key {
                    mark,
                    text: Some(text),
                    plain,
                }) => {
                    let merge = plain && text == MERGE;
                    let entry = Entry {
                        key: text,
                        key_mark: mark,
                        value: node,
                    };
                    if merge { merges } else { entries }.push(entry);
                }
            },
        }
        Ok(())
    }

    /// The finished list or map and its anchor. `above` are the frames it stands in.
    pub fn close(self, above: &[Self], faults: &mut Vec<YamlFault>) -> (Node<'t>, usize) {
        let value = match self.inside {
            Inside::List(items) => Value::List(items),
            Inside::Map {
                entries, merges, ..
            } => {
                let mut entries = unique(entries, above, faults);
                for merge in merges {
                    merge_into(&mut entries, merge.value, above, faults);
                }
                Value::Map(entries)
            }
        };
        let node = Node {
            mark: self.mark,
            value,
        };
        (node, self.anchor)
    }
}

/// `entries` with each key once, the first of them; the others are faults.
fn unique<'t>(
    entries: Vec<Entry<'t>>,
    above: &[Frame<'t>],
    faults: &mut Vec<YamlFault>,
) -> Vec<Entry<'t>> {
    const FEW: usize = 16;
    let repeated = |index: usize| {
        entries[..index]
            .iter()
            .any(|earlier| earlier.key == entries[index].key)
    };
    if entries.len() <= FEW && !(1..entries.len()).any(repeated) {
        return entries;
    }
    let mut first: HashMap<Cow<'t, str>, Mark> = HashMap::with_capacity(entries.len());
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        match first.entry(entry.key.clone()) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry.key_mark);
                kept.push(entry);
            }
            hash_map::Entry::Occupied(earlier) => faults.push(YamlFault::new(
                entry.key_mark,
                format!(
                    "{}: the key is there twice",
                    join(&path_of(above), &entry.key)
                ),
                format!("keep one; the other is on line {}", earlier.get().line),
            )),
        }
    }
    kept
}

/// What `<<` brings: the keys of a map, or of each map of a list, that are not there yet.
fn merge_into<'t>(
    entries: &mut Vec<Entry<'t>>,
    from: Node<'t>,
    above: &[Frame<'t>],
    faults: &mut Vec<YamlFault>,
) {
    let mark = from.mark;
    let maps = match from.value {
        Value::Map(map) => vec![map],
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => items
            .into_iter()
            .filter_map(|item| match item.value {
                Value::Map(map) => Some(map),
                _ => None,
            })
            .collect(),
        _ => {
            faults.push(YamlFault::new(
                mark,
                format!("{}: only maps can be merged", join(&path_of(above), MERGE)),
                "an alias of a map, or a list of such aliases",
            ));
            return;
        }
    };
    let mut there: std::collections::HashSet<Cow<'t, str>> =
        entries.iter().map(|entry| entry.key.clone()).collect();
    for entry in maps.into_iter().flatten() {
        if there.insert(entry.key.clone()) {
            entries.push(entry);
        }
    }
}

/// The path of what is being read inside `frames`: `limits[0].max`.
pub(super) fn path_of(frames: &[Frame<'_>]) -> String {
    let mut path = String::new();
    for frame in frames {
        match &frame.inside {
            Inside::List(items) => {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{}]", items.len());
            }
            Inside::Map { key, .. } => {
                if let Some(text) = key.as_ref().and_then(|key| key.text.as_ref()) {
                    path = join(&path, text);
                }
            }
        }
    }
    if path.is_empty() {
        path.push_str("document");
    }
    path
}

fn join(above: &str, key: &str) -> String {
    let key: String = key.chars().take(40).flat_map(char::escape_debug).collect();
    if above.is_empty() || above == "document" {
        key
    } else {
        format!("{above}.{key}")
    }
}
