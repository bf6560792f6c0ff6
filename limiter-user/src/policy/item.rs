//! A node on its way to a meaning: it knows its key path, and reports what is wrong with it.

use std::{borrow::Cow, fmt};

use super::{
    findings::Findings,
    model::Located,
    node::{Entry, Mark, Node, Value},
};

/// How far away a known key may be for `did you mean`.
const CLOSE: usize = 2;
/// How much of a value a message shows, in characters.
const SHOWN: usize = 60;

/// Why a text was refused: what it is, and what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Follows the value: `is not a count`.
    pub what: Cow<'static, str>,
    /// What is allowed.
    pub allowed: Cow<'static, str>,
}

/// What reading a text gives.
pub(super) type Parsed<T> = Result<T, Refusal>;

/// Refuses a text.
pub(super) fn refuse<T>(
    what: impl Into<Cow<'static, str>>,
    allowed: impl Into<Cow<'static, str>>,
) -> Parsed<T> {
    Err(Refusal {
        what: what.into(),
        allowed: allowed.into(),
    })
}

/// A text, and whether it stands in quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar<'a> {
    /// The text.
    pub text: &'a str,
    /// Not in quotes.
    pub plain: bool,
}

/// The way from the top of the document to a value: `limits[0].max`.
#[derive(Clone, Copy, Debug)]
struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            above.fmt(f)?;
        }
        let first = self
            .above
            .is_none_or(|above| matches!(above.step, Step::Top));
        match self.step {
            Step::Top => Ok(()),
            Step::Key(key) if first => write!(f, "{}", shown(key)),
            Step::Key(key) => write!(f, ".{}", shown(key)),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value and the path to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    node: &'a Node<'a>,
    path: Path<'a>,
}

impl<'a> Item<'a> {
    /// A whole document.
    pub fn document(node: &'a Node<'a>) -> Self {
        Self {
            node,
            path: Path {
                above: None,
                step: Step::Top,
            },
        }
    }

