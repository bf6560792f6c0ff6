//! The tree of a YAML document: every key and value with the place where it is written.

use std::borrow::Cow;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// The line; 0 where only the file is known.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    /// Where it starts.
    pub mark: Mark,
    /// What it is.
    pub value: Value<'t>,
}

/// What is written.
#[derive(Clone, Debug)]
pub(super) enum Value<'t> {
    /// Text, numbers and null: what they mean is for the one who asked.
    Text {
        /// As written, escapes resolved.
        text: Cow<'t, str>,
        /// Not in quotes, not a block.
        plain: bool,
    },
    /// A list.
    List(Vec<Node<'t>>),
    /// A map, in the order of the file, each key once.
    Map(Vec<Entry<'t>>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    /// The key.
    pub key: Cow<'t, str>,
    /// Where the key is written.
    pub key_mark: Mark,
    /// The value.
    pub value: Node<'t>,
}

impl<'t> Node<'t> {
    /// The null at `mark`.
    pub fn null(mark: Mark) -> Self {
        Self {
            mark,
            value: Value::Text {
                text: Cow::Borrowed(""),
                plain: true,
            },
        }
    }

    /// Whether it is null: nothing, `~` or `null`, not in quotes.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Text { text, plain: true } => {
                matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// How many values it holds, itself included, and how deep they are nested. The parser bounds
    /// the nesting, and so the recursion.
    pub fn extent(&self) -> (usize, usize) {
        let (mut size, mut depth) = (1_usize, 0);
        let mut add = |(inner_size, inner_depth): (usize, usize)| {
            size = size.saturating_add(inner_size);
            depth = depth.max(inner_depth);
        };
        match &self.value {
            Value::Text { .. } => {}
            Value::List(items) => items.iter().for_each(|item| add(item.extent())),
            Value::Map(entries) => entries.iter().for_each(|entry| add(entry.value.extent())),
        }
        (size, depth + 1)
    }
}