    /// Where it is written.
    pub fn mark(&self) -> Mark {
        self.node.mark
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether it is null, or a list or map of nothing.
    pub fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Text { .. } => self.is_null(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// Reports that the value `what`.
    pub fn refuse(&self, out: &mut Findings, what: &str, allowed: impl Into<String>) {
        let problem = self.problem(what);
        out.error(self.mark(), problem, allowed);
    }

    /// The value is legal and has no effect, or not the one expected.
    pub fn warn(&self, out: &mut Findings, what: &str, allowed: impl Into<String>) {
        let problem = self.problem(what);
        out.warning(self.mark(), problem, allowed);
    }

    /// `path: value what`.
    pub fn problem(&self, what: &str) -> String {
        let value = match &self.node.value {
            Value::Text { text, plain } if *plain => {
                if text.is_empty() {
                    "null".into()
                } else {
                    shown(text)
                }
            }
            Value::Text { text, .. } => format!("{:?}", cut(text)).into(),
            Value::List(items) => format!("a list of {}", items.len()).into(),
            Value::Map(_) => "a map".into(),
        };
        if matches!(self.path.step, Step::Top) {
            format!("the document: {value} {what}")
        } else {
            format!("{}: {value} {what}", self.path)
        }
    }

    /// Reads a text; a null, a list, a map and what `parse` refuses are reported.
    pub fn parse<T>(
        &self,
        out: &mut Findings,
        allowed: &str,
        parse: impl FnOnce(Scalar<'a>) -> Parsed<T>,
    ) -> Option<T> {
        let Value::Text { text, plain } = &self.node.value else {
            self.refuse(out, "is not a single value", allowed);
            return None;
        };
        if self.is_null() {
            self.refuse(out, "is no value", allowed);
            return None;
        }
        match parse(Scalar {
            text,
            plain: *plain,
        }) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(out, &refusal.what, refusal.allowed);
                None
            }
        }
    }

    /// As [`parse`](Self::parse), keeping the place.
    pub fn located<T>(
        &self,
        out: &mut Findings,
        allowed: &str,
        parse: impl FnOnce(Scalar<'a>) -> Parsed<T>,
    ) -> Option<Located<T>> {
        let value = self.parse(out, allowed, parse)?;
        Some(Located {
            value,
            origin: out.origin(self.mark()),
        })
    }

    /// The items of a list; null is the empty list.
    pub fn list<'s>(
        &'s self,
        out: &mut Findings,
        allowed: &str,
    ) -> impl Iterator<Item = Item<'s>> + use<'s, 'a> {
        let items: &'s [Node<'a>] = match &self.node.value {
            Value::List(items) => items,
            _ if self.is_null() => &[],
            _ => {
                self.refuse(out, "is not a list", allowed);
                &[]
            }
        };
        items.iter().enumerate().map(|(index, node)| Item {
            node,
            path: Path {
                above: Some(&self.path),
                step: Step::Index(index),
            },
        })
    }

    /// The keys of a map, all of them among `known`; null is the empty map. `None`: not a map.
    pub fn fields<'s>(&'s self, out: &mut Findings, known: &[&str]) -> Option<Fields<'s>> {
        let fields = self.entries(out, &format!("a map with the keys {}", known.join(", ")))?;
        for Entry { key, key_mark, .. } in fields.entries {
            if known.contains(&key.as_ref()) {
                continue;
            }
            let path = Path {
                above: Some(&self.path),
                step: Step::Key(key),
            };
            let near = nearest(key, known.iter().copied());
            let allowed = match near {
                Some(near) => {
                    format!(
                        "did you mean `{near}`? The keys here are {}",
                        known.join(", ")
                    )
                }
                None => format!("the keys here are {}", known.join(", ")),
            };
            out.error(*key_mark, format!("{path}: unknown key"), allowed);
        }
        Some(fields)
    }

    /// The entries of a map whose keys are names; null is the empty map. `None`: not a map.
    pub fn entries<'s>(&'s self, out: &mut Findings, allowed: &str) -> Option<Fields<'s>> {
        let entries: &'s [Entry<'a>] = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.is_null() => &[],
            _ => {
                self.refuse(out, "is not a map", allowed);
                return None;
            }
        };
        Some(Fields {
            entries,
            mark: self.mark(),
            path: &self.path,
        })
    }
}

/// The keys of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    entries: &'a [Entry<'a>],
    mark: Mark,
    path: &'a Path<'a>,
}

impl<'a> Fields<'a> {
    /// A map without keys.
    pub const NONE: Fields<'static> = Fields {
        entries: &[],
        mark: Mark { line: 0, column: 0 },
        path: &Path {
            above: None,
            step: Step::Top,
        },
    };

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.item(entry))
    }

    /// The value of `key`, if it is there and not null.
    pub fn set(&self, key: &str) -> Option<Item<'a>> {
        self.get(key).filter(|item| !item.is_null())
    }

    /// The value of `key`; that it is missing is reported.
    pub fn require(&self, out: &mut Findings, key: &str, allowed: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            let problem = if matches!(self.path.step, Step::Top) {
                format!("{key}: is missing")
            } else {
                format!("{}.{key}: is missing", self.path)
            };
            out.error(self.mark, problem, allowed);
        }
        item
    }

    /// All keys, their places and their values.
    pub fn each(&self) -> impl Iterator<Item = (&'a str, Mark, Item<'a>)> + use<'a> {
        let this = *self;
        self.entries
            .iter()
            .map(move |entry| (entry.key.as_ref(), entry.key_mark, this.item(entry)))
    }

    fn item(&self, entry: &'a Entry<'a>) -> Item<'a> {
        Item {
            node: &entry.value,
            path: Path {
                above: Some(self.path),
                step: Step::Key(&entry.key),
            },
        }
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > SHOWN {
        return None;
    }
    known
        .map(|key| (strsim::osa_distance(word, key), key))
        .filter(|(distance, key)| *distance <= CLOSE && *distance < key.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// `text` as a message shows it: as it is where that is unmistakable, else in quotes.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let clear = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if !text.is_empty() && text.len() <= SHOWN && text.chars().all(clear) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{:?}", cut(text)))
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
